//! Bringing a sandbox back to running, whatever it is in: thawed, resumed from its pause, restored from a lost host, or waited for.
//! Everything that asks for a sandbox comes through here, so that they all agree.

use super::{
    VpsClusterProvider, misunderstood,
    operations::{BOUND, under_way},
    target::wrong_phase,
};
use crate::{
    Error,
    leader::desk::ResumeWish,
    operation,
    questions::{Answer, Question},
    request::{Provided, Scope, Wait, no_such_sandbox},
    sessions::Session,
};
use plimsoll_state::{Command, Sandbox, State, command::SetDeadline};
use plimsoll_types::{Code, HostId, HostLossPolicy, Millis, Phase, SandboxId, Timestamp};
use std::{sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// From where a sandbox can be brought to run.
const REVIVABLE: &[Phase] = &[Phase::Running, Phase::Pausing, Phase::Paused, Phase::Lost];
/// Between two tries to find room for a paused sandbox whose caller waits for it.
const ROOM_PAUSE: Duration = Duration::from_millis(500);
/// Between two tries while somebody else's choice of a host is being committed, and how many: longer than an election.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
const TRIES: u32 = 300;

/// How a sandbox is brought back.
#[derive(Clone, Copy, Default)]
pub(super) struct Revival {
    /// Where to, if it is paused.
    pub(super) to: Option<HostId>,
    /// How long it lives from now on.
    pub(super) lifetime: Option<Millis>,
    /// How long it may wait for room.
    pub(super) room: Option<Millis>,
}

impl VpsClusterProvider {
    /// The sandbox as it runs, and whether it was brought back; without waiting, as it is once that was begun.
    pub(super) async fn revive(&self, id: SandboxId, how: Revival, wait: Wait) -> Result<(Arc<Sandbox>, bool), Error> {
        let began = Instant::now();
        let (mut recovered, mut tries, mut asked) = (false, 0, None);
        loop {
            let sandbox =
                self.node.read(|state| state.sandboxes.get(&id).cloned()).ok_or_else(|| no_such_sandbox(id))?;
            match sandbox.phase {
                Phase::Running if sandbox.frozen_since.is_some() => {
                    let thawed = self.set_frozen(&sandbox, false).await?;
                    return Ok((thawed, recovered));
                }
                Phase::Running => return Ok((sandbox, recovered)),
                // It was given a host and could not run there: asking again and again would only hide why.
                Phase::Paused if asked.is_some_and(|asked| sandbox.generation > asked) => {
                    return Err(operation::reason(&sandbox.reason, Code::StartFailed).about(id));
                }
                Phase::Paused => match self.ask_resume(&sandbox, how).await {
                    Ok(()) => (recovered, asked) = (true, Some(sandbox.generation)),
                    Err(error) if error.code == Code::NoCapacity && self.may_wait(how, wait, began) => {
                        time::sleep(ROOM_PAUSE).await;
                        continue;
                    }
                    // Somebody else was faster, or is about to be.
                    Err(_) if self.has_left(id, Phase::Paused) => {}
                    Err(error) if error.code == Code::Conflict && tries < TRIES => {
                        tries += 1;
                        time::sleep(CONFLICT_PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error.about(id)),
                },
                Phase::Lost | Phase::Restoring => recovered = true,
                Phase::Pending | Phase::Assigned | Phase::Starting | Phase::Pausing | Phase::Migrating => {}
                Phase::Failed | Phase::Terminating | Phase::Terminated => return Err(super::waiting::ended(&sandbox)),
            }
            if wait == Wait::No {
                if sandbox.phase == Phase::Pausing
                    && let Some(work) = &sandbox.work
                {
                    return Err(under_way(&sandbox, work.operation, Some(work.kind)));
                }
                let now = self.node.read(|state| state.sandboxes.get(&id).cloned());
                return now.map(|now| (now, recovered)).ok_or_else(|| no_such_sandbox(id));
            }
            let (phase, generation) = (sandbox.phase, sandbox.generation);
            let moved_on = |state: &State| {
                let same = |it: &Arc<Sandbox>| it.phase == phase && it.generation == generation;
                (!state.sandboxes.get(&id).is_some_and(same)).then_some(Ok(()))
            };
            self.watch(id, wait.left(began), moved_on).await?;
        }
    }

    fn may_wait(&self, how: Revival, wait: Wait, began: Instant) -> bool {
        let limit = how.room.map_or(Duration::ZERO, |room| Duration::from_millis(room.0));
        wait != Wait::No && began.elapsed() < limit && wait.left(began) != Wait::Upto(Duration::ZERO)
    }

    fn has_left(&self, id: SandboxId, phase: Phase) -> bool {
        self.node.read(|state| state.sandboxes.get(&id).is_none_or(|it| it.phase != phase))
    }

    async fn ask_resume(&self, sandbox: &Sandbox, how: Revival) -> Result<(), Error> {
        let deadline = new_deadline(sandbox, how.lifetime, self.node.now());
        let wish = ResumeWish { sandbox: sandbox.id, to: how.to, deadline };
        let answer = self.ask(&Question::Resume(wish)).await;
        // The leader has applied it; this node is about to.
        self.barrier().await?;
        match answer? {
            Answer::Host(_) => Ok(()),
            Answer::Placed(_)
            | Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Awake(_)
            | Answer::Noted
            | Answer::Left(_)
            | Answer::Moves(_)
            | Answer::Error(_) => Err(misunderstood()),
        }
    }

    pub(super) async fn resume_sandbox(
        &self,
        scope: &Scope,
        id: SandboxId,
        to: Option<&str>,
        lifetime: Option<Millis>,
        wait: Wait,
    ) -> Result<Provided, Error> {
        let found = self.visible(scope, id).await?;
        if !found.phase.is_live() {
            return Err(wrong_phase(&found, REVIVABLE));
        }
        let to = to.map(|name| self.host_called(name).map(|host| host.id)).transpose()?;
        let how = Revival { to, lifetime, room: None };
        let (mut sandbox, recovered) = self.revive(id, how, wait).await?;
        if !recovered && lifetime.is_some() {
            let deadline = new_deadline(&sandbox, lifetime, self.node.now());
            let set = SetDeadline { sandbox: id, deadline, at: self.node.now() };
            self.node.commit_one(Command::SetDeadline(set)).await?.map_err(|refusal| Error::from(refusal).about(id))?;
            sandbox = self.visible_here(scope, id)?;
        }
        Ok(Provided { sandbox, created: false, recovered })
    }

    /// A sandbox that a call into it can reach: brought back first if it is paused or frozen, within bounds that callers can wait.
    pub(super) async fn roused(&self, scope: &Scope, id: SandboxId) -> Result<Arc<Sandbox>, Error> {
        let sandbox = self.visible(scope, id).await?;
        let comes_back = match sandbox.phase {
            Phase::Running | Phase::Pausing | Phase::Paused | Phase::Migrating | Phase::Restoring => true,
            // One that ran before is on its way back.
            Phase::Assigned | Phase::Starting => sandbox.started_at.is_some(),
            Phase::Lost => {
                sandbox.spec.on_host_loss == HostLossPolicy::Restore
                    && self.node.read(|state| state.newest_snapshot(id).is_some())
            }
            Phase::Pending | Phase::Failed | Phase::Terminating | Phase::Terminated => false,
        };
        if !comes_back {
            return Err(wrong_phase(&sandbox, &[Phase::Running, Phase::Paused]));
        }
        if sandbox.phase == Phase::Running && sandbox.frozen_since.is_none() {
            return Ok(sandbox);
        }
        let (sandbox, _) = self.revive(id, Revival::default(), Wait::Upto(BOUND)).await?;
        Ok(sandbox)
    }

    pub(super) async fn freeze_sandbox(
        &self,
        scope: &Scope,
        id: SandboxId,
        frozen: bool,
    ) -> Result<Arc<Sandbox>, Error> {
        let sandbox = self.visible(scope, id).await?;
        if sandbox.phase != Phase::Running {
            return Err(wrong_phase(&sandbox, &[Phase::Running]));
        }
        self.set_frozen(&sandbox, frozen).await
    }

    /// The leader commits the wish and tells Docker, so that no operation on the sandbox comes in between.
    async fn set_frozen(&self, sandbox: &Sandbox, frozen: bool) -> Result<Arc<Sandbox>, Error> {
        let id = sandbox.id;
        // What is thawed is about to be used: for the leader it is awake from now on.
        let _awake = (!frozen).then(|| Session::begin(&self.node, id));
        let question = Question::Freeze { sandbox: id, generation: sandbox.generation, frozen };
        let answer = self.ask(&question).await;
        // The leader has applied it; this node is about to.
        self.barrier().await?;
        match answer? {
            Answer::Noted => {}
            Answer::Placed(_)
            | Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Awake(_)
            | Answer::Left(_)
            | Answer::Moves(_)
            | Answer::Error(_) => return Err(misunderstood()),
        }
        self.node.read(|state| state.sandboxes.get(&id).cloned()).ok_or_else(|| no_such_sandbox(id))
    }
}

/// The deadline after a resume, if it changes: by the lifetime that is given, or, where the old one has passed, by its own.
fn new_deadline(sandbox: &Sandbox, lifetime: Option<Millis>, now: Timestamp) -> Option<Timestamp> {
    let passed = sandbox.deadline.is_some_and(|deadline| deadline <= now);
    lifetime.or_else(|| sandbox.lifetime.filter(|_| passed)).map(|lifetime| now.plus(lifetime))
}
