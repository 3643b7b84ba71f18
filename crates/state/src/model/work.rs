//! Operations on a sandbox that is already there, and what earlier ones left to know.

use super::Assignment;
use plimsoll_types::{Bytes, Generation, HostId, Millis, OperationId, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Replaced incarnations remembered of one sandbox: one that lost its host more often was looked at meanwhile.
pub const SUPERSEDED_LIMIT: usize = 8;

/// An operation on a sandbox, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Its id, which callers wait for.
    pub operation: OperationId,
    /// What is done.
    pub kind: WorkKind,
    /// How far it is.
    pub stage: Stage,
    /// The snapshot that it takes.
    pub snapshot: SnapshotId,
    /// Where a migration goes: capacity is reserved there, at the next generation.
    pub target: Option<Assignment>,
    /// When it began.
    pub began: Timestamp,
    /// When it is given up, if it can still be.
    pub deadline: Timestamp,
}

/// What is done to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// A snapshot somebody asked for.
    Snapshot,
    /// A snapshot that its policy asks for.
    Checkpoint,
    /// A pause.
    Pause,
    /// A migration.
    Migrate,
}

/// How far an operation is; what is between two stages is derived from what stands on the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The snapshot is being committed and pushed. Until it is recorded, giving up leaves the sandbox as it was.
    Taking,
    /// The snapshot is in the registry, by digest.
    Taken,
}

/// Something that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What.
    pub kind: WorkKind,
    /// Which operation.
    pub operation: OperationId,
    /// When.
    pub at: Timestamp,
    /// Why: a code and a sentence.
    pub reason: Box<str>,
}

/// A move that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Which operation.
    pub operation: OperationId,
    /// From where.
    pub from: HostId,
    /// To where.
    pub to: HostId,
    /// When it was switched.
    pub at: Timestamp,
    /// How long it did not run.
    pub downtime: Millis,
    /// Bytes that were sent to the registry and fetched from it.
    pub bytes: Bytes,
}

/// A restore after a host was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The host that was lost.
    pub from: HostId,
    /// What it was restored from.
    pub snapshot: SnapshotId,
    /// When a new host was chosen.
    pub at: Timestamp,
    /// What it had done in this time before the loss is gone: from the snapshot to the last sign of life.
    pub window: Millis,
}

/// An incarnation that was replaced while its host was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// Where it stands.
    pub host: HostId,
    /// Which incarnation.
    pub generation: Generation,
    /// Since when it is replaced.
    pub at: Timestamp,
}

impl WorkKind {
    /// The name in the API, in tables and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Checkpoint => "checkpoint",
            Self::Pause => "pause",
            Self::Migrate => "migrate",
        }
    }
}

impl fmt::Display for WorkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
