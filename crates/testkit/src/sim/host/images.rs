//! Snapshots on a simulated host: what a commit captures, what is pushed and pulled, and what a new container starts from.
//!
//! Docker's own rule about volumes is kept: only an empty one is filled from the image, and what half a try left stays in it.

use super::{Docker, HostOp, docker::gone, files::Tree};
use crate::sim::lock;
use plimsoll_lifecycle::{
    naming::{self, SECRETS_DIR, WORKSPACE},
    ports::{CommitPlan, ContainerPlan, ContainerState, HostError, HostFailure, ImageSeen, Pushed, SnapshotImage},
};
use plimsoll_types::{Bytes, ClusterId, Code, Digest, SnapshotId, Timestamp};
use sha2::{Digest as _, Sha256};

/// Layers of an image that is no snapshot.
pub(super) const PLAIN_LAYERS: u32 = 4;
/// Docker refuses deeper images.
const MAX_LAYERS: u32 = 125;
/// From here on a commit is squashed.
const SQUASH_FROM: u32 = 100;
/// What any image takes on disk and on the wire.
const PLAIN_SIZE: Bytes = Bytes::mib(2);

/// A snapshot as an image; its environment, labels and command are those of the image it began with, which has none.
#[derive(Clone, Debug)]
pub struct SimImage {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// Whose.
    pub cluster: ClusterId,
    /// What names it for ever.
    pub digest: Digest,
    /// How many layers.
    pub layers: u32,
    /// How large.
    pub size: Bytes,
    /// What it runs on.
    pub architecture: String,
    /// When it came to be on this host.
    pub created_at: Timestamp,
    pub(super) files: Tree,
}

impl SimImage {
    /// What it has at a path, if that is a file of text.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<String> {
        self.files.text(path)
    }
}

impl Docker {
    /// Holds a container still; one that does not run is still.
    pub(super) fn freeze(&mut self, container: &str) -> Result<(), HostError> {
        let id = self.find(container).map(|found| found.seen.id.clone()).ok_or_else(|| gone(container))?;
        let Some(found) = self.containers.get_mut(&id) else { return Err(gone(container)) };
        if found.seen.state == ContainerState::Running {
            found.seen.state = ContainerState::Paused;
            let sandbox = found.seen.sandbox;
            self.count(HostOp::Freeze);
            if let Some(sandbox) = sandbox {
                lock(&self.journal).froze(&self.host, sandbox, &id);
            }
        }
        Ok(())
    }

    /// Lets a container go on; one that was not held still is left as it is.
    pub(super) fn thaw(&mut self, container: &str) -> Result<(), HostError> {
        let id = self.find(container).map(|found| found.seen.id.clone()).ok_or_else(|| gone(container))?;
        let Some(found) = self.containers.get_mut(&id) else { return Err(gone(container)) };
        if found.seen.state == ContainerState::Paused {
            found.seen.state = ContainerState::Running;
            self.count(HostOp::Thaw);
            self.runs(&id, false);
        }
        Ok(())
    }

    /// Makes one image of a container and its workspace, which are of one moment because nothing runs in it.
    pub(super) fn commit(&mut self, plan: &CommitPlan, now: Timestamp) -> Result<(), HostError> {
        let found = self.containers.get(&plan.container).cloned().ok_or_else(|| gone(&plan.container))?;
        let ours = found.seen.sandbox == Some(plan.sandbox) && found.seen.generation == Some(plan.generation);
        if found.seen.cluster != Some(plan.cluster) || !ours {
            let text = format!("container {} is not of {} at {}", plan.container, plan.sandbox, plan.generation);
            return Err(HostError::new(HostFailure::Permanent, Code::Conflict, text));
        }
        if found.seen.state == ContainerState::Running {
            let text = format!("{} was to be committed on {} while it ran", plan.sandbox, self.host);
            lock(&self.journal).committed_running(&self.host, text.clone());
            return Err(HostError::new(HostFailure::Transient, Code::Conflict, text));
        }
        self.check_disk()?;
        let mut files = found.files.clone();
        if let Some(workspace) = self.contents.get(&plan.workspace.source) {
            files.absorb(workspace.clone());
        }
        // Memory only: nothing of it reaches a disk.
        files.remove_below(SECRETS_DIR);
        let layers = if found.layers >= SQUASH_FROM { 1 } else { found.layers + 1 };
        let size = PLAIN_SIZE.saturating_add(files.size());
        let digest = self.digest(&files);
        let image = SimImage {
            snapshot: plan.snapshot,
            cluster: plan.cluster,
            digest,
            layers,
            size,
            architecture: self.facts.architecture.clone(),
            created_at: now,
            files,
        };
        self.snapshots.insert(naming::snapshot_image(plan.cluster, plan.snapshot), image);
        self.count(HostOp::Commit);
        Ok(())
    }

    /// Two commits never have the same digest, as their times differ.
    fn digest(&mut self, files: &Tree) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.next_id());
        hash.update(format!("{files:?}"));
        Digest(hash.finalize().into())
    }

    /// Sends a committed snapshot to the registry.
    pub(super) fn push(&mut self, plan: &CommitPlan) -> Result<Pushed, HostError> {
        let name = naming::snapshot_image(plan.cluster, plan.snapshot);
        let image = self.snapshots.get(&name).cloned();
        let image = image.ok_or_else(|| {
            HostError::new(HostFailure::Transient, Code::ImageNotFound, format!("{name} is not on {}", self.host))
        })?;
        let sent = self.registry.push(&plan.repository, &image)?;
        if sent > Bytes::ZERO {
            self.count(HostOp::Push);
        }
        let SimImage { digest, size, layers, architecture, .. } = image;
        Ok(Pushed { digest, size, sent, layers, architecture })
    }

    /// Fetches a snapshot, unless this very one is here.
    pub(super) fn pull(&mut self, wanted: &SnapshotImage, now: Timestamp) -> Result<Bytes, HostError> {
        let name = naming::snapshot_image(wanted.cluster, wanted.snapshot);
        if self.snapshots.get(&name).is_some_and(|image| image.digest == wanted.digest) {
            return Ok(Bytes::ZERO);
        }
        let image = self.registry.pull(&wanted.repository, &wanted.digest)?;
        if image.architecture != self.facts.architecture {
            let text = format!("{name} is for {}, {} is {}", image.architecture, self.host, self.facts.architecture);
            return Err(HostError::new(HostFailure::ThisHost, Code::ArchitectureMismatch, text));
        }
        self.check_disk()?;
        let fetched = image.size;
        self.snapshots.insert(name, SimImage { created_at: now, ..image });
        self.count(HostOp::Pull);
        Ok(fetched)
    }

    /// Stops a container and renames it; missing is success.
    pub(super) fn fence(&mut self, container: &str, name: &str) -> Result<(), HostError> {
        let Some(id) = self.find(container).map(|found| found.seen.id.clone()) else { return Ok(()) };
        self.stop(&id);
        if self.containers.values().any(|other| other.seen.name == name && other.seen.id != id) {
            return Err(HostError::new(HostFailure::Transient, Code::Conflict, format!("{name} is taken")));
        }
        if let Some(found) = self.containers.get_mut(&id).filter(|found| found.seen.name != name) {
            found.seen.name = name.to_owned();
            self.count(HostOp::Fence);
        }
        Ok(())
    }

    /// The cluster's snapshots on this host.
    pub(super) fn list_snapshots(&self, cluster: ClusterId) -> Vec<ImageSeen> {
        let ours = self.snapshots.iter().filter(|(_, image)| image.cluster == cluster);
        let seen = |(name, image): (&String, &SimImage)| ImageSeen {
            name: name.clone(),
            snapshot: Some(image.snapshot),
            size: image.size,
            created_at: image.created_at,
        };
        ours.map(seen).collect()
    }

    /// Docker keeps an image that any container, running or not, was made from.
    pub(super) fn remove_snapshot(&mut self, name: &str) -> Result<(), HostError> {
        if self.image_used(name) {
            return Err(HostError::new(HostFailure::Transient, Code::Conflict, format!("image {name} is in use")));
        }
        if self.snapshots.remove(name).is_some() {
            self.count(HostOp::RemoveSnapshot);
        }
        Ok(())
    }

    pub(super) fn image_used(&self, name: &str) -> bool {
        let from = |plan: &ContainerPlan| plan.image.as_str() == name;
        self.containers.values().any(|container| container.plan.as_ref().is_some_and(from))
    }

    /// What a new container begins with; its workspace is filled if it is empty. A plain image has nothing in it.
    pub(super) fn unpack(&mut self, plan: &ContainerPlan) -> Result<(Tree, u32), HostError> {
        let workspace = self.contents.entry(plan.workspace.source.clone()).or_default();
        let Some(image) = self.snapshots.get(plan.image.as_str()).cloned() else {
            return Ok((Tree::default(), PLAIN_LAYERS));
        };
        if image.layers > MAX_LAYERS {
            return Err(HostError::new(HostFailure::Permanent, Code::StartFailed, "max depth exceeded"));
        }
        let mut files = image.files;
        let mut inside = files.split_off(WORKSPACE);
        if workspace.is_empty() {
            if self.create_fails.is_some() {
                inside.halve();
            }
            *workspace = inside;
        }
        Ok((files, image.layers))
    }

    /// Does something with a running container's files, the workspace among them.
    pub(super) fn with_files<T>(
        &mut self,
        container: &str,
        body: impl FnOnce(&mut Tree) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let found = self.running(container)?;
        let (id, source) = (found.seen.id.clone(), found.plan.as_ref().map(|plan| plan.workspace.source.clone()));
        let mut files = std::mem::take(&mut found.files);
        let workspace = source.as_ref().and_then(|source| self.contents.get_mut(source)).map(std::mem::take);
        let mounted = workspace.is_some();
        files.absorb(workspace.unwrap_or_default());
        let answer = body(&mut files);
        if let Some(source) = source.filter(|_| mounted) {
            self.contents.insert(source, files.split_off(WORKSPACE));
        }
        if let Some(found) = self.containers.get_mut(&id) {
            found.files = files;
        }
        answer
    }

    /// What a container, running or not, has at a path.
    pub(super) fn file(&self, container: &str, path: &str) -> Option<String> {
        let found = self.find(container)?;
        let source = found.plan.as_ref().map(|plan| &plan.workspace.source);
        let workspace = source.and_then(|source| self.contents.get(source)).and_then(|tree| tree.text(path));
        workspace.or_else(|| found.files.text(path))
    }
}
