//! What must hold after every command, as a check over the whole state. Tests and the simulation run it after each step;
//! it scans everything, so nothing on a live path calls it.

use crate::{
    State,
    index::Index,
    model::{Host, SUPERSEDED_LIMIT, Sandbox, SnapshotPhase, Stage, WorkKind},
};
use plimsoll_types::{Desired, Generation, HostId, Phase, Resources, SandboxId, SessionId, SnapshotId, TenantId};
use std::{collections::BTreeMap, fmt};

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: &'static str,
    /// Where and how.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// Every violation, in a stable order; empty for a sound state.
#[must_use]
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    hosts(state, &mut found);
    sessions(state, &mut found);
    for (id, sandbox) in &state.sandboxes {
        if *id != sandbox.id {
            found.push(Violation {
                rule: "a record stands under its own id",
                detail: format!("{} under {id}", sandbox.id),
            });
        }
        record(state, sandbox, &mut found);
    }
    snapshots(state, &mut found);
    bounds(state, &mut found);
    if state.index != Index::rebuild(state) {
        let detail = "an index kept in step differs from a rebuilt one".into();
        found.push(Violation { rule: "indexes say what the records say", detail });
    }
    found
}

/// Reservations are exactly the sum of the assignments, and no more than the load line they were made under.
fn hosts(state: &State, found: &mut Vec<Violation>) {
    let mut sums: BTreeMap<HostId, (Resources, u32)> = BTreeMap::new();
    for sandbox in state.sandboxes.values() {
        let target = sandbox.work.as_ref().and_then(|work| work.target);
        for assignment in sandbox.assignment.into_iter().chain(target) {
            let (sum, count) = sums.entry(assignment.host).or_default();
            *sum = sum.saturating_add(sandbox.spec.resources);
            *count += 1;
            if !state.hosts.contains_key(&assignment.host) {
                let detail = format!("{} is on {}", sandbox.id, assignment.host);
                found.push(Violation { rule: "a host with sandboxes is not removed", detail });
            }
        }
    }
    for (id, host) in &state.hosts {
        let (sum, count) = sums.get(id).copied().unwrap_or_default();
        if host.reserved != sum || host.sandboxes != count {
            let detail =
                format!("{id} says {:?} for {}, its sandboxes {sum:?} for {count}", host.reserved, host.sandboxes);
            found.push(Violation { rule: "reservations are the sum of the assignments", detail });
        }
        if host.sandboxes > 0 && !host.reserved.fits_in(host.line) {
            let detail = format!("{id} holds {:?} above {:?}", host.reserved, host.line);
            found.push(Violation { rule: "reservations never exceed the load line", detail });
        }
        identity(state, *id, host, found);
    }
}

/// The next id is above every id ever given, and a host is filed under its own.
fn identity(state: &State, id: HostId, host: &Host, found: &mut Vec<Violation>) {
    if host.id != id || id.0 >= state.next_host {
        let detail = format!("{} under {id}, the next is {}", host.id, state.next_host);
        found.push(Violation { rule: "host ids are never used again", detail });
    }
}

/// The session map names exactly the live sandboxes, and each session has at most one.
fn sessions(state: &State, found: &mut Vec<Violation>) {
    let mut live: BTreeMap<(TenantId, SessionId), SandboxId> = BTreeMap::new();
    for sandbox in state.sandboxes.values().filter(|sandbox| sandbox.phase.is_live()) {
        if let Some(other) = live.insert((sandbox.tenant.clone(), sandbox.session.clone()), sandbox.id) {
            let detail = format!("{}/{} has {other} and {}", sandbox.tenant, sandbox.session, sandbox.id);
            found.push(Violation { rule: "a session has at most one live sandbox", detail });
        }
    }
    if live != state.index.sessions {
        let detail = format!("{} live, {} in the map", live.len(), state.index.sessions.len());
        found.push(Violation { rule: "the session map names the live sandboxes", detail });
    }
}

/// What a record says of itself fits together.
fn record(state: &State, sandbox: &Sandbox, found: &mut Vec<Violation>) {
    let mut expect = |holds: bool, rule: &'static str| {
        if !holds {
            let detail = format!("{} ({}, generation {})", sandbox.id, sandbox.phase, sandbox.generation);
            found.push(Violation { rule, detail });
        }
    };
    let assignment = sandbox.assignment;
    expect(assignment.is_none_or(|a| a.generation == sandbox.generation), "an assignment is of the current generation");
    expect(assignment.is_none_or(|a| a.generation >= Generation::FIRST), "a sandbox with a host has a generation");
    match sandbox.phase {
        Phase::Pending | Phase::Paused | Phase::Terminated => {
            expect(assignment.is_none(), "who waits, pauses or is gone holds no capacity");
        }
        Phase::Assigned
        | Phase::Starting
        | Phase::Running
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring => expect(assignment.is_some(), "who is on a host holds capacity"),
        // Until it is known that their host has nothing left of them, they hold it too.
        Phase::Failed | Phase::Terminating => {}
    }
    expect(assignment.is_some() || sandbox.container.is_none(), "a container is on a host");
    let work = sandbox.work.as_ref();
    let worked = |kinds: &[WorkKind]| work.is_some_and(|work| kinds.contains(&work.kind));
    expect(
        match sandbox.phase {
            Phase::Pausing => worked(&[WorkKind::Pause]),
            Phase::Migrating => worked(&[WorkKind::Migrate]),
            Phase::Running => work.is_none() || worked(&[WorkKind::Snapshot, WorkKind::Checkpoint]),
            Phase::Pending
            | Phase::Assigned
            | Phase::Starting
            | Phase::Paused
            | Phase::Lost
            | Phase::Restoring
            | Phase::Failed
            | Phase::Terminating
            | Phase::Terminated => work.is_none(),
        },
        "an operation belongs to its phase",
    );
    let target = work.and_then(|work| work.target);
    expect(target.is_some() == (sandbox.phase == Phase::Migrating), "who migrates, and nobody else, has a target");
    expect(
        target.is_none_or(|target| target.generation == sandbox.generation.next()),
        "a target is of the next generation",
    );
    let comes_back = matches!(sandbox.phase, Phase::Paused | Phase::Restoring);
    expect(!comes_back || sandbox.base.is_some(), "who comes back has something to come back from");
    expect(sandbox.phase != Phase::Running || sandbox.container.is_some(), "who runs has a container");
    expect(sandbox.phase != Phase::Running || sandbox.started_at.is_some(), "who runs has a start time");
    let ended = matches!(sandbox.phase, Phase::Failed | Phase::Terminated);
    expect(!ended || sandbox.ended_at.is_some(), "who ended has an end time");
    expect(!sandbox.phase.is_live() || sandbox.ended_at.is_none(), "who lives has no end time");
    let going = matches!(sandbox.phase, Phase::Terminating | Phase::Terminated);
    expect(going == (sandbox.desired == Desired::Terminated), "who should be gone is going");
    expect(sandbox.started_at.is_none_or(|at| at <= sandbox.phase_since), "times do not run backwards");
    if let Some(host) = assignment.and_then(|a| state.hosts.get(&a.host)) {
        expect(sandbox.spec.resources.fits_in(host.reserved), "a host has reserved what each of its sandboxes asks");
    }
}

/// Every operation has its snapshot and every unfinished snapshot its operation; what a sandbox needs is there.
fn snapshots(state: &State, found: &mut Vec<Violation>) {
    let mut taking: BTreeMap<SnapshotId, u32> = BTreeMap::new();
    for sandbox in state.sandboxes.values() {
        let mut broken = |rule: &'static str| {
            found.push(Violation { rule, detail: format!("{} ({})", sandbox.id, sandbox.phase) });
        };
        if let Some(work) = &sandbox.work {
            *taking.entry(work.snapshot).or_default() += 1;
            let phase = state.snapshots.get(&work.snapshot).map(|snapshot| snapshot.phase);
            let fits = match work.stage {
                Stage::Taking => phase == Some(SnapshotPhase::Taking),
                Stage::Taken => phase == Some(SnapshotPhase::Available),
            };
            if !fits {
                broken("an operation's snapshot is as far as the operation");
            }
        }
        let base = sandbox.base.filter(|_| sandbox.phase != Phase::Terminated);
        let there =
            |id| state.snapshots.get(&id).is_some_and(|it: &std::sync::Arc<_>| it.phase == SnapshotPhase::Available);
        if base.is_some_and(|base| !there(base)) {
            broken("what a sandbox comes back from is kept");
        }
        if sandbox.superseded.len() > SUPERSEDED_LIMIT {
            broken("replaced incarnations are bounded");
        }
    }
    for snapshot in state.snapshots.values() {
        let operations = taking.get(&snapshot.id).copied().unwrap_or_default();
        let unfinished = snapshot.phase == SnapshotPhase::Taking;
        if operations > 1 || (unfinished && operations == 0) || (unfinished == snapshot.stored.is_some() && unfinished)
        {
            let detail = format!("{} ({}) has {operations}", snapshot.id, snapshot.phase.as_str());
            found.push(Violation { rule: "an unfinished snapshot has one operation", detail });
        }
    }
}

/// Events are in order, after the dropped ones, and as many as may be.
fn bounds(state: &State, found: &mut Vec<Violation>) {
    let positions = || state.events.iter().map(|event| (event.index, event.seq));
    let ordered = positions().zip(positions().skip(1)).all(|(earlier, later)| earlier < later);
    let after_dropped = positions().next().is_none_or(|first| state.events_dropped < Some(first));
    let kept = usize::try_from(state.policy.events_kept).unwrap_or(usize::MAX);
    if !ordered || !after_dropped || state.events.len() > kept {
        let detail = format!("{} events, at most {kept}, dropped up to {:?}", state.events.len(), state.events_dropped);
        found.push(Violation { rule: "events are ordered and bounded", detail });
    }
}
