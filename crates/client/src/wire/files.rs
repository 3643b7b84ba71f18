//! Files of sandboxes on the wire. Contents travel as raw bodies, these are for everything around them.

use super::exec::Encoding;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntry {
    /// Absolute path.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits in octal, such as `0644`.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change.
    pub modified_at: super::Time,
}

/// From where to where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveFile {
    /// Absolute path of what is moved.
    pub from: String,
    /// Absolute path it gets.
    pub to: String,
}

/// A folder's regular files with their bytes; symbolic links are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FolderContent {
    /// Every file below the folder.
    pub files: Vec<FolderFile>,
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FolderFile {
    /// Path relative to the folder.
    pub path: String,
    /// Its bytes, encoded as `encoding` says.
    pub data: String,
    /// How.
    pub encoding: Encoding,
}

impl FolderFile {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.encoding.decode(&self.data).unwrap_or_default()
    }
}
