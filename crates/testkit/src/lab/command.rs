//! One-shot programs the lab runs on the machine: their output, or an error that shows what they said.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// No one-shot program of the lab takes this long; one that does hangs, and a test must not hang with it.
const LIMIT: Duration = Duration::from_secs(60);

/// Folders that hold system programs but are missing from the `PATH` of some shells.
const SYSTEM_FOLDERS: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec/docker", "/usr/lib/docker"];

/// Where the program is, if this machine has it.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The full path of a program the lab cannot do without.
pub(super) fn require(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed; run deploy/lab/install-tools.sh"))
}

/// Runs to the end and returns standard output, trimmed.
pub(super) async fn run<A: AsRef<OsStr>>(
    program: impl AsRef<Path>,
    args: impl IntoIterator<Item = A>,
) -> Result<String> {
    let mut command = Command::new(program.as_ref());
    command.args(args);
    text(command).await
}

/// Runs to the end and returns standard output, trimmed; a failure shows the command line and standard error.
pub(super) async fn text(command: Command) -> Result<String> {
    let line = printable(&command);
    let output = output(command).await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs to the end, whatever the exit code.
pub(super) async fn output(mut command: Command) -> Result<Output> {
    let line = printable(&command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(output) => output.with_context(|| format!("cannot run `{line}`")),
        Err(_) => bail!("`{line}` did not end within {LIMIT:?}"),
    }
}

/// The blocking twin of [`run`], for clean-up where no runtime may be left.
pub(super) fn run_blocking<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = std::process::Command::new(require(program)?);
    let output = command.args(args).stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn printable(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
