//! What happened, as `GET /v1/events` tells it.

use super::{
    operation::{Moved, Restored, WorkKind},
    snapshot::SnapshotPhase,
    units::Time,
};
use plimsoll_types::{Health, OperationId, Phase, SandboxId, SnapshotId, TenantId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The place of an event among all: raft index and number within the command. Written `<index>-<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The raft index of the command that made it.
    pub index: u64,
    /// Its place among that command's events.
    pub seq: u32,
}

/// Text that is no event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event id: write <index>-<seq>, as the stream's `id` lines do")]
pub struct InvalidEventId(String);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.index, self.seq)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;
    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let parsed = text
            .split_once('-')
            .and_then(|(index, seq)| Some(Self { index: index.parse().ok()?, seq: seq.parse().ok()? }));
        parsed.ok_or_else(|| InvalidEventId(text.chars().take(64).collect()))
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The raft index of the command that made it.
    pub index: u64,
    /// Its place among that command's events.
    pub seq: u32,
    /// When.
    pub at: Time,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// Its place among all; send it as `Last-Event-ID` to go on after it.
    #[must_use]
    pub const fn id(&self) -> EventId {
        EventId { index: self.index, seq: self.seq }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A sandbox entered a phase.
    Sandbox {
        /// Which.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// The phase.
        #[schema(schema_with = super::schema::phase)]
        phase: Phase,
        /// At which generation.
        generation: u64,
        /// On which host (its id; the host may be gone since).
        #[serde(default)]
        host: Option<String>,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// An operation on a sandbox began, took its snapshot, was done, or was given up.
    Work {
        /// Which sandbox.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// Which operation.
        #[schema(value_type = String)]
        operation: OperationId,
        /// What is done.
        kind: WorkKind,
        /// `began`, `taken`, `done`, or why it was given up.
        change: String,
    },
    /// A sandbox moved to another host and runs there.
    Moved {
        /// Which.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// From where (hosts by id), to where, how long it stood still and what was sent.
        moved: Moved,
    },
    /// A sandbox begins again elsewhere because its host is lost.
    Restored {
        /// Which.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// From which host (its id) and snapshot, and what is gone.
        restored: Restored,
    },
    /// A sandbox was held still in memory, or goes on.
    Frozen {
        /// Which.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// Whether it is held still now.
        frozen: bool,
    },
    /// A snapshot was begun, became available, is being deleted, or is gone.
    Snapshot {
        /// Which.
        #[schema(value_type = String)]
        snapshot: SnapshotId,
        /// Of which sandbox.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// Its phase afterwards; absent once gone.
        #[serde(default)]
        phase: Option<SnapshotPhase>,
    },
    /// A sandbox's deadline moved.
    Deadline {
        /// Which.
        #[schema(value_type = String)]
        sandbox: SandboxId,
        /// Whose.
        #[schema(value_type = String)]
        tenant: TenantId,
        /// The new one; absent for never.
        #[serde(default)]
        deadline: Option<Time>,
    },
    /// A host changed (operators only).
    Host {
        /// Which (its id).
        host: String,
        /// Its health afterwards; absent once removed.
        #[serde(default)]
        #[schema(schema_with = super::schema::health)]
        health: Option<Health>,
        /// What changed.
        change: String,
    },
    /// Keys, policy or membership changed (operators only).
    Cluster {
        /// What changed.
        change: String,
    },
}
