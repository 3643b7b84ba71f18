//! The provider's trait, call by call.

use super::{VpsClusterProvider, checks, misunderstood};
use crate::{
    Error,
    provider::SandboxProvider,
    questions::{Answer, Question},
    request::{Awake, Explained, NewSandbox, Provided, Scope, Wait},
    sessions::Session,
    spec,
};
use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::{
    naming::PLATFORM_ENV_FILE,
    ports::{ByteStream, ContainerStats, ExecRequest, ExecSession, FileEntry, LogOptions, WriteOptions},
};
use plimsoll_state::{
    Command, Refusal, Sandbox, Snapshot,
    command::{SetDeadline, Terminate},
};
use plimsoll_types::{Code, Endpoint, Health, Millis, Phase, SandboxId, SnapshotId, SnapshotName, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// Most entries of a folder in one answer: more would be held whole in memory.
const LIST_LIMIT: usize = 100_000;
/// How long a quorum may take to confirm before it counts as none: platforms wait 10 s for an answer about health.
const HEALTH_PATIENCE: Duration = Duration::from_secs(4);
/// Where calls into the container work.
const RUNNING: &[Phase] = &[Phase::Running];
/// Where its output can be read: a container that died is kept for a while for that.
const HAS_LOGS: &[Phase] = &[Phase::Running, Phase::Pausing, Phase::Migrating, Phase::Failed];

#[async_trait]
impl SandboxProvider for VpsClusterProvider {
    async fn ensure(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error> {
        self.ensure_sandbox(request, wait).await
    }

    async fn create(&self, request: NewSandbox, wait: Wait) -> Result<Provided, Error> {
        self.create_sandbox(request, wait).await
    }

    async fn explain(&self, request: &NewSandbox) -> Result<Explained, Error> {
        self.explain_placement(request).await
    }

    async fn get(&self, scope: &Scope, sandbox: SandboxId) -> Result<Arc<Sandbox>, Error> {
        self.visible(scope, sandbox).await
    }

    async fn check(&self, scope: &Scope, sandboxes: &[SandboxId]) -> Result<Vec<SandboxId>, Error> {
        self.barrier().await?;
        // One that moves is as alive as before: it stands still for some seconds of it.
        let alive = |phase| matches!(phase, Phase::Running | Phase::Migrating);
        let runs = |sandbox: &Arc<Sandbox>| alive(sandbox.phase) && scope.allows(&sandbox.tenant);
        Ok(self
            .node
            .read(|state| sandboxes.iter().copied().filter(|id| state.sandboxes.get(id).is_some_and(runs)).collect()))
    }

    async fn tunnels(&self, scope: &Scope, sandbox: SandboxId) -> Result<Vec<Endpoint>, Error> {
        Ok(self.roused(scope, sandbox).await?.endpoints.clone())
    }

    async fn terminate(&self, scope: &Scope, sandbox: SandboxId, wait: Wait) -> Result<(), Error> {
        let began = Instant::now();
        match self.visible(scope, sandbox).await {
            Ok(found) if found.phase == Phase::Terminated => return Ok(()),
            Ok(_) => {}
            Err(error) if error.code == Code::SandboxNotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let at = self.node.now();
        let wish = Terminate { sandbox, reason: "asked for".into(), if_deadline: None, if_phase: None, at };
        match self.node.commit_one(Command::Terminate(vec![wish])).await? {
            Ok(()) | Err(Refusal::SandboxUnknown) => self.until_gone(sandbox, wait.left(began)).await,
            Err(refusal) => Err(Error::from(refusal).about(sandbox)),
        }
    }

    async fn extend(&self, scope: &Scope, id: SandboxId, deadline: Option<Timestamp>) -> Result<Arc<Sandbox>, Error> {
        let sandbox = self.visible(scope, id).await?;
        let set = SetDeadline { sandbox: id, deadline, at: self.node.now() };
        match self.node.commit_one(Command::SetDeadline(set)).await? {
            Ok(()) => self.visible_here(scope, id),
            Err(Refusal::WrongPhase(phase)) => {
                let message = format!("{id} is {phase}; only a live sandbox has a deadline to move");
                Err(Error::new(Code::WrongPhase, message).about(sandbox.id))
            }
            Err(refusal) => Err(Error::from(refusal).about(id)),
        }
    }

    async fn snapshot(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        name: Option<SnapshotName>,
        wait: Wait,
    ) -> Result<Arc<Snapshot>, Error> {
        self.take_snapshot(scope, sandbox, name, wait).await
    }

    async fn pause(&self, scope: &Scope, sandbox: SandboxId, wait: Wait) -> Result<Arc<Sandbox>, Error> {
        self.pause_sandbox(scope, sandbox, wait).await
    }

    async fn resume(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        to: Option<&str>,
        lifetime: Option<Millis>,
        wait: Wait,
    ) -> Result<Provided, Error> {
        spec::lifetime(lifetime)?;
        self.resume_sandbox(scope, sandbox, to, lifetime, wait).await
    }

    async fn migrate(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        to: Option<&str>,
        wait: Wait,
    ) -> Result<Arc<Sandbox>, Error> {
        self.migrate_sandbox(scope, sandbox, to, wait).await
    }

    async fn freeze(&self, scope: &Scope, sandbox: SandboxId, frozen: bool) -> Result<Arc<Sandbox>, Error> {
        self.freeze_sandbox(scope, sandbox, frozen).await
    }

    async fn snapshots(
        &self,
        scope: &Scope,
        sandbox: Option<SandboxId>,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<(Vec<Arc<Snapshot>>, Option<SnapshotId>), Error> {
        self.list_snapshots(scope, sandbox, after, limit).await
    }

    async fn get_snapshot(&self, scope: &Scope, id_or_name: &str) -> Result<Arc<Snapshot>, Error> {
        self.find_snapshot(scope, id_or_name).await
    }

    async fn latest_snapshot(&self, scope: &Scope, sandbox: SandboxId) -> Result<Option<Arc<Snapshot>>, Error> {
        self.visible(scope, sandbox).await?;
        Ok(self.node.read(|state| state.newest_snapshot(sandbox).cloned()))
    }

    async fn delete_snapshot(&self, scope: &Scope, snapshot: SnapshotId) -> Result<(), Error> {
        self.drop_snapshot(scope, snapshot).await
    }

    async fn awake(&self, scope: &Scope, sandbox: SandboxId) -> Result<Awake, Error> {
        self.visible(scope, sandbox).await?;
        match self.ask(&Question::Awake(sandbox)).await? {
            Answer::Awake(awake) => Ok(awake),
            Answer::Placed(_)
            | Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Noted
            | Answer::Left(_)
            | Answer::Moves(_)
            | Answer::Error(_) => Err(misunderstood()),
        }
    }

    async fn exec(&self, scope: &Scope, sandbox: SandboxId, mut request: ExecRequest) -> Result<ExecSession, Error> {
        checks::exec(&request)?;
        let (target, session) = self.awake_target(scope, sandbox).await?;
        if let Some(sealed) = &target.sandbox.spec.sealed_env {
            let opened = self.node.options.secret.open(sandbox, sealed);
            // Expected after a restore without them, and damage otherwise: an operator has to hear of it.
            let opened = opened.inspect_err(|error| tracing::warn!(%sandbox, %error, "nothing can be started in it"));
            for (name, value) in opened?.0 {
                // What the caller sets for this process wins.
                request.env.entry(name).or_insert(value);
            }
        }
        let process = target.driver.exec(&target.container, request).await.map_err(|error| target.blame(error))?;
        Ok(session.exec(process))
    }

    async fn write_env(&self, scope: &Scope, sandbox: SandboxId, env: BTreeMap<String, String>) -> Result<(), Error> {
        spec::process_env(&env)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        let json = serde_json::to_vec(&env)
            .map_err(|_| Error::new(Code::Internal, "the environment cannot be written as JSON"))?;
        let body: ByteStream = Box::pin(futures_util::stream::once(std::future::ready(Ok(Bytes::from(json)))));
        let options = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
        let written = target.driver.files().write(&target.container, PLATFORM_ENV_FILE, options, body).await;
        written.map_err(|error| target.blame(error))
    }

    async fn logs(&self, scope: &Scope, sandbox: SandboxId, options: LogOptions) -> Result<ByteStream, Error> {
        let target = self.target(scope, sandbox, HAS_LOGS).await?;
        let lines = target.driver.logs(&target.container, options).await.map_err(|error| target.blame(error))?;
        Ok(Session::begin(&self.node, sandbox).stream(lines))
    }

    async fn stats(&self, scope: &Scope, sandbox: SandboxId) -> Result<ContainerStats, Error> {
        let target = self.target(scope, sandbox, RUNNING).await?;
        target.driver.stats(&target.container).await.map_err(|error| target.blame(error))
    }

    async fn read_file(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<ByteStream, Error> {
        spec::path(path)?;
        let (target, session) = self.awake_target(scope, sandbox).await?;
        let body = target.driver.files().read(&target.container, path).await.map_err(|error| target.blame(error))?;
        Ok(session.stream(body))
    }

    async fn write_file(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        path: &str,
        options: WriteOptions,
        body: ByteStream,
    ) -> Result<(), Error> {
        spec::path(path)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        target.driver.files().write(&target.container, path, options, body).await.map_err(|error| target.blame(error))
    }

    async fn list_files(
        &self,
        scope: &Scope,
        sandbox: SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<Vec<FileEntry>, Error> {
        spec::path(path)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        let listed = target.driver.files().list(&target.container, path, recursive, LIST_LIMIT).await;
        listed.map_err(|error| target.blame(error))
    }

    async fn stat_file(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<FileEntry, Error> {
        spec::path(path)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        target.driver.files().stat(&target.container, path).await.map_err(|error| target.blame(error))
    }

    async fn move_file(&self, scope: &Scope, sandbox: SandboxId, from: &str, to: &str) -> Result<(), Error> {
        spec::path(from)?;
        spec::path(to)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        target.driver.files().rename(&target.container, from, to).await.map_err(|error| target.blame(error))
    }

    async fn remove_file(&self, scope: &Scope, sandbox: SandboxId, path: &str, recursive: bool) -> Result<(), Error> {
        spec::path(path)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        target.driver.files().remove(&target.container, path, recursive).await.map_err(|error| target.blame(error))
    }

    async fn export_tar(&self, scope: &Scope, sandbox: SandboxId, path: &str) -> Result<ByteStream, Error> {
        spec::path(path)?;
        let (target, session) = self.awake_target(scope, sandbox).await?;
        let tar =
            target.driver.files().export_tar(&target.container, path).await.map_err(|error| target.blame(error))?;
        Ok(session.stream(tar))
    }

    async fn import_tar(&self, scope: &Scope, sandbox: SandboxId, path: &str, body: ByteStream) -> Result<(), Error> {
        spec::path(path)?;
        let (target, _session) = self.awake_target(scope, sandbox).await?;
        target.driver.files().import_tar(&target.container, path, body).await.map_err(|error| target.blame(error))
    }

    async fn health(&self) -> Result<bool, Error> {
        let confirmed = time::timeout(HEALTH_PATIENCE, self.barrier()).await;
        if !matches!(confirmed, Ok(Ok(()))) {
            return Ok(false);
        }
        Ok(self
            .node
            .read(|state| state.hold.is_none() && state.hosts.values().any(|host| host.health == Health::Ready)))
    }
}
