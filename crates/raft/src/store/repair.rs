//! Opening sled when it does not want to open: what is harmless is put right, the rest is a lost node, never a crash loop.

use super::kv::SledKv;
use crate::error::{Error, Result};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// How long to wait for another holder of the folder: a process that is just ending, or sled's own last threads.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Opens sled in a folder. Blocks for up to two seconds while another process holds it.
pub(crate) fn open_sled(dir: &Path) -> Result<SledKv> {
    let start = Instant::now();
    loop {
        match try_open(dir) {
            Err(Error::InUse(_)) if start.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            result => return result,
        }
    }
}

fn try_open(dir: &Path) -> Result<SledKv> {
    move_bad_snapshots(dir)?;
    match catch_unwind(AssertUnwindSafe(|| SledKv::open(dir))) {
        Ok(Ok(kv)) => Ok(kv),
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(Error::InUse(dir.display().to_string()))
        }
        Ok(Err(sled::Error::Io(error))) => Err(Error::path("open the log in", dir, error)),
        Ok(Err(error)) => Err(Error::Corrupt(format!("the log in {} is damaged: {error}", dir.display()))),
        Err(_) => {
            Err(Error::Corrupt(format!("the log in {} is damaged: sled panicked while opening it", dir.display())))
        }
    }
}

/// sled's own snapshots only shorten its start-up, but a truncated one keeps it from opening at all. Such a file is moved out
/// of sled's sight; sled then reads its whole log instead.
fn move_bad_snapshots(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|error| Error::path("list", dir, error))?;
    for entry in entries {
        let path = entry.map_err(|error| Error::path("list", dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("snap.") {
            continue;
        }
        let content = fs::read(&path).map_err(|error| Error::path("read", &path, error))?;
        // A file that was still being written is as bad as a truncated one: sled would take it for the newest.
        if is_whole(&content) && !name.ends_with(".generating") {
            continue;
        }
        let aside = path.with_file_name(format!("damaged-{name}"));
        tracing::warn!(file = %path.display(), aside = %aside.display(), "moved a truncated sled snapshot aside");
        fs::rename(&path, &aside).map_err(|error| Error::path("move", &path, error))?;
    }
    Ok(())
}

/// The check sled makes: the last four bytes are the CRC-32 of everything but the last twelve.
fn is_whole(content: &[u8]) -> bool {
    let Some((body, trailer)) = content.split_at_checked(content.len().saturating_sub(12)) else { return false };
    let expected = trailer.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    !body.is_empty() && expected == Some(crc32(body))
}

/// CRC-32 (IEEE), bit by bit: the files are small and read once.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
