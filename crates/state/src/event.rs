//! What happened, in order: the audit trail that `GET /v1/events` streams and billing reads.

use crate::model::{Moved, Restored, SnapshotPhase, WorkKind};
use plimsoll_types::{Generation, Health, HostId, OperationId, Phase, SandboxId, SnapshotId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The raft index of the command that made it.
    pub index: u64,
    /// Its place among the events of that command, from zero: (index, seq) orders all events.
    pub seq: u32,
    /// When the command was proposed.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A sandbox entered a phase.
    Sandbox {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// The phase it entered.
        phase: Phase,
        /// At which generation.
        generation: Generation,
        /// On which host, if any.
        host: Option<HostId>,
        /// Why, if a reason was given.
        reason: Box<str>,
    },
    /// An operation on a sandbox began, took its snapshot, or was given up.
    Work {
        /// On which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// Which operation.
        operation: OperationId,
        /// What is done.
        kind: WorkKind,
        /// `began`, `taken`, `done`, or why it was given up.
        change: Box<str>,
    },
    /// A sandbox moved to another host and runs there.
    Moved {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// From where, to where, how long it stood still and what was sent.
        moved: Moved,
    },
    /// A sandbox begins again elsewhere because its host is lost.
    Restored {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// From which host and snapshot, and what is gone.
        restored: Restored,
    },
    /// A sandbox was held still in memory, or goes on.
    Frozen {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// Whether it is held still now.
        frozen: bool,
    },
    /// A snapshot was begun, became available, or is gone.
    Snapshot {
        /// Which.
        snapshot: SnapshotId,
        /// Of which sandbox.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// Its phase afterwards; `None` once gone.
        phase: Option<SnapshotPhase>,
    },
    /// A sandbox's deadline moved.
    Deadline {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// The new one.
        deadline: Option<Timestamp>,
    },
    /// A host's health, cordon or quarantine changed, or it was added or removed.
    Host {
        /// Which.
        host: HostId,
        /// Its health afterwards; `None` once removed.
        health: Option<Health>,
        /// What changed, in a few words.
        change: Box<str>,
    },
    /// Keys, policy or the cluster's identity changed.
    Cluster {
        /// What changed, in a few words; never a secret.
        change: Box<str>,
    },
}
