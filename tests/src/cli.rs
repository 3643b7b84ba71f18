//! The built `plimsoll` binary, run as a person runs it.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// No command of the tests takes this long; one that does hangs, and must not hang the suite.
const LIMIT: Duration = Duration::from_secs(240);

/// A command line that is bound to one cluster.
#[derive(Clone, Debug)]
pub struct Cli {
    url: String,
    key: String,
    home: PathBuf,
}

/// The binary that this build made, next to the running test or demonstration.
///
/// # Errors
/// When it is not there, or is older than what it is made of: says how to build it.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("plimsoll")).find(|path| path.is_file());
    let binary = found.context("the plimsoll binary is not built; run `cargo build -p plimsoll`")?;
    not_stale(&binary)?;
    Ok(binary)
}

/// Building the tests does not build the binary, and what is tested should be what was written. Cargo lists its sources beside it.
fn not_stale(binary: &Path) -> Result<()> {
    let list = std::fs::read_to_string(binary.with_extension("d")).context("the list of the binary's sources")?;
    let built = std::fs::metadata(binary)?.modified()?;
    let sources = list.split_once(':').map_or("", |(_, sources)| sources).replace("\\ ", "\0");
    for source in sources.split_whitespace().map(|source| source.replace('\0', " ")) {
        let changed = std::fs::metadata(&source).and_then(|source| source.modified()).is_ok_and(|at| at > built);
        ensure!(!changed, "{} is older than {source}; run `cargo build -p plimsoll`", binary.display());
    }
    Ok(())
}

impl Cli {
    /// Talks to these nodes with this key; `home` stands for the user's home folder.
    #[must_use]
    pub fn new(urls: &[String], key: &str, home: &Path) -> Self {
        Self { url: urls.join(","), key: key.to_owned(), home: home.to_path_buf() }
    }

    /// The same, with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The same, talking to one node only.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Where it talks to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key it uses.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command.env("PLIMSOLL_URL", &self.url).env("PLIMSOLL_KEY", &self.key).env("HOME", &self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Ok(command)
    }

    /// Runs to the end, whatever the exit code.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn output(&self, args: &[&str]) -> Result<Output> {
        let output = self.command(args)?.output();
        match tokio::time::timeout(LIMIT, output).await {
            Ok(output) => output.with_context(|| format!("cannot run plimsoll {}", args.join(" "))),
            Err(_) => bail!("`plimsoll {}` did not end within {LIMIT:?}", args.join(" ")),
        }
    }

    /// Runs at a terminal (`script` makes one) where this is typed, whatever the exit code; everything shown is in `stdout`.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn output_at_terminal(&self, args: &[&str], typed: &[u8]) -> Result<Output> {
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{}'", arg.replace('\'', "'\\''"))).collect();
        let line = format!("'{}' {}", binary()?.display(), quoted.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env_clear();
        command.env("PLIMSOLL_URL", &self.url).env("PLIMSOLL_KEY", &self.key).env("HOME", &self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm").kill_on_drop(true);
        Self::fed(command, typed).await
    }

    /// Runs with this on standard input, whatever the exit code.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn output_with_input(&self, args: &[&str], input: &[u8]) -> Result<Output> {
        Self::fed(self.command(args)?, input).await
    }

    /// Starts it with an open standard input; [`Open::finish`] closes that.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open(&self, args: &[&str]) -> Result<Open> {
        let mut command = self.command(args)?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Ok(Open { child })
    }

    async fn fed(mut command: Command, input: &[u8]) -> Result<Output> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        let input = input.to_vec();
        let feed = tokio::spawn(async move {
            let _ = stdin.write_all(&input).await;
        });
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("it did not end")??;
        feed.await?;
        Ok(output)
    }

    /// Runs and expects success; its standard output, trimmed.
    ///
    /// # Errors
    /// When it fails: shows what it said.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`plimsoll {}` ended with {}: {}", args.join(" "), output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs with `--output json` and reads the answer.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[&["--output", "json"], args].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("`plimsoll {}` printed no JSON: {text}", args.join(" ")))
    }

    /// Runs and expects it to fail with this exit code; its standard error.
    ///
    /// # Errors
    /// When it succeeds or exits otherwise.
    pub async fn fails(&self, code: i32, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(
            output.status.code() == Some(code),
            "`plimsoll {}` ended with {} instead of {code}: {said}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(said)
    }
}

/// A command line that waits for more input.
#[derive(Debug)]
pub struct Open {
    child: tokio::process::Child,
}

impl Open {
    /// Gives it some input.
    ///
    /// # Errors
    /// When it takes none any more.
    pub async fn feed(&mut self, input: &[u8]) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(input).await.context("it takes no input")?;
        stdin.flush().await.context("it takes no input")
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn finish(mut self) -> Result<Output> {
        drop(self.child.stdin.take());
        tokio::time::timeout(LIMIT, self.child.wait_with_output()).await.context("it did not end")?.map_err(Into::into)
    }
}
