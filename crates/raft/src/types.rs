//! The types raft is instantiated with. No openraft type is visible outside this crate.

use bytes::Bytes;
use plimsoll_state::{Command, Outcome};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of one encoded command. A larger one would make a page of sled and a frame of the peer protocol too large
/// ([`crate::network::frame::MAX_FRAME`] leaves room for one such entry after a full batch).
pub(crate) const MAX_COMMAND_BYTES: usize = 4 << 20;

/// A command as it is kept in the log: encoded once, by the node it was proposed on, and decoded only by apply. A node that
/// does not know the command can still store it and pass it on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl Proposal {
    pub(crate) fn encode(command: &Command) -> Result<Self, String> {
        let bytes = rmp_serde::to_vec_named(command).map_err(|error| error.to_string())?;
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(format!(
                "the command has {} bytes; at most {MAX_COMMAND_BYTES} can be replicated",
                bytes.len()
            ));
        }
        Ok(Self(bytes.into()))
    }

    pub(crate) fn decode(&self) -> Result<Command, rmp_serde::decode::Error> {
        rmp_serde::from_slice(&self.0)
    }
}

/// Only the size: commands may hold what no log line should.
impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What apply answered; `None` for entries that hold no command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Option<Outcome>);

/// What the membership knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Where peers reach it, as `host:port`.
    pub(crate) raft_address: String,
    /// Where its API is, as a URL.
    #[serde(default)]
    pub(crate) api_url: String,
}

openraft::declare_raft_types!(
    /// Standard raft (one leader per term) with our payloads.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
pub(crate) type Committed = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<Committed>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Proposal, u64, Peer>;
pub(crate) type Entry = openraft::Entry<Committed, Payload>;
pub(crate) type StoredMembership = openraft::StoredMembership<Committed, u64, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Committed, u64, Peer>;
pub(crate) type Snapshot = openraft::Snapshot<Committed, u64, Peer, crate::store::snapshots::SnapshotFile>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;
