//! `Begin` and `GiveUp`: an operation on a running sandbox, from the wish to its end without effect. Until its snapshot is
//! recorded, giving up leaves the sandbox as it was.

use super::{SNAPSHOTS_LIMIT, entry::Entry, fit};
use crate::{
    Outcome, Refusal, State,
    command::{Begin, GiveUp},
    model::{Assignment, Sandbox, Snapshot, SnapshotKind, SnapshotPhase, Stage, Trouble, Work, WorkKind},
};
use plimsoll_types::{Desired, Phase};

pub(super) fn start(state: &mut State, entry: &mut Entry, item: &Begin) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if sandbox.work.as_ref().is_some_and(|work| work.operation == item.operation) {
        return Ok(Outcome::Done); // The same proposal, applied before.
    }
    judge(sandbox, item)?;
    let target = target(state, sandbox, item)?;
    if state.snapshots.len() >= SNAPSHOTS_LIMIT {
        return Err(Refusal::LimitReached);
    }
    if state.snapshots.contains_key(&item.snapshot) {
        return Err(Refusal::SnapshotExists(item.snapshot));
    }
    if let Some(other) = item.name.as_ref().and_then(|name| state.snapshot_named(&sandbox.tenant, name)) {
        return Err(Refusal::SnapshotExists(other.id));
    }
    let snapshot = Snapshot {
        id: item.snapshot,
        tenant: sandbox.tenant.clone(),
        name: item.name.clone(),
        kind: kind(item.kind),
        phase: SnapshotPhase::Taking,
        sandbox: sandbox.id,
        generation: sandbox.generation,
        image: sandbox.spec.image.clone(),
        created_at: item.at,
        stored: None,
    };
    state.insert_snapshot(snapshot);
    let work = Work {
        operation: item.operation,
        kind: item.kind,
        stage: Stage::Taking,
        snapshot: item.snapshot,
        target,
        began: item.at,
        deadline: item.deadline,
    };
    state.update_sandbox(item.sandbox, |sandbox| {
        sandbox.work = Some(work);
        match item.kind {
            WorkKind::Snapshot | WorkKind::Checkpoint => return,
            WorkKind::Pause => (sandbox.phase, sandbox.desired) = (Phase::Pausing, Desired::Paused),
            WorkKind::Migrate => sandbox.phase = Phase::Migrating,
        }
        sandbox.phase_since = item.at.max(sandbox.phase_since);
        sandbox.reason = "".into();
    });
    entry.snapshot(state, item.snapshot, item.at);
    entry.work(state, item.sandbox, (item.operation, item.kind), item.at, "began");
    if matches!(item.kind, WorkKind::Pause | WorkKind::Migrate) {
        entry.sandbox(state, item.sandbox, item.at);
    }
    Ok(Outcome::Done)
}

const fn kind(work: WorkKind) -> SnapshotKind {
    match work {
        WorkKind::Snapshot => SnapshotKind::Kept,
        WorkKind::Checkpoint => SnapshotKind::Checkpoint,
        WorkKind::Pause => SnapshotKind::Pause,
        WorkKind::Migrate => SnapshotKind::Transfer,
    }
}

fn judge(sandbox: &Sandbox, item: &Begin) -> Result<(), Refusal> {
    if item.generation != sandbox.generation {
        return Err(Refusal::GenerationPast);
    }
    if let Some(work) = &sandbox.work {
        return Err(Refusal::UnderWay(work.operation));
    }
    if sandbox.phase != Phase::Running {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    if item.if_deadline.is_some_and(|deadline| sandbox.deadline != Some(deadline)) {
        return Err(Refusal::DeadlineMoved);
    }
    Ok(())
}

/// Where a migration goes: another host of the same architecture with room for the whole sandbox.
fn target(state: &State, sandbox: &Sandbox, item: &Begin) -> Result<Option<Assignment>, Refusal> {
    let migrates = item.kind == WorkKind::Migrate;
    let (Some(to), true, Some(here)) = (item.to, migrates, sandbox.assignment) else {
        return if migrates { Err(Refusal::HostUnknown) } else { Ok(None) };
    };
    if to == here.host {
        return Err(Refusal::SameHost);
    }
    fit::check(state, to, &sandbox.tenant, &sandbox.spec, None, item.at)?;
    let architecture = |host| state.hosts.get(host).map(|host| host.facts.architecture.as_str());
    if architecture(&to) != architecture(&here.host) {
        return Err(Refusal::HostChanged);
    }
    Ok(Some(Assignment { host: to, generation: sandbox.generation.next() }))
}

pub(super) fn give_up(state: &mut State, entry: &mut Entry, item: &GiveUp) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    let Some(work) = sandbox.work.clone().filter(|work| work.operation == item.operation) else {
        let given_up = sandbox.trouble.as_ref().is_some_and(|trouble| trouble.operation == item.operation);
        return if given_up { Ok(Outcome::Done) } else { Err(Refusal::Conflict) };
    };
    // What was promised by a recorded pause is kept: its container may be gone already.
    if work.kind == WorkKind::Pause && work.stage == Stage::Taken {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    let moves = sandbox.phase != Phase::Running;
    state.update_sandbox(item.sandbox, |sandbox| {
        sandbox.work = None;
        sandbox.trouble =
            Some(Trouble { kind: work.kind, operation: work.operation, at: item.at, reason: item.reason.clone() });
        if moves {
            (sandbox.phase, sandbox.desired) = (Phase::Running, Desired::Running);
            sandbox.phase_since = item.at.max(sandbox.phase_since);
            sandbox.reason = item.reason.clone();
        }
    });
    state.drop_snapshot(entry, work.snapshot, item.at);
    entry.work(state, item.sandbox, (work.operation, work.kind), item.at, &item.reason);
    if moves {
        entry.sandbox(state, item.sandbox, item.at);
    }
    Ok(Outcome::Done)
}

impl State {
    /// Ends the operation on a sandbox whose own way goes elsewhere: it is lost, failed, or wanted gone.
    pub(super) fn end_work(
        &mut self,
        entry: &mut Entry,
        sandbox: plimsoll_types::SandboxId,
        at: plimsoll_types::Timestamp,
    ) {
        let Some(work) = self.sandboxes.get(&sandbox).and_then(|sandbox| sandbox.work.clone()) else { return };
        self.update_sandbox(sandbox, |sandbox| sandbox.work = None);
        // What is complete may be what a lost sandbox comes back from; it goes with the sandbox, or with the next one taken.
        if work.stage == Stage::Taking {
            self.drop_snapshot(entry, work.snapshot, at);
        }
        entry.work(self, sandbox, (work.operation, work.kind), at, "ended: the sandbox went another way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Command,
        command::{Advance, CordonHost, Terminate},
        testing::*,
    };
    use plimsoll_types::{Generation, HostId, Resources, SnapshotName};

    fn begun(item: Begin) -> Command {
        Command::Begin(Box::new(item))
    }

    fn refused(state: &mut State, item: Begin, refusal: Refusal) {
        check(state, &begun(item), &Outcome::Refused(refusal));
    }

    fn give_up_of(n: u64) -> Command {
        Command::GiveUp(GiveUp {
            sandbox: id(n),
            operation: operation(n),
            reason: "registry_full: no room".into(),
            at: at(60),
        })
    }

    #[test]
    fn one_operation_at_a_time_on_a_running_sandbox() {
        let mut state = cluster_with(2);
        check_place(&mut state, place(1, 0), crate::PlaceOutcome::Created(id(1)));
        refused(&mut state, begin(1, WorkKind::Pause, None), Refusal::WrongPhase(Phase::Assigned));
        run(&mut state, 2, 1);
        let stale = Begin { generation: Generation(7), ..begin(2, WorkKind::Pause, None) };
        refused(&mut state, stale, Refusal::GenerationPast);
        check_begin(&mut state, begin(2, WorkKind::Snapshot, None));
        check_begin(&mut state, begin(2, WorkKind::Snapshot, None));
        let second = Begin { operation: operation(9), snapshot: snapshot(9), ..begin(2, WorkKind::Pause, None) };
        refused(&mut state, second, Refusal::UnderWay(operation(2)));
        assert_eq!((sandbox(&state, 2).phase, state.working().count()), (Phase::Running, 1));
    }

    #[test]
    fn a_migration_reserves_its_target_and_lets_go_of_it_when_given_up() {
        let mut state = cluster_with(3);
        run(&mut state, 1, 0);
        refused(&mut state, begin(1, WorkKind::Migrate, None), Refusal::HostUnknown);
        refused(&mut state, begin(1, WorkKind::Migrate, Some(0)), Refusal::SameHost);
        let cordon = CordonHost { host: HostId(2), cordoned: true, reason: "".into(), at: at(31) };
        check(&mut state, &Command::CordonHost(cordon), &Outcome::Done);
        refused(&mut state, begin(1, WorkKind::Migrate, Some(2)), Refusal::HostChanged);
        check_begin(&mut state, begin(1, WorkKind::Migrate, Some(1)));
        assert_eq!((host(&state, 0).sandboxes, host(&state, 1).reserved), (1, spec().resources));
        assert_eq!(state.on_host(HostId(1)).count(), 1);
        check(&mut state, &give_up_of(1), &Outcome::Done);
        check(&mut state, &give_up_of(1), &Outcome::Done);
        assert_eq!((sandbox(&state, 1).phase, host(&state, 1).reserved), (Phase::Running, Resources::ZERO));
        assert!(sandbox(&state, 1).trouble.as_ref().is_some_and(|trouble| trouble.reason.starts_with("registry_full")));
        assert_eq!(state.deleting().count(), 1);
    }

    #[test]
    fn a_recorded_pause_is_kept() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_begin(&mut state, begin(1, WorkKind::Pause, None));
        check_taken(&mut state, 1);
        check(&mut state, &give_up_of(1), &Outcome::Refused(Refusal::WrongPhase(Phase::Pausing)));
    }

    #[test]
    fn whoever_wants_it_gone_wins() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_begin(&mut state, begin(1, WorkKind::Migrate, Some(1)));
        check_one(&mut state, &Command::Terminate(vec![Terminate { if_phase: None, ..terminate(1) }]), Ok(()));
        assert_eq!((host(&state, 1).sandboxes, state.working().count()), (0, 0));
        check_one(&mut state, &advance(Advance { release: true, ..news(1, Phase::Terminated) }), Ok(()));
        assert_eq!(state.deleting().count(), 1);
    }

    #[test]
    fn a_name_is_one_snapshot_of_a_tenant() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        run(&mut state, 2, 0);
        let name = SnapshotName::new("before-upgrade").ok();
        check_begin(&mut state, Begin { name: name.clone(), ..begin(1, WorkKind::Snapshot, None) });
        let again = Begin { name: name.clone(), ..begin(2, WorkKind::Snapshot, None) };
        refused(&mut state, again.clone(), Refusal::SnapshotExists(snapshot(1)));
        check(&mut state, &give_up_of(1), &Outcome::Done);
        check_begin(&mut state, again);
    }
}
