//! A registry in memory, shared by all hosts and nodes: what was pushed by digest, and mishaps on demand.
//!
//! It remembers everything that was ever pushed, for judges; hosts and nodes only get what it still holds.

use super::{
    host::{Moment, SimImage},
    lifeline::Lifeline,
    lock,
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{HostError, HostFailure, Registry, StoredSeen};
use plimsoll_types::{Bytes, ClusterId, Code, Digest, SnapshotId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(4);
/// How long it takes to find that it does not answer.
const CONNECT: Duration = Duration::from_secs(1);

/// The operations of the registry port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegistryOp {
    /// `check`.
    Check,
    /// `contains`.
    Contains,
    /// `delete`.
    Delete,
    /// `list`.
    List,
}

type Hook = Box<dyn FnOnce() + Send>;

/// The registry. Clones are the same one.
#[derive(Clone, Default)]
pub struct SimRegistry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    down: bool,
    full: bool,
    slow: Duration,
    /// So many pushes break off in the middle.
    broken_pushes: u32,
    /// What it holds, by repository and digest.
    manifests: BTreeMap<(String, Digest), SimImage>,
    /// What snapshots' tags name.
    tags: BTreeMap<(String, SnapshotId), Digest>,
    /// Everything that it ever held.
    archive: BTreeMap<Digest, SimImage>,
    /// What vanished without anybody having asked.
    lost: BTreeSet<Digest>,
    hooks: BTreeMap<(RegistryOp, Moment), Vec<Hook>>,
    calls: BTreeMap<RegistryOp, u64>,
}

fn unreachable() -> HostError {
    HostError::new(HostFailure::Transient, Code::RegistryUnreachable, "the registry does not answer")
}

impl SimRegistry {
    /// Switches it off or on.
    pub fn set_down(&self, down: bool) {
        lock(&self.inner).down = down;
    }

    /// Fills or frees its disk.
    pub fn set_full(&self, full: bool) {
        lock(&self.inner).full = full;
    }

    /// Makes every push and pull take so much longer.
    pub fn set_slow(&self, more: Duration) {
        lock(&self.inner).slow = more;
    }

    /// Makes the next so many pushes break off in the middle.
    pub fn break_pushes(&self, count: u32) {
        lock(&self.inner).broken_pushes = count;
    }

    /// Deletes a snapshot behind everybody's back.
    pub fn lose(&self, snapshot: SnapshotId) {
        let mut inner = lock(&self.inner);
        let Inner { tags, manifests, lost, .. } = &mut *inner;
        tags.retain(|(repository, tagged), digest| {
            if *tagged == snapshot {
                manifests.remove(&(repository.clone(), *digest));
                lost.insert(*digest);
            }
            *tagged != snapshot
        });
    }

    /// Whether [`SimRegistry::lose`] took what has this digest.
    #[must_use]
    pub fn lost(&self, digest: &Digest) -> bool {
        lock(&self.inner).lost.contains(digest)
    }

    /// Ends every mishap but what was lost. Pending hooks are dropped.
    pub fn heal(&self) {
        let mut inner = lock(&self.inner);
        (inner.down, inner.full, inner.slow, inner.broken_pushes) = (false, false, Duration::ZERO, 0);
        inner.hooks.clear();
    }

    /// Runs something at the next such moment, once.
    pub fn hook(&self, op: RegistryOp, moment: Moment, run: impl FnOnce() + Send + 'static) {
        lock(&self.inner).hooks.entry((op, moment)).or_default().push(Box::new(run));
    }

    /// How often an operation was asked for.
    #[must_use]
    pub fn calls(&self, op: RegistryOp) -> u64 {
        lock(&self.inner).calls.get(&op).copied().unwrap_or(0)
    }

    /// Whether it holds a manifest by digest.
    #[must_use]
    pub fn holds(&self, repository: &str, digest: &Digest) -> bool {
        lock(&self.inner).manifests.contains_key(&(repository.to_owned(), *digest))
    }

    /// Every tag with the repository it is in.
    #[must_use]
    pub fn tags(&self) -> Vec<(String, SnapshotId)> {
        lock(&self.inner).tags.keys().cloned().collect()
    }

    /// Repositories of manifests that no tag names.
    #[must_use]
    pub fn untagged(&self) -> Vec<String> {
        let inner = lock(&self.inner);
        let tagged = |repository: &String, digest: &Digest| {
            inner.tags.iter().any(|((tagged, _), named)| tagged == repository && named == digest)
        };
        let all = inner.manifests.keys().filter(|(repository, digest)| !tagged(repository, digest));
        all.map(|(repository, _)| repository.clone()).collect()
    }

    /// What a snapshot of this digest has, or had, at a path.
    #[must_use]
    pub fn file(&self, digest: &Digest, path: &str) -> Option<String> {
        lock(&self.inner).archive.get(digest).and_then(|image| image.file(path))
    }

    /// What the last push of a snapshot has, or had, at a path.
    #[must_use]
    pub fn archived(&self, snapshot: SnapshotId, path: &str) -> Option<String> {
        let inner = lock(&self.inner);
        let pushed = inner.archive.values().filter(|image| image.snapshot == snapshot);
        pushed.max_by_key(|image| image.created_at).and_then(|image| image.file(path))
    }

    /// How much longer a push or pull takes at present.
    pub(super) fn delay(&self) -> Duration {
        lock(&self.inner).slow
    }

    /// Takes an image in; answers with the bytes that had to be sent.
    pub(super) fn push(&self, repository: &str, image: &SimImage) -> Result<Bytes, HostError> {
        let mut inner = lock(&self.inner);
        if inner.down {
            return Err(unreachable());
        }
        let key = (repository.to_owned(), image.digest);
        let known = inner.manifests.contains_key(&key);
        if inner.full && !known {
            return Err(HostError::new(HostFailure::Transient, Code::RegistryFull, "the registry has no room left"));
        }
        if inner.broken_pushes > 0 {
            inner.broken_pushes -= 1;
            return Err(HostError::new(HostFailure::Transient, Code::RegistryUnreachable, "the push broke off"));
        }
        // A tag that moves leaves the manifest it named before without a name.
        inner.tags.insert((repository.to_owned(), image.snapshot), image.digest);
        inner.manifests.insert(key, image.clone());
        inner.archive.insert(image.digest, image.clone());
        Ok(if known { Bytes::ZERO } else { image.size })
    }

    /// Gives an image out.
    pub(super) fn pull(&self, repository: &str, digest: &Digest) -> Result<SimImage, HostError> {
        let inner = lock(&self.inner);
        if inner.down {
            return Err(unreachable());
        }
        let missing = || {
            let text = format!("the registry has no {repository}@{digest}");
            HostError::new(HostFailure::Permanent, Code::ImageNotFound, text)
        };
        inner.manifests.get(&(repository.to_owned(), *digest)).cloned().ok_or_else(missing)
    }

    /// The port as one node's process sees it.
    pub(super) fn line(&self, life: Lifeline) -> Arc<dyn Registry> {
        Arc::new(RegistryLine { registry: self.clone(), life })
    }

    fn run_hooks(&self, op: RegistryOp, moment: Moment) {
        // Taken out first: a hook may look at the registry.
        let hooks = lock(&self.inner).hooks.remove(&(op, moment)).unwrap_or_default();
        hooks.into_iter().for_each(|hook| hook());
    }
}

struct RegistryLine {
    registry: SimRegistry,
    life: Lifeline,
}

impl RegistryLine {
    /// Asks on a task of the registry's own: what was sent is done even if the asker dies.
    async fn call<T: Send + 'static>(
        &self,
        op: RegistryOp,
        body: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let registry = self.registry.clone();
        let work = async move {
            *lock(&registry.inner).calls.entry(op).or_default() += 1;
            time::sleep(LATENCY / 2).await;
            registry.run_hooks(op, Moment::Before);
            if lock(&registry.inner).down {
                time::sleep(CONNECT).await;
                return Err(unreachable());
            }
            let answer = body(&mut lock(&registry.inner));
            registry.run_hooks(op, Moment::After);
            time::sleep(LATENCY / 2).await;
            Ok(answer)
        };
        let working = tokio::spawn(work);
        self.life.guard(async { working.await.unwrap_or_else(|_| Err(unreachable())) }).await
    }
}

#[async_trait]
impl Registry for RegistryLine {
    async fn check(&self) -> Result<(), HostError> {
        self.call(RegistryOp::Check, |_| ()).await
    }

    async fn contains(&self, repository: &str, digest: &Digest) -> Result<bool, HostError> {
        let key = (repository.to_owned(), *digest);
        self.call(RegistryOp::Contains, move |inner| inner.manifests.contains_key(&key)).await
    }

    async fn delete(&self, repository: &str, snapshot: SnapshotId) -> Result<(), HostError> {
        let key = (repository.to_owned(), snapshot);
        let delete = self.call(RegistryOp::Delete, move |inner| {
            if let Some(digest) = inner.tags.remove(&key) {
                inner.manifests.remove(&(key.0.clone(), digest));
            }
        });
        delete.await
    }

    async fn list(&self, cluster: ClusterId) -> Result<Vec<StoredSeen>, HostError> {
        let prefix = format!("plimsoll/{cluster}/");
        let list = self.call(RegistryOp::List, move |inner| {
            let ours = inner.tags.keys().filter(|(repository, _)| repository.starts_with(&prefix));
            let seen = |(repository, snapshot): &(String, SnapshotId)| StoredSeen {
                repository: repository.clone(),
                tag: snapshot.to_string(),
                snapshot: Some(*snapshot),
            };
            ours.map(seen).collect()
        });
        list.await
    }
}
