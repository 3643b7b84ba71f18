//! The control groups of a lab's containers: one subtree per host, so that a dead host's leftovers can be found and what is
//! frozen there can be let go.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The lab's cgroup, below which each host has its own.
pub(super) fn name(subnet: u8) -> String {
    format!("plimsoll-lab-{subnet}")
}

/// Removes the group and everything below it, in every hierarchy. Its processes must be gone.
pub(super) fn remove(group: &str) -> Result<()> {
    // On version 2 the group is in the root itself, on version 1 in the folder of each controller.
    let controllers = fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))?.flatten();
    for folder in controllers.map(|entry| entry.path()).chain([ROOT.into()]) {
        remove_tree(&folder.join(group)).with_context(|| format!("cannot remove cgroup {group}"))?;
    }
    Ok(())
}

/// Lets everything in the group go on that a freezer holds still: version 1 does not let a frozen process die, and then its host
/// would not either. What has gone meanwhile is fine.
pub(super) fn thaw(group: &str) {
    for (root, file, word) in
        [("freezer", "freezer.state", "THAWED"), ("", "cgroup.freeze", "0"), ("unified", "cgroup.freeze", "0")]
    {
        thaw_tree(&Path::new(ROOT).join(root).join(group), file, word);
    }
}

fn thaw_tree(folder: &Path, file: &str, word: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    // Only there where the freezer is; to write to one that is going away is no loss.
    let switch = folder.join(file);
    if switch.exists() {
        let _ = fs::write(switch, word);
    }
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        thaw_tree(&entry.path(), file, word);
    }
}

/// Removes folders from the bottom up; the files in a cgroup belong to the kernel and go with their folder.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
