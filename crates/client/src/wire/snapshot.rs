//! Snapshots on the wire.

use super::units::{Size, Time};
use plimsoll_types::{Digest, ImageRef, SandboxId, SnapshotId, SnapshotName, TenantId};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A snapshot to take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TakeSnapshot {
    /// What to call it; unique among the tenant's snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "before-upgrade")]
    pub name: Option<SnapshotName>,
}

/// A snapshot as it is: a sandbox's root filesystem and workspace, as they stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    #[schema(value_type = String, example = "sn-01jd8x2m9rkq4w7c5v3t6y0zab")]
    pub id: SnapshotId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// What it is called, if somebody named it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub name: Option<SnapshotName>,
    /// Why it was taken, which decides how long it is kept.
    pub kind: SnapshotKind,
    /// How far it is.
    pub phase: SnapshotPhase,
    /// The sandbox it was taken of.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// That sandbox's incarnation.
    pub generation: u64,
    /// What that sandbox's image was.
    #[schema(value_type = String)]
    pub image: ImageRef,
    /// When it was asked for.
    pub created_at: Time,
    /// When the sandbox was held still for it: what came later is not in it. Absent until it is available, as all below.
    #[serde(default)]
    pub taken_at: Option<Time>,
    /// Its repository in the registry.
    #[serde(default)]
    pub repository: Option<String>,
    /// Its digest there.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Compressed size of all its layers, those of the image included.
    #[serde(default)]
    pub size: Option<Size>,
    /// Of that, what was sent: the registry had the rest.
    #[serde(default)]
    pub sent: Option<Size>,
    /// How many layers it has.
    #[serde(default)]
    pub layers: Option<u32>,
    /// The architecture it runs on.
    #[serde(default)]
    pub architecture: Option<String>,
    /// The host it was taken on (its id, if the host is gone).
    #[serde(default)]
    pub host: Option<String>,
    /// A sandbox that needs it to come back: while there is one, the snapshot cannot be deleted.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub used_by: Option<SandboxId>,
}

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Somebody asked: until somebody deletes it.
    Kept,
    /// The sandbox's policy: until enough newer ones exist, or the sandbox ends.
    Checkpoint,
    /// A pause: until the sandbox does not need it any more.
    Pause,
    /// A migration: as a pause.
    Transfer,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotPhase {
    /// Being committed and pushed.
    Taking,
    /// In the registry; sandboxes can start from it.
    Available,
    /// Being deleted; nothing can start from it.
    Deleting,
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Checkpoint => "checkpoint",
            Self::Pause => "pause",
            Self::Transfer => "transfer",
        })
    }
}

impl fmt::Display for SnapshotPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Taking => "taking",
            Self::Available => "available",
            Self::Deleting => "deleting",
        })
    }
}

/// What a pause came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// The sandbox: paused, without a host and a reservation.
    #[serde(flatten)]
    pub sandbox: super::Sandbox,
    /// The snapshot it comes back from; absent if it was paused before it ever ran.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub snapshot_id: Option<SnapshotId>,
}
