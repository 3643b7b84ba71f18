//! Operations on sandboxes that are there already: what is under way, and what earlier ones came to.

use super::units::{Cpu, Size, Time};
use plimsoll_types::{OperationId, SandboxId, SnapshotId, TenantId};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What is done to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkStage {
    /// The snapshot is being committed and pushed; giving up leaves the sandbox as it was.
    Taking,
    /// The snapshot is in the registry.
    Taken,
}

impl fmt::Display for WorkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Snapshot => "snapshot",
            Self::Checkpoint => "checkpoint",
            Self::Pause => "pause",
            Self::Migrate => "migrate",
        })
    }
}

impl fmt::Display for WorkStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Taking => "taking",
            Self::Taken => "taken",
        })
    }
}

/// The operation on a sandbox that is under way; never two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// Its id: `GET /v1/operations/{id}` tells how it ends.
    #[schema(value_type = String)]
    pub operation: OperationId,
    /// What is done.
    pub kind: WorkKind,
    /// How far it is.
    pub stage: WorkStage,
    /// The snapshot that it takes.
    #[schema(value_type = String)]
    pub snapshot: SnapshotId,
    /// The host a migration goes to (its id, if the host is gone).
    #[serde(default)]
    pub to: Option<String>,
    /// When it began.
    pub began: Time,
    /// When it is given up, if it can still be.
    pub deadline: Time,
}

/// Why the last operation on a sandbox was given up; the sandbox is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// Which operation.
    #[schema(value_type = String)]
    pub operation: OperationId,
    /// What it was to do.
    pub kind: WorkKind,
    /// When it was given up.
    pub at: Time,
    /// Why: a code and a sentence.
    pub reason: String,
}

/// A move from one host to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Which operation.
    #[schema(value_type = String)]
    pub operation: OperationId,
    /// From which host (its id, if the host is gone).
    pub from: String,
    /// To which host (likewise).
    pub to: String,
    /// When it was switched.
    pub at: Time,
    /// How long it did not run, in milliseconds.
    pub downtime_ms: u64,
    /// Bytes that were sent to the registry and fetched from it.
    pub bytes: Size,
}

/// A restore after a host was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// The host that was lost (its id, if it was removed since).
    pub from: String,
    /// What the sandbox was restored from.
    #[schema(value_type = String)]
    pub snapshot: SnapshotId,
    /// When a new host was chosen.
    pub at: Time,
    /// What it did in this time before the loss is gone, in milliseconds.
    pub window_ms: u64,
}

/// The snapshot that a sandbox would be restored from now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Which.
    #[schema(value_type = String)]
    pub snapshot: SnapshotId,
    /// What came later is not in it.
    pub taken_at: Time,
    /// How old it is, in seconds.
    pub age_s: u64,
}

/// An operation: whatever `Prefer: respond-async` was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    #[schema(value_type = String, example = "op-01jd8x2m9rkq4w7c5v3t6y0zab")]
    pub id: OperationId,
    /// What is done.
    pub kind: WorkKind,
    /// The sandbox it is done to.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// How it stands.
    pub state: OperationState,
    /// How far it is, while it is under way.
    #[serde(default)]
    pub stage: Option<WorkStage>,
    /// The snapshot that it takes or took.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub snapshot: Option<SnapshotId>,
    /// The host a migration goes to (its id, if the host is gone), while it is under way.
    #[serde(default)]
    pub to: Option<String>,
    /// When it began; absent once that is no longer known.
    #[serde(default)]
    pub began: Option<Time>,
    /// When it is given up, while it is under way.
    #[serde(default)]
    pub deadline: Option<Time>,
    /// When it was done or given up.
    #[serde(default)]
    pub ended: Option<Time>,
    /// Why it was given up: a code and a sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What a migration came to.
    #[serde(default)]
    pub moved: Option<Moved>,
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Given up; the sandbox is as it was, or went another way.
    GivenUp,
}

/// To resume a paused sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeSandbox {
    /// On which host, by name or id; only operators may say. The one that fits best if absent, those that hold its layers first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Seconds it lives from now, 0 for ever; if absent, until its deadline, or as long again as it was made for if that has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
}

/// To move a sandbox to another host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MigrateSandbox {
    /// To which host, by name or id; only operators may say. The one that fits best if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What keeps a sandbox awake, or how long it has been idle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Awake {
    /// After how many idle seconds it is paused; absent if it never is.
    #[serde(default)]
    pub idle_timeout_s: Option<u64>,
    /// Since when it has done nothing; absent while it works, does not run, or has no idle timeout.
    #[serde(default)]
    pub idle_since: Option<Time>,
    /// When it is paused if it stays idle.
    #[serde(default)]
    pub pauses_at: Option<Time>,
    /// CPUs it used when it was last looked at.
    #[serde(default)]
    pub cpu: Option<Cpu>,
    /// Commands, streams and transfers that are open.
    pub sessions: u32,
    /// What keeps it awake, in a few words each; empty while it is idle.
    #[serde(default)]
    pub because: Vec<String>,
}
