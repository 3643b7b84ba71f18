//! A running sandbox's filesystem, through processes inside it.
//!
//! Only fixed scripts run, with paths as positional arguments: nothing a caller says is ever parsed by a shell. Docker's archive API is
//! not used: on a running container it follows paths that the sandbox may swap under it, and does not see tmpfs mounts.

mod entry;
mod owner;
mod plain;
mod script;
mod transfer;
mod write;

use crate::{driver::Driver, limits};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{ByteStream, FileEntry, Files, HostError, WriteOptions};

#[async_trait]
impl Files for Driver {
    async fn read(&self, container: &str, path: &str) -> Result<ByteStream, HostError> {
        self.within("file_read", limits::FILE, transfer::read(&self.api, container, path)).await
    }

    async fn write(
        &self,
        container: &str,
        path: &str,
        options: WriteOptions,
        body: ByteStream,
    ) -> Result<(), HostError> {
        self.within("file_write", limits::FILE_STREAM, write::write(&self.api, container, path, &options, body)).await
    }

    async fn list(
        &self,
        container: &str,
        path: &str,
        recursive: bool,
        limit: usize,
    ) -> Result<Vec<FileEntry>, HostError> {
        self.within("file_list", limits::FILE, entry::list(&self.api, container, path, recursive, limit)).await
    }

    async fn stat(&self, container: &str, path: &str) -> Result<FileEntry, HostError> {
        self.within("file_stat", limits::FILE, entry::stat(&self.api, container, path)).await
    }

    async fn rename(&self, container: &str, from: &str, to: &str) -> Result<(), HostError> {
        self.within("file_rename", limits::FILE, plain::rename(&self.api, container, from, to)).await
    }

    async fn remove(&self, container: &str, path: &str, recursive: bool) -> Result<(), HostError> {
        self.within("file_remove", limits::FILE, plain::remove(&self.api, container, path, recursive)).await
    }

    async fn export_tar(&self, container: &str, path: &str) -> Result<ByteStream, HostError> {
        self.within("file_export", limits::FILE, transfer::export_tar(&self.api, container, path)).await
    }

    async fn import_tar(&self, container: &str, path: &str, body: ByteStream) -> Result<(), HostError> {
        self.within("file_import", limits::FILE_STREAM, transfer::import_tar(&self.api, container, path, body)).await
    }
}
