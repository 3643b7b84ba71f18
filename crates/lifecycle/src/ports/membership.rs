//! The membership port: who is in the control plane, and how that changes.

use super::ledger::LedgerError;
use async_trait::async_trait;
use plimsoll_types::NodeId;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// Votes.
    Voter,
    /// Receives the log, does not vote yet.
    Learner,
}

/// One member as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// Its id.
    pub node: NodeId,
    /// Where peers reach it.
    pub raft_address: String,
    /// Where its API is, as a URL.
    pub api_url: String,
    /// What it does.
    pub role: MemberRole,
    /// Whether it leads.
    pub leader: bool,
    /// The last log index known to be on it; `None` where the asked node does not know (only the leader does).
    pub matched: Option<u64>,
    /// Milliseconds since it last answered the leader; `None` where unknown.
    pub silent_ms: Option<u64>,
}

/// Changes of the control plane's membership.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Every member.
    fn members(&self) -> Vec<ClusterMember>;

    /// The last log index and the last applied one, here.
    fn progress(&self) -> (u64, u64);

    /// Makes a token that lets one more node join until it expires.
    ///
    /// # Errors
    /// When this node lacks the cluster CA's key (only nodes that were initialised or joined have it).
    async fn join_token(&self) -> Result<String, LedgerError>;

    /// Removes a member; its vote stops counting.
    ///
    /// # Errors
    /// When there is no such member, it is the last voter, or no quorum.
    async fn remove(&self, node: NodeId) -> Result<(), LedgerError>;

    /// Hands leadership to a voter.
    ///
    /// # Errors
    /// When it is no voter or does not take over in time.
    async fn transfer(&self, to: NodeId) -> Result<(), LedgerError>;
}
