//! The façade's trait: everything a platform does with sandboxes. [`crate`]'s `VpsClusterProvider` implements it.

use crate::{
    error::Error,
    request::{Explained, NewSandbox, Provided, Scope, Wait},
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{
    ByteStream, ContainerStats, ExecRequest, ExecSession, FileEntry, LogOptions, WriteOptions,
};
use plimsoll_state::Sandbox;
use plimsoll_types::{Endpoint, SandboxId, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

/// Sandboxes, as a platform uses them. Every call is checked against the caller's [`Scope`].
#[async_trait]
pub trait SandboxProvider: Send + Sync + 'static {
    /// The session's sandbox: the live one as it is, or a new one. Any number of concurrent calls give one sandbox.
    async fn ensure(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error>;

    /// A fresh sandbox; `session_live` if the session has one.
    async fn create(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error>;

    /// Where a sandbox would go now, and why; places nothing.
    async fn explain(&self, request: &NewSandbox) -> Result<Explained, Error>;

    /// One sandbox.
    async fn get(&self, scope: &Scope, sandbox: SandboxId) -> Result<Arc<Sandbox>, Error>;

    /// Those of these ids that are running. One call for many; no side effects.
    async fn check(&self, scope: &Scope, sandboxes: &[SandboxId]) -> Result<Vec<SandboxId>, Error>;

    /// Where its ports are reached now.
    async fn tunnels(&self, scope: &Scope, sandbox: SandboxId) -> Result<Vec<Endpoint>, Error>;

    /// Takes a sandbox down, workspace and all. Done already, or unknown, is success.
    async fn terminate(&self, scope: &Scope, sandbox: SandboxId, wait: Wait) -> Result<(), Error>;

    /// Moves its deadline; `None` never expires.
    async fn extend(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        deadline: Option<Timestamp>,
    ) -> Result<Arc<Sandbox>, Error>;

    /// Starts a process in it.
    async fn exec(&self, scope: &Scope, sandbox: SandboxId, request: ExecRequest) -> Result<ExecSession, Error>;

    /// Writes the platform's environment as JSON to `/tmp/.proliferate_env.json`, readable by the sandbox's user only.
    async fn write_env(&self, scope: &Scope, sandbox: SandboxId, env: BTreeMap<String, String>) -> Result<(), Error>;

    /// Its main process's output.
    async fn logs(&self, scope: &Scope, sandbox: SandboxId, options: LogOptions) -> Result<ByteStream, Error>;

    /// What it uses now.
    async fn stats(&self, scope: &Scope, sandbox: SandboxId) -> Result<ContainerStats, Error>;

    /// Reads a file.
    async fn read_file(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<ByteStream, Error>;

    /// Writes a file atomically.
    async fn write_file(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        path: &str,
        options: WriteOptions,
        body: ByteStream,
    ) -> Result<(), Error>;

    /// A folder's entries.
    async fn list_files(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<Vec<FileEntry>, Error>;

    /// What stands at a path.
    async fn stat_file(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<FileEntry, Error>;

    /// Moves a file or folder.
    async fn move_file(&self, scope: &Scope, sandbox: SandboxId, from: &str, to: &str) -> Result<(), Error>;

    /// Removes a file, or a folder with all below it if `recursive`.
    async fn remove_file(&self, scope: &Scope, sandbox: SandboxId, path: &str, recursive: bool) -> Result<(), Error>;

    /// A folder as an uncompressed tar.
    async fn export_tar(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<ByteStream, Error>;

    /// Unpacks an uncompressed tar into a folder.
    async fn import_tar(&self, scope: &Scope, sandbox: SandboxId, path: &str, body: ByteStream) -> Result<(), Error>;

    /// Whether the provider can reach at least one host and has a quorum.
    async fn health(&self) -> Result<bool, Error>;
}
