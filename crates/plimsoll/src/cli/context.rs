//! Which API the CLI talks to, and with which key: flags, then the environment, then what `plimsoll dev` or `init` left.

use super::args::Cli;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is kept for later calls on this machine.
#[derive(Clone, Serialize, Deserialize)]
pub struct Saved {
    /// The API.
    pub url: String,
    /// The key.
    pub key: String,
}

/// Never shows the key.
impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Where the API is and which key opens it.
///
/// # Errors
/// When a named key file cannot be read, or no key is found at all: says where one can be put.
pub fn find(cli: &Cli) -> Result<Saved> {
    let saved = saved_file().filter(|path| path.exists()).map(|path| load(&path)).transpose()?;
    let url = cli.url.clone().or_else(|| saved.as_ref().map(|saved| saved.url.clone()));
    let url = url.unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let key = match (&cli.key_file, std::env::var("PLIMSOLL_KEY")) {
        (Some(path), _) => read_key(path)?,
        (None, Ok(key)) if !key.is_empty() => key,
        _ => saved.map(|saved| saved.key).context(
            "no API key: set PLIMSOLL_KEY, or pass --key-file; `plimsoll dev` and `plimsoll init` save one for this user",
        )?,
    };
    Ok(Saved { url, key })
}

fn read_key(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn load(path: &Path) -> Result<Saved> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is damaged; remove it and set PLIMSOLL_KEY", path.display()))
}

/// Keeps an API and its key for this user's later calls, readable by nobody else.
///
/// # Errors
/// When the file cannot be written.
pub fn save(saved: &Saved) -> Result<PathBuf> {
    let path = saved_file().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_private(&path, &toml::to_string(saved)?)?;
    Ok(path)
}

/// Writes a file that only its owner can read, all or nothing; it is on disk when this returns.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let temporary = beside(path);
    let _ = std::fs::remove_file(&temporary);
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let mut file = open.with_context(|| format!("cannot write {}", temporary.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Where [`write_private`] writes before a file takes its place.
pub fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Puts the names in a folder on disk.
///
/// # Errors
/// When the system refuses.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync {}", folder.display()))
}

/// Where an API and its key are kept for this user.
pub fn saved_file() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(config.join("plimsoll").join("cli.toml"))
}
