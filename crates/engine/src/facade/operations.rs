//! Snapshot, pause and migrate: an operation is begun here, carried out by whoever leads, and waited for by watching state.
//!
//! Of two operations on one sandbox the second is refused, with one exception: a checkpoint, which nobody asked for just now, is
//! waited for by those who wait anyway.

use super::{VpsClusterProvider, misunderstood, target::wrong_phase};
use crate::{
    Error,
    leader::desk::MigrateWish,
    operation::{self, Begun, Wish},
    questions::{Answer, Question},
    request::{Scope, Wait, no_such_sandbox},
};
use plimsoll_state::{Refusal, Sandbox, Snapshot, SnapshotPhase, State, WorkKind};
use plimsoll_types::{Code, HostId, OperationId, Phase, SandboxId, SnapshotName};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Where operations begin.
const RUNNING: &[Phase] = &[Phase::Running];
/// Where a pause has something to do or is done.
const PAUSABLE: &[Phase] = &[Phase::Running, Phase::Pausing, Phase::Paused];

/// What became of an operation that was begun.
enum Ended {
    Done,
    GivenUp(Error),
}

impl VpsClusterProvider {
    pub(super) async fn take_snapshot(
        &self,
        scope: &Scope,
        id: SandboxId,
        name: Option<SnapshotName>,
        wait: Wait,
    ) -> Result<Arc<Snapshot>, Error> {
        let began = Instant::now();
        let sandbox = self.free(scope, id, RUNNING, wait).await?;
        self.registry_there()?;
        let wish = Wish { name, ..Wish::new(WorkKind::Snapshot) };
        let begun = self.begin(&sandbox, wish).await?;
        let record = move |state: &State| state.snapshots.get(&begun.snapshot).cloned();
        if let Wait::Upto(_) = wait {
            let taken = |state: &State| {
                let record = record(state);
                if record.as_ref().is_some_and(|it| it.phase == SnapshotPhase::Available) {
                    return Some(Ok(()));
                }
                let trouble = given_up(state, id, begun.operation, Code::SnapshotFailed);
                trouble.map(Err).or_else(|| {
                    record.is_none_or(|it| it.phase == SnapshotPhase::Deleting).then(|| Err(went_away(state, id)))
                })
            };
            self.watch(id, wait.left(began), taken).await?;
        }
        self.node.read(record).ok_or_else(|| Error::new(Code::Conflict, "the snapshot was deleted meanwhile").about(id))
    }

    pub(super) async fn pause_sandbox(&self, scope: &Scope, id: SandboxId, wait: Wait) -> Result<Arc<Sandbox>, Error> {
        let began = Instant::now();
        let sandbox = self.free(scope, id, PAUSABLE, wait).await?;
        let operation = match (sandbox.phase, &sandbox.work) {
            (Phase::Paused, _) => return Ok(sandbox),
            (Phase::Pausing, Some(work)) => work.operation,
            _ => {
                self.registry_there()?;
                self.begin(&sandbox, Wish::new(WorkKind::Pause)).await?.operation
            }
        };
        if let Wait::Upto(_) = wait {
            let generation = sandbox.generation;
            let paused = |state: &State| {
                let now = state.sandboxes.get(&id)?;
                if now.phase == Phase::Paused || now.generation > generation {
                    return Some(Ok(())); // One that runs again was paused in between.
                }
                let under_way = now.work.as_ref().is_some_and(|work| work.operation == operation);
                given_up(state, id, operation, Code::SnapshotFailed)
                    .or_else(|| (!under_way).then(|| went_away(state, id)))
                    .map(Err)
            };
            self.watch(id, wait.left(began), paused).await?;
        }
        self.visible_here(scope, id)
    }

    pub(super) async fn migrate_sandbox(
        &self,
        scope: &Scope,
        id: SandboxId,
        to: Option<&str>,
        wait: Wait,
    ) -> Result<Arc<Sandbox>, Error> {
        let began = Instant::now();
        let sandbox = self.free(scope, id, RUNNING, wait).await?;
        let to = to.map(|name| self.target_host(&sandbox, name)).transpose()?;
        self.registry_there()?;
        let begun = Begun { operation: self.node.new_operation(), snapshot: self.node.new_snapshot() };
        let wish = MigrateWish {
            sandbox: id,
            generation: sandbox.generation,
            operation: begun.operation,
            snapshot: begun.snapshot,
            to,
        };
        let answer = self.ask(&Question::Migrate(wish)).await;
        // The leader has applied it; this node is about to.
        self.barrier().await?;
        match answer {
            Ok(Answer::Host(_)) => {}
            Ok(
                Answer::Placed(_)
                | Answer::Explained(_)
                | Answer::Loads(_)
                | Answer::Awake(_)
                | Answer::Noted
                | Answer::Left(_)
                | Answer::Moves(_)
                | Answer::Error(_),
            ) => return Err(misunderstood()),
            // A question that is put again after a lost answer finds its own operation under way.
            Err(_) if self.node.read(|state| is_known(state, id, begun.operation)) => {}
            Err(error) => return Err(error.about(id)),
        }
        if let Wait::Upto(_) = wait {
            let moved = |state: &State| match ended(state, id, begun.operation) {
                None => None,
                Some(Ended::Done) => Some(Ok(())),
                Some(Ended::GivenUp(error)) => Some(Err(error)),
            };
            self.watch(id, wait.left(began), moved).await?;
        }
        self.visible_here(scope, id)
    }

    /// A sandbox in one of these phases, once the checkpoint that may be under way is taken, if the caller waits.
    async fn free(&self, scope: &Scope, id: SandboxId, phases: &[Phase], wait: Wait) -> Result<Arc<Sandbox>, Error> {
        let sandbox = self.visible(scope, id).await?;
        if !phases.contains(&sandbox.phase) {
            return Err(wrong_phase(&sandbox, phases));
        }
        let Some(work) = sandbox.work.clone().filter(|_| sandbox.phase == Phase::Running) else { return Ok(sandbox) };
        if work.kind != WorkKind::Checkpoint || wait == Wait::No {
            return Err(under_way(&sandbox, work.operation, Some(work.kind)));
        }
        let over = |state: &State| {
            let busy = |it: &Arc<Sandbox>| it.work.as_ref().is_some_and(|now| now.operation == work.operation);
            (!state.sandboxes.get(&id).is_some_and(busy)).then_some(Ok(()))
        };
        self.watch(id, wait, over).await?;
        let sandbox = self.visible_here(scope, id)?;
        if phases.contains(&sandbox.phase) { Ok(sandbox) } else { Err(wrong_phase(&sandbox, phases)) }
    }

    pub(super) fn registry_there(&self) -> Result<(), Error> {
        self.node.registry().map(drop).ok_or_else(operation::registry_missing)
    }

    async fn begin(&self, sandbox: &Sandbox, wish: Wish) -> Result<Begun, Error> {
        let (name, kind) = (wish.name.clone(), wish.kind);
        match operation::begin(&self.node, sandbox, wish).await? {
            Ok(begun) => {
                // The span has the request; from here on the operation stands for it.
                tracing::info!(sandbox = %sandbox.id, operation = %begun.operation, %kind, "begun");
                Ok(begun)
            }
            Err(Refusal::UnderWay(operation)) => {
                let kind = self.node.read(|state| {
                    state.sandboxes.get(&sandbox.id).and_then(|it| it.work.as_ref()).map(|work| work.kind)
                });
                Err(under_way(sandbox, operation, kind))
            }
            Err(Refusal::SnapshotExists(other)) if name.is_some() => {
                let name = name.map(|name| name.to_string()).unwrap_or_default();
                let message = format!("the snapshot {other} has the name {name}; choose another, or delete it first");
                Err(Error::new(Code::SnapshotExists, message).about(sandbox.id))
            }
            Err(Refusal::WrongPhase(_)) => {
                let now = self.node.read(|state| state.sandboxes.get(&sandbox.id).cloned());
                Err(now.map_or_else(|| no_such_sandbox(sandbox.id), |now| wrong_phase(&now, RUNNING)))
            }
            Err(refusal) => Err(Error::from(refusal).about(sandbox.id)),
        }
    }

    /// The host somebody named to move to; refused where it can only be a mistake.
    fn target_host(&self, sandbox: &Sandbox, name: &str) -> Result<HostId, Error> {
        let to = self.host_called(name)?;
        let here = sandbox.assignment.and_then(|at| self.node.read(|state| state.hosts.get(&at.host).cloned()));
        if here.as_ref().is_some_and(|here| here.id == to.id) {
            let message = format!("{} is on {} already; name another host, or none", sandbox.id, to.name);
            return Err(Error::new(Code::SameHost, message).about(sandbox.id));
        }
        let theirs = &to.facts.architecture;
        if let Some(here) = here.filter(|here| here.facts.architecture != *theirs) {
            let message = format!(
                "{} is {theirs} and {} is {}; a sandbox moves only between hosts of one architecture",
                to.name, here.name, here.facts.architecture
            );
            return Err(Error::new(Code::ArchitectureMismatch, message).about(sandbox.id));
        }
        Ok(to.id)
    }
}

/// Whether an operation was begun.
fn is_known(state: &State, id: SandboxId, operation: OperationId) -> bool {
    state.sandboxes.get(&id).is_some_and(|it| {
        it.work.as_ref().is_some_and(|work| work.operation == operation)
            || it.moved.as_ref().is_some_and(|moved| moved.operation == operation)
            || it.trouble.as_ref().is_some_and(|trouble| trouble.operation == operation)
    })
}

/// What became of a migration, if it is over.
fn ended(state: &State, id: SandboxId, operation: OperationId) -> Option<Ended> {
    let Some(sandbox) = state.sandboxes.get(&id) else { return Some(Ended::GivenUp(no_such_sandbox(id))) };
    if sandbox.moved.as_ref().is_some_and(|moved| moved.operation == operation) {
        return Some(Ended::Done);
    }
    if sandbox.work.as_ref().is_some_and(|work| work.operation == operation) {
        return None;
    }
    let trouble = given_up(state, id, operation, Code::MoveFailed);
    Some(Ended::GivenUp(trouble.unwrap_or_else(|| went_away(state, id))))
}

/// Why an operation was given up, if it was.
fn given_up(state: &State, id: SandboxId, operation: OperationId, otherwise: Code) -> Option<Error> {
    let trouble = state.sandboxes.get(&id)?.trouble.as_ref().filter(|it| it.operation == operation)?;
    Some(operation::reason(&trouble.reason, otherwise).about(id))
}

/// The operation ended because the sandbox did, or lost its host.
fn went_away(state: &State, id: SandboxId) -> Error {
    let Some(sandbox) = state.sandboxes.get(&id) else { return no_such_sandbox(id) };
    let message = format!("{id} is {} now ({}); the operation ended with that", sandbox.phase, sandbox.reason);
    Error::new(Code::Conflict, message).about(id)
}

pub(super) fn under_way(sandbox: &Sandbox, operation: OperationId, kind: Option<WorkKind>) -> Error {
    let what = kind.map_or("operation", WorkKind::as_str);
    let message = format!(
        "a {what} of {} is under way ({operation}); wait for it with `plimsoll inspect {}`, then repeat",
        sandbox.id, sandbox.id
    );
    Error::new(Code::OperationUnderWay, message).about(sandbox.id)
}

/// How long calls that must not hang wait for what they bring about themselves: less than the 180 s that platforms give a create.
pub(super) const BOUND: Duration = Duration::from_secs(170);
