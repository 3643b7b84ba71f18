//! What the executor looks at: the sandboxes that a commit named, those whose pause is over, and, some thousand a second, all of them, so
//! that nothing is overlooked for long. A commit costs what it changed, however many sandboxes there are.

use super::{
    Executor,
    lanes::{Kind, Lane},
};
use crate::node::STRIDE;
use plimsoll_state::{EventKind, Sandbox, State};
use plimsoll_types::{Generation, Health, HostId, Phase, SandboxId, Timestamp};
use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Strides looked at in a second whatever happens: 100,000 sandboxes take twelve seconds.
const STRIDES: usize = 8;
/// Events read in one look at state.
const EVENTS: usize = 1024;

/// What was found of a sandbox.
struct Found {
    sandbox: SandboxId,
    /// Whether something is left to do on a host.
    unsettled: bool,
    /// Where it is due, and in which phase.
    due: Option<(Lane, Phase)>,
}

impl Executor {
    /// Takes in what changed since the last look, and whose pause is over; answers the index that it saw.
    pub(super) fn follow(&mut self) -> u64 {
        loop {
            let (position, now) = (self.position, Instant::now());
            let (page, seen) = self.node.read(|state| (state.events_after(position, EVENTS), state.applied));
            if !self.begun || page.gap {
                return self.look_at_all();
            }
            let mut named: BTreeSet<SandboxId> = BTreeSet::new();
            let mut hosts: BTreeSet<HostId> = BTreeSet::new();
            for event in &page.events {
                self.position = Some((event.index, event.seq));
                match &event.kind {
                    EventKind::Sandbox { sandbox, .. }
                    | EventKind::Work { sandbox, .. }
                    | EventKind::Moved { sandbox, .. }
                    | EventKind::Restored { sandbox, .. }
                    | EventKind::Frozen { sandbox, .. } => drop(named.insert(*sandbox)),
                    EventKind::Host { host, .. } => drop(hosts.insert(*host)),
                    EventKind::Snapshot { .. } | EventKind::Deadline { .. } | EventKind::Cluster { .. } => {}
                }
            }
            while let Some((at, sandbox)) = self.pauses.first().copied().filter(|(at, _)| *at <= now) {
                self.pauses.remove(&(at, sandbox));
                named.insert(sandbox);
            }
            if !hosts.is_empty() {
                self.node.read(|state| {
                    let there = hosts.iter().flat_map(|host| state.on_host(*host));
                    named.extend(there.map(|sandbox| sandbox.id));
                });
            }
            self.look_at(named);
            if page.events.len() < EVENTS {
                return seen;
            }
        }
    }

    /// The clock's turn: what may have run out of its budget, and the next strides through everything.
    pub(super) async fn look_around(&mut self) {
        let begun: Vec<SandboxId> = self.node.read(|state| {
            let begun = state.in_phase(Phase::Starting).chain(state.in_phase(Phase::Restoring));
            begun.map(|sandbox| sandbox.id).collect()
        });
        self.look_at(begun);
        for _ in 0..STRIDES {
            let after = self.looked.map_or(Bound::Unbounded, Bound::Excluded);
            let page: Vec<SandboxId> = self.node.read(|state| {
                state.sandboxes.range((after, Bound::Unbounded)).take(STRIDE).map(|(id, _)| *id).collect()
            });
            self.looked = page.last().copied().filter(|_| page.len() == STRIDE);
            self.look_at(page);
            if self.looked.is_none() {
                return;
            }
            // Others wait for the state and for this thread.
            tokio::task::yield_now().await;
        }
    }

    /// From the beginning: a new leader's first look, and after more events than state keeps.
    fn look_at_all(&mut self) -> u64 {
        let known: Vec<SandboxId> = self.lanes.due().chain(self.troubles.keys().copied()).collect();
        let (mut all, position, seen) = self.node.read(|state| {
            let all: BTreeSet<SandboxId> = unsettled(state).map(|sandbox| sandbox.id).collect();
            (all, state.last_event(), state.applied)
        });
        all.extend(known);
        (self.position, self.begun) = (position, true);
        self.look_at(all);
        seen
    }

    /// Judges these as state has them now.
    pub(super) fn look_at(&mut self, sandboxes: impl IntoIterator<Item = SandboxId>) {
        let mut sandboxes = sandboxes.into_iter().peekable();
        if sandboxes.peek().is_none() {
            return;
        }
        let sandboxes: Vec<SandboxId> = sandboxes.collect();
        let (now, clock) = (Instant::now(), self.node.now());
        let found: Vec<Found> =
            self.node.read(|state| sandboxes.iter().map(|id| self.judge(state, *id, now, clock)).collect());
        for Found { sandbox, unsettled, due } in found {
            if !unsettled {
                self.troubles.remove(&sandbox);
            }
            match due {
                Some((lane, phase)) => self.lanes.put(sandbox, phase, lane),
                None => self.lanes.withdraw(sandbox),
            }
        }
    }

    fn judge(&self, state: &State, id: SandboxId, now: Instant, clock: Timestamp) -> Found {
        let Some(sandbox) = state.sandboxes.get(&id).filter(|sandbox| is_unsettled(sandbox)) else {
            return Found { sandbox: id, unsettled: false, due: None };
        };
        let spent = Duration::from_millis(clock.since(sandbox.phase_since).0) >= self.node.options.create_budget;
        let free = !self.busy.contains(&id) && self.ready(sandbox, now) && workable(state, sandbox, spent);
        let assignment = sandbox.assignment.filter(|_| free);
        let due = assignment.map(|at| (Lane { kind: Kind::of(sandbox), host: at.host }, sandbox.phase));
        Found { sandbox: id, unsettled: true, due }
    }

    /// The generation of a sandbox that is due in this lane as state is now.
    pub(super) fn still_due(&self, id: SandboxId, lane: Lane) -> Option<Generation> {
        let (now, clock) = (Instant::now(), self.node.now());
        self.node.read(|state| {
            self.judge(state, id, now, clock).due.filter(|(at, _)| *at == lane)?;
            state.sandboxes.get(&id).map(|sandbox| sandbox.generation)
        })
    }

    /// Whether the pause after its last failure, if that was in the same phase, is over.
    fn ready(&self, sandbox: &Sandbox, now: Instant) -> bool {
        self.troubles.get(&sandbox.id).is_none_or(|trouble| {
            trouble.generation != sandbox.generation || trouble.phase != sandbox.phase || trouble.not_before <= now
        })
    }
}

/// The sandboxes with something left to do on a host.
fn unsettled(state: &State) -> impl Iterator<Item = &Arc<Sandbox>> {
    let phases = [Phase::Terminating, Phase::Failed, Phase::Starting, Phase::Restoring, Phase::Assigned, Phase::Lost];
    let there = phases.into_iter().flat_map(|phase| state.in_phase(phase));
    there.chain(state.working()).filter(|sandbox| is_unsettled(sandbox))
}

/// Whether something is left to do for it on a host.
fn is_unsettled(sandbox: &Sandbox) -> bool {
    match sandbox.phase {
        Phase::Terminating | Phase::Starting | Phase::Restoring | Phase::Assigned | Phase::Lost => true,
        // What failed after it ran keeps its container for a while, so that its logs can be read; the reaper ends that.
        Phase::Failed => sandbox.assignment.is_some() && sandbox.started_at.is_none(),
        Phase::Pending | Phase::Running | Phase::Pausing | Phase::Paused | Phase::Migrating | Phase::Terminated => {
            sandbox.work.is_some()
        }
    }
}

/// Whether a job could get anywhere now.
fn workable(state: &State, sandbox: &Sandbox, budget_spent: bool) -> bool {
    let host = sandbox.assignment.and_then(|assignment| state.hosts.get(&assignment.host));
    let ready = host.is_some_and(|host| host.health == Health::Ready);
    match sandbox.phase {
        // It can go elsewhere, or fail in time, without its host.
        Phase::Assigned => true,
        Phase::Starting | Phase::Restoring => ready || budget_spent,
        // Its host is back.
        Phase::Lost => ready,
        Phase::Terminating | Phase::Failed => ready,
        // A move can go on without its source.
        Phase::Running | Phase::Pausing | Phase::Migrating => {
            ready || host.is_some_and(|host| host.health == Health::Lost)
        }
        Phase::Pending | Phase::Paused | Phase::Terminated => false,
    }
}
