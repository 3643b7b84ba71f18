//! The ledger port: replicated state, however it is replicated.

use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_state::{Command, Outcome, State};
use plimsoll_types::NodeId;
use std::sync::Arc;

/// What a proposal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The raft index it was applied at.
    pub index: u64,
    /// What apply answered.
    pub outcome: Outcome,
}

/// Who leads, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderView {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// The raft term; a term has at most one leader.
    pub term: u64,
    /// Whether that is this node.
    pub is_self: bool,
}

/// Why the ledger did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No leader is known or a majority is gone. Nothing is known of what was proposed: it may still commit.
    #[error("the control plane has no quorum: {0}; retry, or see `plimsoll cluster status`")]
    NoQuorum(String),
    /// Too much is under way; nothing was proposed.
    #[error("too many proposals are under way; retry with a pause")]
    Overloaded,
    /// The leader's handler refused or could not be understood.
    #[error("the leader could not answer: {0}")]
    Leader(String),
    /// The node is shutting down.
    #[error("this node is shutting down")]
    Closed,
}

/// Replicated state. Proposals and questions go on to the leader by themselves.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// Proposes a command, on the leader or through it, and answers once it is applied **here** as well, so that a read
    /// that follows sees it.
    ///
    /// # Errors
    /// See [`LedgerError`]; after `NoQuorum` the command may still be applied later.
    async fn propose(&self, command: Command) -> Result<Applied, LedgerError>;

    /// Returns once this node has applied everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// When no quorum confirms.
    async fn barrier(&self) -> Result<(), LedgerError>;

    /// Shows the state as applied here. Short: it holds up apply.
    fn read_with(&self, reader: &mut dyn FnMut(&State));

    /// Returns the applied index once it is past `seen`.
    async fn changed(&self, seen: u64) -> u64;

    /// Who leads, as this node knows it now.
    fn leader(&self) -> LeaderView;

    /// Returns once the view differs from `seen`.
    async fn leader_changed(&self, seen: LeaderView) -> LeaderView;

    /// Asks the leader's handler (this node's own if it leads) something that only the leader can decide.
    ///
    /// # Errors
    /// When no leader answers; the question may have been acted on all the same.
    async fn ask_leader(&self, question: Bytes) -> Result<Bytes, LedgerError>;

    /// Registers what answers [`Ledger::ask_leader`] while this node leads.
    fn serve_leader(&self, handler: Arc<dyn LeaderHandler>);
}

/// Reads a value out of the state.
pub fn read<T>(ledger: &(impl Ledger + ?Sized), mut reader: impl FnMut(&State) -> T) -> T {
    let mut value = None;
    ledger.read_with(&mut |state| value = Some(reader(state)));
    // A ledger that shows nothing breaks its contract; an empty state is the safe answer.
    value.unwrap_or_else(|| reader(&State::default()))
}

/// What answers the other nodes' questions while this node leads.
#[async_trait]
pub trait LeaderHandler: Send + Sync + 'static {
    /// Answers one question. Errors of the question itself are part of the answer's bytes.
    async fn answer(&self, question: Bytes) -> Bytes;
}
