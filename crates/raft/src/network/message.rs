//! What peers say to each other. Fields may be added; a variant a peer does not know is answered with an error.

use crate::types::{Peer, Proposal, SnapshotMeta, TypeConfig, Vote};
use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use plimsoll_state::Outcome;
use plimsoll_types::ClusterId;
use serde::{Deserialize, Serialize};

/// The protocol's version. Raised only for changes that adjacent releases cannot bridge.
pub(crate) const PROTOCOL: u32 = 1;

/// The first words of whoever connects.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// Who connects; `None` for a node that wants to join.
    pub(crate) from: Option<Origin>,
}

/// Who connects, and whom it expects.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) cluster: ClusterId,
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) protocol: u32,
    pub(crate) node: u64,
}

/// A question to a peer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// A piece of a snapshot; offset 0 begins a new one.
    SnapshotChunk {
        offset: u64,
        data: Bytes,
    },
    /// The snapshot is complete: install it.
    SnapshotEnd {
        vote: Vote,
        meta: SnapshotMeta,
        length: u64,
    },
    /// To the leader: replicate this.
    Propose(Proposal),
    /// To the leader: up to where must be applied to see everything acknowledged so far?
    ReadIndex,
    /// To the leader: a question for its handler.
    Ask(Bytes),
    /// Let me in (from a node without a certificate).
    Join(JoinRequest),
    /// To the leader: make me a member.
    Admit(AdmitRequest),
    /// To the leader: remove a member.
    Remove(u64),
    /// To the leader: hand over to this voter.
    Handover(u64),
}

/// See [`Request::Join`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    /// The token's text.
    pub(crate) token: String,
    /// A certificate request (DER).
    pub(crate) request: Bytes,
    pub(crate) peer: Peer,
}

/// See [`Request::Admit`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AdmitRequest {
    pub(crate) node: u64,
    pub(crate) peer: Peer,
    /// The token's text.
    pub(crate) token: String,
}

/// What a node that was let in gets. Holds the cluster's keys: travels over TLS only and is never printed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) cluster: ClusterId,
    pub(crate) node: u64,
    pub(crate) cert: Bytes,
    pub(crate) ca_cert: Bytes,
    pub(crate) ca_key: Bytes,
    pub(crate) cluster_secret: Bytes,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grant(node {} of {})", self.node, self.cluster)
    }
}

/// A peer's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    Snapshot(SnapshotResponse<TypeConfig>),
    Applied { index: u64, outcome: Outcome },
    ReadIndex(u64),
    Answer(Bytes),
    Granted(Box<Grant>),
    Done,
    Failed(Failure),
}

/// Why a peer did not do it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// What whoever asked can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Nothing was done; ask the leader.
    NotLeader,
    /// Nothing was done; ask again later.
    Overloaded,
    /// It may still happen.
    NoQuorum,
    /// The token or the certificate is not good.
    Denied,
    /// The id or address is taken.
    NodeExists,
    /// Who asks was removed from the cluster.
    Removed,
    /// Nothing was done, and asking again will not help.
    Refused,
    /// A reason of another release.
    #[serde(other)]
    Other,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
