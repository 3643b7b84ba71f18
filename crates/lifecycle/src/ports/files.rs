//! The files port: a running sandbox's filesystem. Paths are absolute and resolved inside the container, never outside.

use super::host::{ByteStream, HostError};
use async_trait::async_trait;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One entry of a folder, or what `stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path (bytes that are no UTF-8 are replaced).
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, seconds since the Unix epoch.
    pub modified_s: i64,
}

/// How a file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits; `0o644` if `None`.
    pub mode: Option<u32>,
    /// Owner as `name`, `uid` (short for `uid:uid`) or `uid:gid`; the writer if `None`. Names are the sandbox's own.
    pub owner: Option<String>,
    /// As whom to write: `name`, `uid` or `uid:gid`; the container's user if `None`.
    pub user: Option<String>,
}

/// Files of one container. Everything streams: nothing is held whole.
#[async_trait]
pub trait Files: Send + Sync {
    /// Reads a regular file.
    ///
    /// # Errors
    /// `file_not_found`, or `file_error` with what the sandbox said.
    async fn read(&self, container: &str, path: &str) -> Result<ByteStream, HostError>;

    /// Writes a file atomically: parents are created, and the old content stays until all of the new is there.
    ///
    /// # Errors
    /// `file_error` with what the sandbox said.
    async fn write(
        &self,
        container: &str,
        path: &str,
        options: WriteOptions,
        body: ByteStream,
    ) -> Result<(), HostError>;

    /// The entries of a folder, sorted by path; all below it if `recursive`. At most `limit`, then an error says so.
    ///
    /// # Errors
    /// `file_not_found` or `file_error`.
    async fn list(
        &self,
        container: &str,
        path: &str,
        recursive: bool,
        limit: usize,
    ) -> Result<Vec<FileEntry>, HostError>;

    /// What stands at a path; a symbolic link is not followed.
    ///
    /// # Errors
    /// `file_not_found` or `file_error`.
    async fn stat(&self, container: &str, path: &str) -> Result<FileEntry, HostError>;

    /// Moves or renames; the target's parents are created.
    ///
    /// # Errors
    /// `file_not_found` or `file_error`.
    async fn rename(&self, container: &str, from: &str, to: &str) -> Result<(), HostError>;

    /// Removes a file, or a folder with all below it if `recursive`.
    ///
    /// # Errors
    /// `file_not_found` or `file_error`.
    async fn remove(&self, container: &str, path: &str, recursive: bool) -> Result<(), HostError>;

    /// A folder (or one file) as an uncompressed tar, names relative to it.
    ///
    /// # Errors
    /// `file_not_found` or `file_error`.
    async fn export_tar(&self, container: &str, path: &str) -> Result<ByteStream, HostError>;

    /// Unpacks an uncompressed tar into a folder, which is created.
    ///
    /// # Errors
    /// `file_error` with what the sandbox said.
    async fn import_tar(&self, container: &str, path: &str, body: ByteStream) -> Result<(), HostError>;
}
