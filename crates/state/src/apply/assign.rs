//! `Assign`: gives a host, and with it the next generation, to a sandbox that has none or could not start on the one it has.

use super::{entry::Entry, fit};
use crate::{
    EventKind, Refusal, State,
    command::Assign,
    model::{Restored, SUPERSEDED_LIMIT, Sandbox, SnapshotPhase, Superseded},
};
use plimsoll_types::{Desired, Phase};

pub(super) fn one(state: &mut State, entry: &mut Entry, item: &Assign) -> Result<(), Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if sandbox.assignment == Some(item.assignment) {
        return Ok(()); // The same proposal, applied before.
    }
    judge(state, sandbox, item)?;
    let restore = item.restore.filter(|_| sandbox.phase == Phase::Lost);
    let base = restore.map(|restore| restore.snapshot).or(sandbox.base);
    fit::check(state, item.assignment.host, &sandbox.tenant, &sandbox.spec, base, item.at)?;
    let restored = restored(state, sandbox, item)?;
    let (assignment, tenant) = (item.assignment, sandbox.tenant.clone());
    state.update_sandbox(item.sandbox, |sandbox| {
        if let Some(restored) = restored {
            supersede(sandbox, item.at);
            sandbox.restored = Some(restored);
        }
        let restoring = matches!(sandbox.phase, Phase::Lost | Phase::Restoring);
        sandbox.assignment = Some(assignment);
        sandbox.generation = assignment.generation;
        sandbox.desired = Desired::Running;
        sandbox.phase = if restoring { Phase::Restoring } else { Phase::Assigned };
        sandbox.base = base;
        sandbox.deadline = item.deadline.or(sandbox.deadline);
        sandbox.frozen_since = None;
        sandbox.phase_since = item.at.max(sandbox.phase_since);
        sandbox.queue_until = None;
        sandbox.container = None;
        sandbox.endpoints.clear();
        sandbox.ended_at = None;
        sandbox.reason = "".into();
    });
    if let Some(restored) = restored {
        entry.emit(state, item.at, EventKind::Restored { sandbox: item.sandbox, tenant, restored });
    }
    entry.sandbox(state, item.sandbox, item.at);
    Ok(())
}

/// A lost sandbox begins again only from an available snapshot of its own, or from the one it was made from.
fn restored(state: &State, sandbox: &Sandbox, item: &Assign) -> Result<Option<Restored>, Refusal> {
    let (Some(from), Some(lost)) = (item.restore, sandbox.assignment.filter(|_| sandbox.phase == Phase::Lost)) else {
        return if sandbox.phase == Phase::Lost { Err(Refusal::WrongPhase(sandbox.phase)) } else { Ok(None) };
    };
    let snapshot = state.snapshots.get(&from.snapshot).filter(|snapshot| snapshot.sandbox == sandbox.id);
    let snapshot = snapshot.ok_or(Refusal::SnapshotUnknown)?;
    let stored = snapshot.stored.as_ref().filter(|_| snapshot.phase == SnapshotPhase::Available);
    let window = from.last_seen.since(stored.ok_or(Refusal::SnapshotUnusable)?.taken_at);
    Ok(Some(Restored { from: lost.host, snapshot: from.snapshot, at: item.at, window }))
}

/// Remembers the incarnation that stands on the lost host, so that it is stopped and kept when the host is back.
fn supersede(sandbox: &mut Sandbox, at: plimsoll_types::Timestamp) {
    if let Some(lost) = sandbox.assignment {
        if sandbox.superseded.len() >= SUPERSEDED_LIMIT {
            sandbox.superseded.remove(0);
        }
        sandbox.superseded.push(Superseded { host: lost.host, generation: lost.generation, at });
    }
}

/// One that never ran may leave a host where it could not start, and one whose host is lost may begin again elsewhere; the reservation moves with it, so its session stays taken.
fn moves_on(sandbox: &Sandbox) -> bool {
    matches!(sandbox.phase, Phase::Assigned | Phase::Starting | Phase::Lost | Phase::Restoring)
}

/// A failed sandbox comes back only once its old host has nothing left of it, and only if its session is still free.
fn judge(state: &State, sandbox: &Sandbox, item: &Assign) -> Result<(), Refusal> {
    if item.assignment.generation != sandbox.generation.next() {
        return Err(Refusal::GenerationPast);
    }
    let session = (sandbox.tenant.clone(), sandbox.session.clone());
    let superseded = state.index.sessions.get(&session).is_some_and(|live| *live != sandbox.id);
    let may = (sandbox.phase.may_become(Phase::Assigned) || sandbox.phase.may_become(Phase::Restoring))
        && (sandbox.assignment.is_none() || moves_on(sandbox))
        && sandbox.desired != Desired::Terminated
        && !superseded;
    if may { Ok(()) } else { Err(Refusal::WrongPhase(sandbox.phase)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Assignment, Command, PlaceOutcome, WorkKind,
        command::{Advance, RestoreFrom},
        testing::*,
    };
    use plimsoll_types::{Generation, HostId, Millis};

    #[test]
    fn who_waited_gets_a_host_once() {
        let mut state = cluster_with(1);
        check_place(&mut state, queue(1), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &assign(1, 0, 2), Err(Refusal::GenerationPast));
        check_one(&mut state, &assign(1, 0, 1), Ok(()));
        check_one(&mut state, &assign(1, 0, 1), Ok(()));
        assert_eq!((sandbox(&state, 1).phase, host(&state, 0).sandboxes), (Phase::Assigned, 1));
        assert_eq!(sandbox(&state, 1).queue_until, None);
        assert_eq!(state.pending_count(), 0);
        check_one(&mut state, &assign(5, 0, 1), Err(Refusal::SandboxUnknown));
    }

    #[test]
    fn who_could_not_start_moves_with_its_reservation_and_its_session() {
        let mut state = cluster_with(2);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &advance(Advance { container: Some("c1".into()), ..news(1, Phase::Starting) }), Ok(()));
        check_one(&mut state, &assign(1, 1, 2), Ok(()));
        assert_eq!((host(&state, 0).sandboxes, host(&state, 1).sandboxes), (0, 1));
        assert_eq!((sandbox(&state, 1).container.as_ref(), state.index.sessions.len()), (None, 1));
        check_one(&mut state, &advance(news(1, Phase::Starting)), Err(Refusal::GenerationPast));
        let running = Advance { generation: Generation(2), container: Some("c2".into()), ..news(1, Phase::Starting) };
        check_one(&mut state, &advance(running.clone()), Ok(()));
        check_one(&mut state, &advance(Advance { to: Phase::Running, ..running }), Ok(()));
        check_one(&mut state, &assign(1, 0, 3), Err(Refusal::WrongPhase(Phase::Running)));
    }

    #[test]
    fn a_lost_sandbox_begins_again_from_its_newest_snapshot_and_its_old_copy_is_remembered() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        let restore = |snapshot| {
            Command::Assign(vec![Assign {
                sandbox: id(1),
                assignment: Assignment { host: HostId(1), generation: Generation(2) },
                deadline: None,
                restore: Some(RestoreFrom { snapshot, last_seen: at(100) }),
                at: at(160),
            }])
        };
        check_one(&mut state, &restore(snapshot(1)), Err(Refusal::WrongPhase(Phase::Running)));
        check_begin(&mut state, begin(1, WorkKind::Checkpoint, None));
        check_taken(&mut state, 1);
        check_one(&mut state, &advance(news(1, Phase::Lost)), Ok(()));
        check_one(&mut state, &assign(1, 1, 2), Err(Refusal::WrongPhase(Phase::Lost)));
        check_one(&mut state, &restore(snapshot(2)), Err(Refusal::SnapshotUnknown));
        check_one(&mut state, &restore(snapshot(1)), Ok(()));
        let back = sandbox(&state, 1);
        assert_eq!((back.phase, back.generation, back.base), (Phase::Restoring, Generation(2), Some(snapshot(1))));
        assert_eq!(back.restored.map(|restored| restored.window), Some(Millis::secs(59)));
        assert_eq!(back.superseded, [Superseded { host: HostId(0), generation: Generation::FIRST, at: at(160) }]);
        assert_eq!((host(&state, 0).sandboxes, host(&state, 1).sandboxes), (0, 1));
    }

    #[test]
    fn a_full_host_is_refused() {
        let mut state = cluster_with(1);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        check_place(&mut state, place(2, 0), PlaceOutcome::Created(id(2)));
        check_place(&mut state, queue(3), PlaceOutcome::Created(id(3)));
        check_one(&mut state, &assign(3, 0, 1), Err(Refusal::HostChanged));
        check_one(&mut state, &assign(3, 7, 1), Err(Refusal::HostUnknown));
    }

    #[test]
    fn a_failed_sandbox_comes_back_when_its_host_is_clean_and_its_session_free() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_one(&mut state, &advance(news(1, Phase::Failed)), Ok(()));
        check_one(&mut state, &assign(1, 1, 2), Err(Refusal::WrongPhase(Phase::Failed)));
        check_one(&mut state, &advance(Advance { release: true, ..news(1, Phase::Failed) }), Ok(()));
        check_one(&mut state, &assign(1, 1, 2), Ok(()));
        assert_eq!((sandbox(&state, 1).generation, sandbox(&state, 1).ended_at), (Generation(2), None));
        assert_eq!(state.live_sandbox(&tenant(), &session(1)).map(|sandbox| sandbox.id), Some(id(1)));

        let failed = Advance { generation: Generation(2), release: true, ..news(1, Phase::Failed) };
        check_one(&mut state, &advance(failed), Ok(()));
        let fresh = crate::command::Place { session: session(1), ..place(2, 0) };
        check_place(&mut state, fresh, PlaceOutcome::Created(id(2)));
        check_one(&mut state, &assign(1, 1, 3), Err(Refusal::WrongPhase(Phase::Failed)));
    }
}
