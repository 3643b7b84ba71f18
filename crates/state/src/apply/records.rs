//! The only place that changes sandbox records: sessions, reservations and indexes move with them, so they cannot drift.

use crate::{
    State,
    index::Facets,
    model::{Host, Sandbox},
};
use plimsoll_types::{Phase, Resources, SandboxId};
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

    fn settle(&mut self, sandbox: &Sandbox, before: Option<Facets>, after: Option<Facets>) {
        self.index.refile(sandbox.id, before, after);
        let live = |facets: Option<Facets>| facets.is_some_and(|facets| Phase::is_live(facets.phase));
        if live(before) != live(after) {
            let key = (sandbox.tenant.clone(), sandbox.session.clone());
            if live(after) {
                self.sessions.insert(key, sandbox.id);
            } else {
                self.sessions.remove(&key);
            }
        }
        let (from, to) = (before.and_then(|f| f.host), after.and_then(|f| f.host));
        if from == to {
            return;
        }
        let line = self.policy.load_line;
        if let Some(host) = from.and_then(|host| self.hosts.get_mut(&host)) {
            release(Arc::make_mut(host), sandbox.spec.resources);
        }
        if let Some(host) = to.and_then(|host| self.hosts.get_mut(&host)) {
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
