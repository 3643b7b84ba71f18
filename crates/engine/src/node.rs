//! What every part of the engine on one node shares: the ports, the drivers, and the way to this node's leader loops.

use crate::{
    Error,
    drivers::Drivers,
    leader::{courier::Courier, desk::Desk, leading::Shown, stillness::Stillness},
    options::EngineOptions,
    sessions::Sessions,
};
use plimsoll_lifecycle::ports::{Applied, Clock, Ledger, LedgerError, Registry, ledger};
use plimsoll_state::{Command, Outcome, Sandbox, State};
use plimsoll_types::{OperationId, Phase, SandboxId, SnapshotId, Timestamp};
use std::sync::Arc;

/// Sandboxes looked at in one go: more would hold up apply, and with it every request, by more than a fraction of a millisecond.
pub(crate) const STRIDE: usize = 1024;

/// One node's engine room.
pub(crate) struct Node {
    pub(crate) options: EngineOptions,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drivers: Drivers,
    pub(crate) desk: Desk,
    /// Carries what jobs report.
    pub(crate) courier: Courier,
    /// What is measured while this node leads.
    pub(crate) leading: Shown,
    /// Held while jobs are executed: one executor ends before the next begins.
    pub(crate) executing: tokio::sync::Mutex<()>,
    /// Whose turn it is to hold each sandbox still.
    pub(crate) stillness: Stillness,
    /// What is open into sandboxes through this node.
    pub(crate) sessions: Sessions,
}

impl Node {
    /// Now, by the clock port.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads a value out of the state as applied here.
    pub(crate) fn read<T>(&self, reader: impl FnMut(&State) -> T) -> T {
        ledger::read(self.ledger.as_ref(), reader)
    }

    /// What `take` finds among all sandboxes in a phase. Apply and others have their turn in between, so that those come from states that
    /// follow each other: whoever acts on one is judged by apply.
    pub(crate) async fn walk<T>(
        &self,
        phase: Phase,
        mut take: impl FnMut(&State, &Arc<Sandbox>) -> Option<T>,
    ) -> Vec<T> {
        let (mut found, mut after) = (Vec::new(), None);
        while self.stride(phase, &mut after, |state, sandbox| found.extend(take(state, sandbox))) {
            tokio::task::yield_now().await;
        }
        found
    }

    /// The next few sandboxes in a phase after the last that was looked at; false if there are no more.
    pub(crate) fn stride(
        &self,
        phase: Phase,
        after: &mut Option<SandboxId>,
        mut look: impl FnMut(&State, &Arc<Sandbox>),
    ) -> bool {
        self.read(|state| {
            let mut looked = 0;
            for sandbox in state.in_phase_after(phase, *after).take(STRIDE) {
                look(state, sandbox);
                *after = Some(sandbox.id);
                looked += 1;
            }
            looked == STRIDE
        })
    }

    /// Proposes; a refusal of the whole command is an error.
    pub(crate) async fn commit(&self, command: Command) -> Result<Outcome, Error> {
        let Applied { outcome, .. } = self.ledger.propose(command).await?;
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
                Ok(outcome)
            }
        }
    }

    /// Proposes a command with one item and answers that item's outcome. News of sandboxes travel together while this node leads.
    pub(crate) async fn commit_one(
        &self,
        mut command: Command,
    ) -> Result<Result<(), plimsoll_state::Refusal>, LedgerError> {
        if let Command::Advance(items) = &mut command
            && items.len() == 1
            && let Some(news) = items.pop()
        {
            return self.courier.report(self.ledger.as_ref(), news).await;
        }
        Ok(match self.ledger.propose(command).await?.outcome {
            Outcome::Each(each) => each.into_iter().next().unwrap_or(Ok(())),
            Outcome::Refused(refusal) => Err(refusal),
            Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) => Ok(()),
        })
    }

    /// A new sandbox's id.
    pub(crate) fn new_sandbox(&self) -> SandboxId {
        SandboxId::from_parts(self.now().0, rand::random())
    }

    /// A new operation's id.
    pub(crate) fn new_operation(&self) -> OperationId {
        OperationId::from_parts(self.now().0, rand::random())
    }

    /// A new snapshot's id.
    pub(crate) fn new_snapshot(&self) -> SnapshotId {
        SnapshotId::from_parts(self.now().0, rand::random())
    }

    /// The registry, if one is configured.
    pub(crate) fn registry(&self) -> Option<Arc<dyn Registry>> {
        self.drivers.dialler().registry()
    }
}
