//! The log entry being applied: numbers the events it makes and keeps their bound.

use super::EVENTS_LIMIT;
use crate::model::{Snapshot, WorkKind};
use crate::{Event, EventKind, State};
use plimsoll_types::{HostId, OperationId, SandboxId, SnapshotId, Timestamp};
use std::sync::Arc;

/// One raft index and the events made at it so far.
pub(super) struct Entry {
    index: u64,
    seq: u32,
}

impl Entry {
    pub(super) const fn new(index: u64) -> Self {
        Self { index, seq: 0 }
    }

    /// Says that a sandbox entered the phase its record now has.
    pub(super) fn sandbox(&mut self, state: &mut State, id: SandboxId, at: Timestamp) {
        if let Some(sandbox) = state.sandboxes.get(&id) {
            let kind = EventKind::Sandbox {
                sandbox: id,
                tenant: sandbox.tenant.clone(),
                phase: sandbox.phase,
                generation: sandbox.generation,
                host: sandbox.assignment.map(|assignment| assignment.host),
                reason: sandbox.reason.clone(),
            };
            self.emit(state, at, kind);
        }
    }

    /// Says how far an operation on a sandbox is.
    pub(super) fn work(
        &mut self,
        state: &mut State,
        id: SandboxId,
        (operation, kind): (OperationId, WorkKind),
        at: Timestamp,
        change: &str,
    ) {
        if let Some(sandbox) = state.sandboxes.get(&id) {
            let tenant = sandbox.tenant.clone();
            self.emit(state, at, EventKind::Work { sandbox: id, tenant, operation, kind, change: change.into() });
        }
    }

    /// Says that a snapshot entered the phase its record now has.
    pub(super) fn snapshot(&mut self, state: &mut State, id: SnapshotId, at: Timestamp) {
        if let Some(snapshot) = state.snapshots.get(&id) {
            let (sandbox, tenant) = (snapshot.sandbox, snapshot.tenant.clone());
            let phase = Some(snapshot.phase);
            self.emit(state, at, EventKind::Snapshot { snapshot: id, sandbox, tenant, phase });
        }
    }

    /// Says that nothing is left of a snapshot.
    pub(super) fn snapshot_gone(&mut self, state: &mut State, gone: &Snapshot, at: Timestamp) {
        let (sandbox, tenant) = (gone.sandbox, gone.tenant.clone());
        self.emit(state, at, EventKind::Snapshot { snapshot: gone.id, sandbox, tenant, phase: None });
    }

    /// Says what changed at a host.
    pub(super) fn host(&mut self, state: &mut State, host: HostId, at: Timestamp, change: &str) {
        let health = state.hosts.get(&host).map(|host| host.health);
        self.emit(state, at, EventKind::Host { host, health, change: change.into() });
    }

    /// Says what changed for the whole cluster.
    pub(super) fn cluster(&mut self, state: &mut State, at: Timestamp, change: &str) {
        self.emit(state, at, EventKind::Cluster { change: change.into() });
    }

    /// Records an event and drops the oldest ones past the policy's bound.
    pub(super) fn emit(&mut self, state: &mut State, at: Timestamp, kind: EventKind) {
        state.events.push_back(Arc::new(Event { index: self.index, seq: self.seq, at, kind }));
        self.seq = self.seq.saturating_add(1);
        trim(state);
    }
}

/// Keeps the events' bound, and the position up to which they are gone.
pub(crate) fn trim(state: &mut State) {
    let kept = usize::try_from(state.policy.events_kept).unwrap_or(usize::MAX).min(EVENTS_LIMIT);
    while state.events.len() > kept {
        if let Some(dropped) = state.events.pop_front() {
            state.events_dropped = Some((dropped.index, dropped.seq));
        }
    }
}
