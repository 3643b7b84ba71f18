//! The only place that changes sandbox records: reservations and indexes move with them, so they cannot drift.

use crate::{
    State,
    index::Facets,
    model::{Host, Sandbox, Snapshot},
};
use plimsoll_types::{Resources, SandboxId, SnapshotId};
use std::sync::Arc;

impl State {
    /// Adds a record whose id is new.
    pub(super) fn insert_sandbox(&mut self, sandbox: Sandbox) {
        let (id, sandbox) = (sandbox.id, Arc::new(sandbox));
        self.sandboxes.insert(id, Arc::clone(&sandbox));
        self.settle(&sandbox, None, Some(Facets::of(&sandbox)));
    }

    /// Changes a record that exists. Its id, tenant, session and spec stay what they are.
    pub(super) fn update_sandbox(&mut self, id: SandboxId, change: impl FnOnce(&mut Sandbox)) {
        let Some(record) = self.sandboxes.get_mut(&id) else { return };
        let before = Facets::of(record);
        change(Arc::make_mut(record));
        let after = Facets::of(record);
        if before != after {
            let sandbox = Arc::clone(record);
            self.settle(&sandbox, Some(before), Some(after));
        }
    }

    /// Drops a record.
    pub(super) fn remove_sandbox(&mut self, id: SandboxId) {
        if let Some(sandbox) = self.sandboxes.remove(&id) {
            self.settle(&sandbox, Some(Facets::of(&sandbox)), None);
        }
    }

    /// Adds a snapshot whose id is new.
    pub(super) fn insert_snapshot(&mut self, snapshot: Snapshot) {
        self.index.file_snapshot(&snapshot);
        self.snapshots.insert(snapshot.id, Arc::new(snapshot));
    }

    /// Changes a snapshot that exists. Its id, tenant, name and sandbox stay what they are.
    pub(super) fn update_snapshot(&mut self, id: SnapshotId, change: impl FnOnce(&mut Snapshot)) {
        let Some(record) = self.snapshots.get_mut(&id) else { return };
        self.index.unfile_snapshot(record);
        change(Arc::make_mut(record));
        self.index.file_snapshot(record);
    }

    /// Drops a snapshot's record.
    pub(super) fn remove_snapshot(&mut self, id: SnapshotId) {
        if let Some(snapshot) = self.snapshots.remove(&id) {
            self.index.unfile_snapshot(&snapshot);
        }
    }

    fn settle(&mut self, sandbox: &Sandbox, before: Option<Facets>, after: Option<Facets>) {
        self.index.refile(sandbox, before, after);
        let hosts = |facets: Option<Facets>| facets.map(Facets::hosts).unwrap_or_default();
        let (from, to) = (hosts(before), hosts(after));
        if from == to {
            return;
        }
        let line = self.policy.load_line;
        // A host in both was never let go: what a migration reserved on its target is what the sandbox holds there afterwards.
        for host in from.iter().flatten().filter(|host| !to.contains(&Some(**host))) {
            self.index.touched.note(self.applied, *host);
            if let Some(host) = self.hosts.get_mut(host) {
                release(Arc::make_mut(host), sandbox.spec.resources);
            }
        }
        for host in to.iter().flatten().filter(|host| !from.contains(&Some(**host))) {
            self.index.touched.note(self.applied, *host);
            let Some(host) = self.hosts.get_mut(host) else { continue };
            let host = Arc::make_mut(host);
            host.line = line.of(host.facts.totals);
            host.reserved = host.reserved.saturating_add(sandbox.spec.resources);
            host.sandboxes = host.sandboxes.saturating_add(1);
        }
    }
}

fn release(host: &mut Host, resources: Resources) {
    host.reserved = host.reserved.saturating_sub(resources);
    host.sandboxes = host.sandboxes.saturating_sub(1);
}
