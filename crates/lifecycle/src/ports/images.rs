//! Snapshots as images: what a host commits, pushes and pulls, and what a registry holds.

use super::host::{HostError, Mount};
use async_trait::async_trait;
use plimsoll_types::{Bytes, ClusterId, Digest, Generation, SandboxId, SnapshotId, Timestamp};

/// A snapshot to be made of a container and its workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPlan {
    /// The container, by Docker's full id.
    pub container: String,
    /// Whose labels the helper and the image get.
    pub cluster: ClusterId,
    /// Of which sandbox.
    pub sandbox: SandboxId,
    /// Of which incarnation.
    pub generation: Generation,
    /// The snapshot's id; the image's local name and its tag in the registry follow from it.
    pub snapshot: SnapshotId,
    /// The workspace that belongs in it.
    pub workspace: Mount,
    /// The repository in the registry.
    pub repository: String,
}

/// A snapshot in the registry, and what a host is to know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotImage {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Its id; the local name follows from it.
    pub snapshot: SnapshotId,
    /// The repository in the registry.
    pub repository: String,
    /// The manifest's digest.
    pub digest: Digest,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest, with environment, labels and command as those of the image that the sandbox was made from.
    pub digest: Digest,
    /// Compressed size of all layers.
    pub size: Bytes,
    /// Compressed size of the layers that the registry did not have.
    pub sent: Bytes,
    /// How many layers.
    pub layers: u32,
    /// The architecture, as Docker's info says it.
    pub architecture: String,
}

/// One of the cluster's snapshot images on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    /// Its local name, to remove it by.
    pub name: String,
    /// The snapshot that its name tells; `None` where it tells none.
    pub snapshot: Option<SnapshotId>,
    /// Size on disk, shared layers included.
    pub size: Bytes,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What takes room on a host's disk, as Docker accounts for it: all that is not the cluster's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The cluster's snapshot images.
    pub snapshots: Bytes,
    /// What containers of the cluster have written, without their workspaces.
    pub sandboxes: Bytes,
    /// Images that are no snapshots of the cluster's: those that sandboxes are made from, and anybody else's.
    pub images: Eaters,
    /// What containers that are not the cluster's have written.
    pub containers: Eaters,
    /// Volumes that are not the cluster's.
    pub volumes: Eaters,
    /// Docker's build cache.
    pub build_cache: Bytes,
}

/// Things of one kind that take room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eaters {
    /// All of them together.
    pub size: Bytes,
    /// How many.
    pub count: u64,
    /// The largest by name, largest first; [`Eaters::NAMED`] at most.
    pub largest: Vec<(String, Bytes)>,
}

impl Eaters {
    /// Named ones: the largest few are usually nearly all, and the sentence is read in a table.
    pub const NAMED: usize = 3;

    /// Sums these up; what takes no room does not count.
    #[must_use]
    pub fn of(each: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let mut largest: Vec<(String, Bytes)> = each.into_iter().filter(|(_, size)| *size != Bytes::ZERO).collect();
        largest.sort_by(|(left, small), (right, large)| (large, left).cmp(&(small, right)));
        let size = Bytes(largest.iter().map(|(_, size)| size.0).fold(0, u64::saturating_add));
        let count = largest.len() as u64;
        largest.truncate(Self::NAMED);
        Self { size, count, largest }
    }
}

/// A snapshot that the registry holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredSeen {
    /// The repository.
    pub repository: String,
    /// The tag: a snapshot's id, where we wrote it.
    pub tag: String,
    /// The snapshot that the tag tells.
    pub snapshot: Option<SnapshotId>,
}

/// The registry, as the control plane sees it.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Whether it answers.
    ///
    /// # Errors
    /// As every method here: `registry_unreachable`, or what it said.
    async fn check(&self) -> Result<(), HostError>;

    /// Whether it has a manifest by digest.
    async fn contains(&self, repository: &str, digest: &Digest) -> Result<bool, HostError>;

    /// Deletes whatever a snapshot's tag names; missing is success.
    async fn delete(&self, repository: &str, snapshot: SnapshotId) -> Result<(), HostError>;

    /// Every tag in the cluster's repositories.
    async fn list(&self, cluster: ClusterId) -> Result<Vec<StoredSeen>, HostError>;
}
