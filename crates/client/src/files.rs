//! Calls about a sandbox's files. Bodies stream both ways; nothing is held whole.

use crate::{
    call::Call,
    client::{ByteStream, Client},
    error::Error,
    sandboxes::of,
    wire::{FileEntry, FolderContent, MoveFile},
};
use bytes::Bytes;
use futures_core::Stream;
use plimsoll_types::SandboxId;

/// How a file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteFile {
    /// Permission bits; `0o644` if absent.
    pub mode: Option<u32>,
    /// Owner as `uid:gid`.
    pub owner: Option<String>,
    /// As whom to write.
    pub user: Option<String>,
}

impl Client {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read_file(&self, id: SandboxId, path: &str) -> Result<ByteStream, Error> {
        self.stream(of(Call::get, id, &["files"]).query("path", Some(path))).await
    }

    /// Writes a file atomically; parents are created.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_file<S>(&self, id: SandboxId, path: &str, options: &WriteFile, body: S) -> Result<(), Error>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let call = of(Call::put, id, &["files"])
            .query("path", Some(path))
            .query("mode", options.mode.map(|mode| format!("{mode:04o}")))
            .query("owner", options.owner.as_ref())
            .query("user", options.user.as_ref());
        self.upload(call, body).await
    }

    /// A folder's entries.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_files(&self, id: SandboxId, path: &str, recursive: bool) -> Result<Vec<FileEntry>, Error> {
        let call = of(Call::get, id, &["files", "list"]).query("path", Some(path));
        self.json(&call.query("recursive", recursive.then_some("true"))).await
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stat_file(&self, id: SandboxId, path: &str) -> Result<FileEntry, Error> {
        self.json(&of(Call::get, id, &["files", "stat"]).query("path", Some(path))).await
    }

    /// Moves a file or folder.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn move_file(&self, id: SandboxId, from: &str, to: &str) -> Result<(), Error> {
        let body = MoveFile { from: from.to_owned(), to: to.to_owned() };
        self.nothing(&of(Call::post, id, &["files", "move"]).json(&body)).await
    }

    /// Removes a file, or a folder with all below it if `recursive`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_file(&self, id: SandboxId, path: &str, recursive: bool) -> Result<(), Error> {
        let call = of(Call::delete, id, &["files"]).query("path", Some(path));
        self.nothing(&call.query("recursive", recursive.then_some("true"))).await
    }

    /// A folder's files with their bytes, for small folders; [`Client::export_tar`] has no limit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read_folder(&self, id: SandboxId, path: &str) -> Result<FolderContent, Error> {
        self.json(&of(Call::get, id, &["files", "folder"]).query("path", Some(path))).await
    }

    /// A folder as an uncompressed tar.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn export_tar(&self, id: SandboxId, path: &str) -> Result<ByteStream, Error> {
        self.stream(of(Call::get, id, &["files", "tar"]).query("path", Some(path))).await
    }

    /// Unpacks an uncompressed tar into a folder.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn import_tar<S>(&self, id: SandboxId, path: &str, body: S) -> Result<(), Error>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        self.upload(of(Call::put, id, &["files", "tar"]).query("path", Some(path)), body).await
    }

    async fn upload<S>(&self, call: Call, body: S) -> Result<(), Error>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let call = call.without_timeout().header("content-type", Some("application/octet-stream"));
        self.send_body(&call, reqwest::Body::wrap_stream(body)).await.map(drop)
    }
}
