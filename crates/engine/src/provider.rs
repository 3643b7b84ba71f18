//! The façade's trait: everything a platform does with sandboxes. [`crate`]'s `VpsClusterProvider` implements it.

use crate::{
    error::Error,
    request::{Awake, Explained, NewSandbox, Provided, Scope, Wait},
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{
    ByteStream, ContainerStats, ExecRequest, ExecSession, FileEntry, LogOptions, WriteOptions,
};
use plimsoll_state::{Sandbox, Snapshot};
use plimsoll_types::{Endpoint, Millis, SandboxId, SnapshotId, SnapshotName, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

/// Sandboxes, as a platform uses them. Every call is checked against the caller's [`Scope`].
#[async_trait]
pub trait SandboxProvider: Send + Sync + 'static {
    /// The session's sandbox: the live one as it is, thawed, resumed or restored where it must be (`recovered` says so), or a new
    /// one. Any number of concurrent calls give one sandbox.
    async fn ensure(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error>;

    /// A fresh sandbox; `session_live` if the session has one.
    async fn create(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error>;

    /// Where a sandbox would go now, and why; places nothing.
    async fn explain(&self, request: &NewSandbox) -> Result<Explained, Error>;

    /// One sandbox.
    async fn get(&self, scope: &Scope, sandbox: SandboxId) -> Result<Arc<Sandbox>, Error>;

    /// Those of these ids that are running, those on their way to another host included. One call for many; no side effects.
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

    /// A snapshot of a running sandbox, kept until it is deleted; the sandbox goes on, after standing still for a moment. Answers
    /// with the record, which is `available` if the call waits.
    ///
    /// Errors: `wrong_phase` unless it runs, `operation_under_way`, `snapshot_exists` for a name that is taken,
    /// `registry_missing`, and what the host or the registry said, in which case the sandbox runs on as it was.
    async fn snapshot(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        name: Option<SnapshotName>,
        wait: Wait,
    ) -> Result<Arc<Snapshot>, Error>;

    /// Pauses a running sandbox: it keeps its id and its files and frees everything else. Paused already is success, and one that is
    /// being paused is waited for.
    ///
    /// Errors: `wrong_phase`, `operation_under_way`, `registry_missing`, and what made the pause fail; the sandbox runs on then.
    async fn pause(&self, scope: &Scope, sandbox: SandboxId, wait: Wait) -> Result<Arc<Sandbox>, Error>;

    /// Lets a paused sandbox run again, on the named host or wherever there is room; one that is frozen is thawed, one that runs is
    /// left as it is. Its deadline is moved if a lifetime is given, or if it has passed: then by the lifetime it was made with.
    ///
    /// Errors: `no_capacity` with the explanation, `wrong_phase`, `host_not_found`.
    async fn resume(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        to: Option<&str>,
        lifetime: Option<Millis>,
        wait: Wait,
    ) -> Result<Provided, Error>;

    /// Moves a running sandbox to another host: the named one, or the one with the most room. Until it runs there it can be given
    /// up, and then runs on where it was.
    ///
    /// Errors: `same_host`, `host_not_found`, `no_capacity` with the explanation, `architecture_mismatch`, `wrong_phase`,
    /// `operation_under_way`, `registry_missing`, and what made the move fail.
    async fn migrate(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        to: Option<&str>,
        wait: Wait,
    ) -> Result<Arc<Sandbox>, Error>;

    /// Holds a running sandbox still in memory, where it is, or lets it go on. It keeps its memory and its room. Done already is
    /// success.
    ///
    /// Errors: `wrong_phase`, `operation_under_way`, `host_unavailable`.
    async fn freeze(&self, scope: &Scope, sandbox: SandboxId, frozen: bool) -> Result<Arc<Sandbox>, Error>;

    /// One page of the snapshots, in the order they were begun, of one sandbox or of all the caller may see, and where the next page
    /// starts.
    async fn snapshots(
        &self,
        scope: &Scope,
        sandbox: Option<SandboxId>,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<(Vec<Arc<Snapshot>>, Option<SnapshotId>), Error>;

    /// One snapshot by its id, or, for a tenant's key, by its name.
    async fn get_snapshot(&self, scope: &Scope, id_or_name: &str) -> Result<Arc<Snapshot>, Error>;

    /// What a sandbox would be restored from if its host were lost now: its newest snapshot that is available. What it did since that
    /// one's `taken_at` would be gone.
    async fn latest_snapshot(&self, scope: &Scope, sandbox: SandboxId) -> Result<Option<Arc<Snapshot>>, Error>;

    /// Deletes a snapshot. Being deleted already is success.
    ///
    /// Errors: `snapshot_not_found`, `snapshot_in_use` while a sandbox needs it to come back, `snapshot_unusable` while it is taken.
    async fn delete_snapshot(&self, scope: &Scope, snapshot: SnapshotId) -> Result<(), Error>;

    /// What keeps a sandbox from counting as idle, and since when it does.
    async fn awake(&self, scope: &Scope, sandbox: SandboxId) -> Result<Awake, Error>;

    /// Starts a process in it. As every call into a sandbox (files, tunnels, environment), it first resumes one that is paused,
    /// thaws one that is frozen, and waits for one that is on its way, up to 170 s.
    async fn exec(&self, scope: &Scope, sandbox: SandboxId, request: ExecRequest) -> Result<ExecSession, Error>;

    /// Writes the platform's environment as JSON to `/tmp/.proliferate_env.json`, readable by the sandbox's user only.
    async fn write_env(&self, scope: &Scope, sandbox: SandboxId, env: BTreeMap<String, String>) -> Result<(), Error>;

    /// Its main process's output. A paused sandbox has none, and is not resumed for it.
    async fn logs(&self, scope: &Scope, sandbox: SandboxId, options: LogOptions) -> Result<ByteStream, Error>;

    /// What it uses now. A look changes nothing: a paused sandbox is not resumed for it.
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
