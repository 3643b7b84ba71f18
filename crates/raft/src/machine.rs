//! The replicated state in memory: raft's entries go through `plimsoll_state::State::apply`, and nothing else changes it.
//!
//! It is not stored itself: after a restart it is made again from the last snapshot and the log.

use crate::{
    metrics,
    store::snapshots::{self, Header, Pace, SnapshotFile, Snapshots},
    types::{LogId, Payload, Proposal, Reply, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};
use futures_util::{Stream, TryStreamExt};
use openraft::{
    RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use plimsoll_state::{Outcome, State};
use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use tokio::sync::watch;

/// A handle to the state; clones share it.
#[derive(Clone)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
}

struct Shared {
    inner: RwLock<Inner>,
    snapshots: Arc<Snapshots>,
    /// The last entry applied, whatever it was.
    applied: watch::Sender<u64>,
    /// The last command applied: what readers wait for.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    members_ever: BTreeSet<u64>,
}

impl Machine {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Self {
        let shared = Shared {
            inner: RwLock::default(),
            snapshots,
            applied: watch::Sender::new(0),
            changed: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Shows the state. Holds up apply, so `reader` must be short.
    pub(crate) fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        reader(&self.read().state);
    }

    /// The last entry applied here.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// The last command applied here.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// The highest node id that was ever a member, as far as applied here.
    pub(crate) fn highest_node(&self) -> u64 {
        self.read().members_ever.last().copied().unwrap_or(0)
    }

    /// Whether the node was a member and is none any more, as far as applied here. Ids are never used again, so this never
    /// becomes untrue.
    pub(crate) fn was_removed(&self, node: u64) -> bool {
        let inner = self.read();
        inner.members_ever.contains(&node) && inner.membership.get_node(&node).is_none()
    }

    pub(crate) fn snapshots(&self) -> &Arc<Snapshots> {
        &self.shared.snapshots
    }

    // Apply never leaves half a change behind when it panics (it is caught below), so a poisoned lock is usable.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.shared.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.shared.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_entry(&self, log_id: LogId, payload: Payload) -> io::Result<Reply> {
        let index = log_id.index;
        let mut command = None;
        if let Payload::Normal(proposal) = &payload {
            command = Some(decode(index, proposal)?);
        }
        let outcome = {
            let mut inner = self.write();
            let outcome = match command.as_ref() {
                Some(command) => Some(guarded(index, || inner.state.apply(index, command))?),
                None => None,
            };
            if let Payload::Membership(membership) = payload {
                inner.members_ever.extend(membership.nodes().map(|(id, _)| *id));
                inner.membership = StoredMembership::new(Some(log_id), membership);
            }
            inner.last_applied = Some(log_id);
            outcome
        };
        if outcome.is_some() {
            self.shared.changed.send_replace(index);
        }
        self.shared.applied.send_replace(index);
        Ok(Reply(outcome))
    }
}

/// A command that cannot be read stops this node: skipping it would make its state differ from the others'.
fn decode(index: u64, proposal: &Proposal) -> io::Result<plimsoll_state::Command> {
    proposal.decode().map_err(|error| {
        io::Error::other(format!(
            "log entry {index} holds a command this release does not know ({error}); upgrade this node to the others' release"
        ))
    })
}

/// A panic in apply would happen on every node; ending with a clear reason beats hanging.
fn guarded(index: u64, apply: impl FnOnce() -> Outcome) -> io::Result<Outcome> {
    catch_unwind(AssertUnwindSafe(apply)).map_err(|_| io::Error::other(format!("applying log entry {index} panicked")))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let inner = self.read();
        Ok((inner.last_applied, inner.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = self.apply_entry(entry.log_id, entry.payload)?;
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let (machine, meta) = (self.clone(), meta.clone());
        blocking(move || machine.install(&meta, &snapshot)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = Arc::clone(&self.shared.snapshots);
        let current = blocking(move || snapshots.current()).await?;
        Ok(current.map(|(header, snapshot)| Snapshot { meta: header.meta, snapshot }))
    }
}

impl Machine {
    fn install(&self, meta: &SnapshotMeta, snapshot: &SnapshotFile) -> io::Result<()> {
        let kept = self.shared.snapshots.adopt(snapshot, meta)?;
        let (header, state) = snapshots::load(kept.path())?;
        let changed = state.applied;
        {
            let mut inner = self.write();
            *inner = Inner {
                state,
                last_applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
                members_ever: header.members_ever,
            };
        }
        self.shared.changed.send_replace(changed);
        self.shared.applied.send_replace(meta.last_log_id.map_or(0, |id| id.index));
        Ok(())
    }

    fn build(&self) -> io::Result<Snapshot> {
        let start = Instant::now();
        let (header, state) = {
            let inner = self.read();
            let meta = SnapshotMeta { last_log_id: inner.last_applied, last_membership: inner.membership.clone() };
            // The copy shares the records; encoding happens without the lock.
            (Header { meta, members_ever: inner.members_ever.clone() }, inner.state.to_snapshot())
        };
        let meta = header.meta.clone();
        let snapshot = self.shared.snapshots.save(&header, &state, Pace::Gentle)?;
        metrics::snapshot(start.elapsed());
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let machine = self.clone();
        blocking(move || machine.build()).await
    }
}

/// File work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
