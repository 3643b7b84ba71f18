//! SSH keys of the lab: ed25519 only, made with the system's `ssh-keygen`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::command::run;

/// The public half of a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// As in `known_hosts`, without a comment: `ssh-ed25519 AAAA…`.
    pub public: String,
    /// As `ssh-keygen -l` shows it: `SHA256:…`.
    pub fingerprint: String,
}

/// Makes a key pair at `path` and `path.pub`, replacing an older one, and returns the public line.
///
/// # Errors
///
/// If `ssh-keygen` fails.
pub async fn generate_key(path: &Path) -> Result<String> {
    let file = path.to_str().context("the path of a key must be text")?;
    for old in [path.to_owned(), public_path(path)] {
        if old.exists() {
            fs::remove_file(&old).with_context(|| format!("cannot replace {}", old.display()))?;
        }
    }
    run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "plimsoll-lab", "-f", file]).await?;
    let public = public_path(path);
    fs::read_to_string(&public).with_context(|| format!("cannot read {}", public.display()))
}

/// Makes a host key at `path`.
pub(super) async fn generate_host_key(path: &Path) -> Result<HostKey> {
    let line = generate_key(path).await?;
    let listed = run("ssh-keygen", ["-l".as_ref(), "-f".as_ref(), public_path(path).as_os_str()]).await?;
    let fingerprint = listed.split_whitespace().nth(1).context("ssh-keygen shows no fingerprint")?.to_owned();
    let public = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(HostKey { public, fingerprint })
}

fn public_path(path: &Path) -> PathBuf {
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    public.into()
}
