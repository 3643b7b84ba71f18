//! Snapshots as records: what the registry holds, whose it is and how long it is kept.

use plimsoll_types::{
    Bytes, Digest, Generation, HostId, ImageRef, SandboxId, SnapshotId, SnapshotName, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Why a snapshot was taken, which decides how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotPhase {
    /// Being committed and pushed.
    Taking,
    /// In the registry, by digest; sandboxes can start from it.
    Available,
    /// Being deleted; nothing can start from it.
    Deleting,
}

/// An immutable image, with the workspace in it, that a sandbox can start from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What the platform calls it.
    pub name: Option<SnapshotName>,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// How far it is.
    pub phase: SnapshotPhase,
    /// Of which sandbox.
    pub sandbox: SandboxId,
    /// Of which incarnation.
    pub generation: Generation,
    /// What that sandbox's image was, so that a new sandbox knows what it is made of.
    pub image: ImageRef,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What is in the registry, once it is.
    pub stored: Option<Stored>,
}

/// What a snapshot is in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The repository.
    pub repository: Box<str>,
    /// The manifest's digest.
    pub digest: Digest,
    /// Compressed size of all layers.
    pub size: Bytes,
    /// Of these, what was sent: the registry had the other layers.
    #[serde(default)]
    pub sent: Bytes,
    /// Layers it has.
    pub layers: u32,
    /// The architecture it runs on, as Docker says it.
    pub architecture: Box<str>,
    /// When the sandbox was held still for it: what came later is not in it.
    pub taken_at: Timestamp,
    /// The host it was taken on, which has its layers.
    pub host: HostId,
}

impl SnapshotKind {
    /// The name in the API and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Checkpoint => "checkpoint",
            Self::Pause => "pause",
            Self::Transfer => "transfer",
        }
    }
}

impl SnapshotPhase {
    /// The name in the API and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taking => "taking",
            Self::Available => "available",
            Self::Deleting => "deleting",
        }
    }
}
