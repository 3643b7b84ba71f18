//! The `Ledger` port.

use super::{Node, barrier, route};
use crate::{
    metrics,
    network::message::{Request, Response},
    types::Proposal,
};
use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::ports::{Applied, LeaderHandler, LeaderView, Ledger, LedgerError};
use plimsoll_state::{Command, State};
use plimsoll_types::NodeId;
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// How long the leader's handler may take. It may wait for room on a host; a lost connection ends the wait much earlier.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(300);

#[async_trait]
impl Ledger for Node {
    fn node(&self) -> NodeId {
        self.inner.owner.node
    }

    async fn propose(&self, command: Command) -> Result<Applied, LedgerError> {
        let start = Instant::now();
        let result = self.replicate(&command).await;
        let label = match &result {
            Ok(_) => "applied",
            Err(LedgerError::NoQuorum(_)) => "no_quorum",
            Err(LedgerError::Overloaded) => "overloaded",
            Err(LedgerError::Leader(_) | LedgerError::Closed) => "refused",
        };
        metrics::proposal(label, start.elapsed());
        result
    }

    async fn barrier(&self) -> Result<(), LedgerError> {
        let index = barrier::read_index(&self.inner).await?;
        self.reach(index).await
    }

    fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        self.inner.machine.read_with(reader);
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut changed = self.inner.machine.changed();
        let index = changed.wait_for(|index| *index > seen).await;
        // The sender lives as long as the machine, which this node holds.
        index.map_or(seen, |index| *index)
    }

    fn leader(&self) -> LeaderView {
        *self.inner.leader.borrow()
    }

    async fn leader_changed(&self, seen: LeaderView) -> LeaderView {
        let mut leader = self.inner.leader.subscribe();
        let view = leader.wait_for(|view| *view != seen).await;
        view.map_or(seen, |view| *view)
    }

    async fn ask_leader(&self, question: Bytes) -> Result<Bytes, LedgerError> {
        match route::ask(&self.inner, &Request::Ask(question), ASK_TIMEOUT).await? {
            Response::Answer(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }

    fn serve_leader(&self, handler: Arc<dyn LeaderHandler>) {
        *self.inner.handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }
}

impl Node {
    async fn replicate(&self, command: &Command) -> Result<Applied, LedgerError> {
        let _permit = self.inner.proposals.try_acquire().map_err(|_| LedgerError::Overloaded)?;
        let proposal = Proposal::encode(command).map_err(LedgerError::Leader)?;
        match route::ask(&self.inner, &Request::Propose(proposal), self.inner.options.timers.proposal).await? {
            Response::Applied { index, outcome } => {
                self.reach(index).await?;
                Ok(Applied { index, outcome })
            }
            _ => Err(unexpected()),
        }
    }

    /// Waits until this node has applied an entry.
    async fn reach(&self, index: u64) -> Result<(), LedgerError> {
        let mut applied = self.inner.machine.applied();
        let reached = applied.wait_for(|applied| *applied >= index);
        tokio::select! {
            () = self.inner.stop.cancelled() => Err(LedgerError::Closed),
            reached = tokio::time::timeout(self.inner.options.timers.proposal, reached) => match reached {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(LedgerError::Closed),
                Err(_) => Err(LedgerError::NoQuorum(format!("entry {index} is committed but has not reached this node yet"))),
            },
        }
    }
}

fn unexpected() -> LedgerError {
    LedgerError::Leader("it answered something else".into())
}
