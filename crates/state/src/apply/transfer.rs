//! `Taken` and `Switch`: what an operation has come to. From `Taken` on the snapshot is what the sandbox can come back from.

use super::entry::Entry;
use crate::{
    Outcome, Refusal, State,
    command::{Switch, Taken},
    model::{Moved, SnapshotKind, SnapshotPhase, Stage, WorkKind},
};
use plimsoll_types::{Desired, Phase, SandboxId, SnapshotId, Timestamp};

pub(super) fn record(state: &mut State, entry: &mut Entry, item: &Taken) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    let Some(work) = sandbox.work.clone().filter(|work| work.operation == item.operation) else {
        return Err(Refusal::Conflict);
    };
    if work.stage == Stage::Taken {
        return Ok(Outcome::Done); // Of two that were pushed, the first one recorded is the snapshot.
    }
    let repository = item.stored.repository.len() <= 255 && !item.stored.repository.is_empty();
    if !repository {
        return Err(Refusal::LimitReached);
    }
    state.update_snapshot(work.snapshot, |snapshot| {
        snapshot.phase = SnapshotPhase::Available;
        snapshot.stored = Some(item.stored.clone());
    });
    entry.snapshot(state, work.snapshot, item.at);
    entry.work(state, item.sandbox, (work.operation, work.kind), item.at, "taken");
    let goes_on = matches!(work.kind, WorkKind::Pause | WorkKind::Migrate);
    state.update_sandbox(item.sandbox, |sandbox| {
        if goes_on {
            sandbox.work = sandbox.work.take().map(|work| crate::model::Work { stage: Stage::Taken, ..work });
        } else {
            (sandbox.work, sandbox.trouble) = (None, None);
        }
    });
    if !goes_on {
        entry.work(state, item.sandbox, (work.operation, work.kind), item.at, "done");
    }
    if work.kind == WorkKind::Checkpoint {
        keep_newest(state, entry, item.sandbox, item.at);
    }
    Ok(Outcome::Done)
}

/// Drops the checkpoints of a sandbox beyond the policy's number, oldest first; one that it stands on stays.
fn keep_newest(state: &mut State, entry: &mut Entry, sandbox: SandboxId, at: Timestamp) {
    let kept = usize::try_from(state.policy.checkpoints_kept.max(1)).unwrap_or(usize::MAX);
    let of_kind = |kind| kind == SnapshotKind::Checkpoint;
    let available = state.snapshots_of(sandbox).filter(|snapshot| snapshot.phase == SnapshotPhase::Available);
    // Ids are time-ordered.
    let checkpoints: Vec<SnapshotId> =
        available.filter(|snapshot| of_kind(snapshot.kind)).map(|snapshot| snapshot.id).collect();
    for old in checkpoints.iter().take(checkpoints.len().saturating_sub(kept)) {
        state.drop_snapshot(entry, *old, at);
    }
}

pub(super) fn switch(state: &mut State, entry: &mut Entry, item: &Switch) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if sandbox.moved.as_ref().is_some_and(|moved| moved.operation == item.operation) {
        return Ok(Outcome::Done); // The same proposal, applied before.
    }
    let work = sandbox.work.clone().filter(|work| work.operation == item.operation);
    let (Some(work), Some(source)) = (work, sandbox.assignment) else { return Err(Refusal::Conflict) };
    let (Some(target), Stage::Taken, Phase::Migrating) = (work.target, work.stage, sandbox.phase) else {
        return Err(Refusal::WrongPhase(sandbox.phase));
    };
    let moved = Moved {
        operation: item.operation,
        from: source.host,
        to: target.host,
        at: item.at,
        downtime: item.downtime,
        bytes: item.bytes,
    };
    let tenant = sandbox.tenant.clone();
    state.update_sandbox(item.sandbox, |sandbox| {
        sandbox.assignment = Some(target);
        sandbox.generation = target.generation;
        sandbox.container = Some(item.container.clone());
        sandbox.endpoints = item.endpoints.clone();
        (sandbox.phase, sandbox.desired) = (Phase::Running, Desired::Running);
        sandbox.phase_since = item.at.max(sandbox.phase_since);
        (sandbox.work, sandbox.trouble, sandbox.frozen_since) = (None, None, None);
        sandbox.base = Some(work.snapshot);
        sandbox.moved = Some(moved.clone());
    });
    state.drop_unneeded(entry, item.sandbox, item.at);
    entry.emit(state, item.at, crate::EventKind::Moved { sandbox: item.sandbox, tenant, moved });
    entry.work(state, item.sandbox, (work.operation, work.kind), item.at, "done");
    entry.sandbox(state, item.sandbox, item.at);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Command, Policy,
        command::{Begin, SetPolicy},
        testing::*,
    };
    use plimsoll_types::{Bytes, Generation, HostId, Millis, OperationId};

    fn switch_of(n: u64) -> Command {
        Command::Switch(Box::new(Switch {
            sandbox: id(n),
            operation: operation(n),
            container: "moved".into(),
            endpoints: vec![endpoint(41000)],
            downtime: Millis(700),
            bytes: Bytes::mib(5),
            at: at(60),
        }))
    }

    #[test]
    fn a_pause_frees_everything_and_comes_back_anywhere() {
        let mut state = cluster_with(2);
        pause(&mut state, 1, 0);
        let paused = sandbox(&state, 1);
        assert_eq!((paused.phase, paused.base, paused.desired), (Phase::Paused, Some(snapshot(1)), Desired::Paused));
        assert_eq!((host(&state, 0).sandboxes, state.index.sessions.len()), (0, 1));
        check_one(&mut state, &assign(1, 1, 2), Ok(()));
        assert_eq!((sandbox(&state, 1).phase, sandbox(&state, 1).generation), (Phase::Assigned, Generation(2)));
    }

    #[test]
    fn a_move_switches_host_generation_and_reservation_at_once() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_begin(&mut state, begin(1, WorkKind::Migrate, Some(1)));
        check(&mut state, &switch_of(1), &Outcome::Refused(Refusal::WrongPhase(Phase::Migrating)));
        check_taken(&mut state, 1);
        check(&mut state, &switch_of(1), &Outcome::Done);
        check(&mut state, &switch_of(1), &Outcome::Done);
        let moved = sandbox(&state, 1);
        assert_eq!(
            (moved.phase, moved.generation, moved.container.as_deref()),
            (Phase::Running, Generation(2), Some("moved"))
        );
        assert_eq!((host(&state, 0).sandboxes, host(&state, 1).sandboxes), (0, 1));
        assert_eq!(moved.moved.as_ref().map(|moved| (moved.from, moved.downtime)), Some((HostId(0), Millis(700))));
        assert_eq!(moved.base, Some(snapshot(1)));
    }

    #[test]
    fn only_the_newest_checkpoints_are_kept_and_what_somebody_asked_for_stays() {
        let mut state = cluster_with(1);
        let policy = Policy { checkpoints_kept: 2, ..Policy::default() };
        check(&mut state, &Command::SetPolicy(SetPolicy { policy, expected: None, at: at(2) }), &Outcome::Done);
        run(&mut state, 1, 0);
        for n in 1..=5 {
            let kind = if n == 1 { WorkKind::Snapshot } else { WorkKind::Checkpoint };
            let operation = OperationId::from_parts(n, 7);
            check_begin(&mut state, Begin { operation, snapshot: snapshot(n), ..begin(1, kind, None) });
            check(&mut state, &Command::Taken(Box::new(Taken { operation, ..taken(1) })), &Outcome::Done);
        }
        assert_eq!(state.deleting().map(|it| it.id).collect::<Vec<_>>(), [snapshot(2), snapshot(3)]);
        assert_eq!(state.newest_snapshot(id(1)).map(|it| it.id), Some(snapshot(5)));
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        check_one(&mut state, &advance(news(1, Phase::Terminated)), Ok(()));
        assert_eq!(state.deleting().count(), 4, "all but the one that was asked for");
    }
}
