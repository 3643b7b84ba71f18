//! What apply answers: one named outcome for every way a command can end.

use plimsoll_types::{Code, HostId, KeyId, OperationId, SandboxId, SnapshotId};
use serde::{Deserialize, Serialize};

/// What apply answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done (or was so already).
    Done,
    /// The host has this id.
    HostAdded(HostId),
    /// The key was added.
    KeyCreated(KeyId),
    /// One answer for each placement, in order.
    Placed(Vec<PlaceOutcome>),
    /// One answer for each item of `Assign`, `Advance` or `Terminate`, in order.
    Each(Vec<Result<(), Refusal>>),
    /// Nothing changed, and why.
    Refused(Refusal),
}

/// How one placement ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceOutcome {
    /// Recorded: assigned to its host, or in the queue.
    Created(SandboxId),
    /// The session has this live sandbox; nothing was recorded.
    SessionLive(SandboxId),
    /// The idempotency key made this sandbox before; nothing was recorded.
    Replayed(SandboxId),
    /// Not recorded; for the reasons of capacity, decide again.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The cluster has an identity already, or none yet.
    Cluster,
    /// No such host.
    HostUnknown,
    /// The host is not ready, cordoned, quarantined or full now: what the placer assumed no longer holds.
    HostChanged,
    /// A host has this name or address.
    HostExists(HostId),
    /// This host is the same machine.
    SameMachine(HostId),
    /// The host holds so many sandboxes.
    HostBusy(u32),
    /// No such sandbox.
    SandboxUnknown,
    /// The news is of another generation.
    GenerationPast,
    /// The sandbox's id, or the container of its generation, stands for something else already.
    Conflict,
    /// The table of moves forbids it.
    WrongPhase(plimsoll_types::Phase),
    /// The deadline is another one now.
    DeadlineMoved,
    /// The queue holds as many as the policy allows.
    QueueFull,
    /// The idempotency key stood for another request.
    IdempotencyMismatch,
    /// No such key.
    KeyUnknown,
    /// A key with this id exists.
    KeyExists,
    /// The join token let a node in already.
    TokenSpent,
    /// A limit of the state machine (labels, hosts, keys, join tokens) would be passed.
    LimitReached,
    /// No such snapshot, or not this tenant's.
    SnapshotUnknown,
    /// A snapshot with this id or name exists.
    SnapshotExists(SnapshotId),
    /// This sandbox needs the snapshot to come back.
    SnapshotInUse(SandboxId),
    /// The snapshot is not finished, or is being deleted.
    SnapshotUnusable,
    /// This operation on the sandbox is under way.
    UnderWay(OperationId),
    /// The sandbox is on that host already.
    SameHost,
    /// The cluster is on hold: nothing is done on hosts.
    OnHold,
    /// It is for a cluster that is on hold, and this one is not.
    NotOnHold,
    /// The command came from a newer release and this one cannot apply it.
    Unsupported,
}

impl Refusal {
    /// The stable code that callers see.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Cluster
            | Self::GenerationPast
            | Self::Conflict
            | Self::DeadlineMoved
            | Self::KeyExists
            | Self::NotOnHold => Code::Conflict,
            Self::OnHold => Code::OnHold,
            Self::HostUnknown => Code::HostNotFound,
            Self::HostChanged => Code::NoCapacity,
            Self::HostExists(_) => Code::HostExists,
            Self::SameMachine(_) => Code::SameMachine,
            Self::HostBusy(_) => Code::HostBusy,
            Self::SandboxUnknown => Code::SandboxNotFound,
            Self::WrongPhase(_) => Code::WrongPhase,
            Self::QueueFull => Code::QueueFull,
            Self::IdempotencyMismatch => Code::IdempotencyMismatch,
            Self::KeyUnknown => Code::KeyNotFound,
            Self::SnapshotUnknown => Code::SnapshotNotFound,
            Self::SnapshotExists(_) => Code::SnapshotExists,
            Self::SnapshotInUse(_) => Code::SnapshotInUse,
            Self::SnapshotUnusable => Code::SnapshotUnusable,
            Self::UnderWay(_) => Code::OperationUnderWay,
            Self::SameHost => Code::SameHost,
            Self::TokenSpent => Code::JoinDenied,
            Self::LimitReached => Code::QuotaExceeded,
            Self::Unsupported => Code::Internal,
        }
    }
}
