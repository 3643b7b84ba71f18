//! `TakeOver` and `WriteOff`: how a cluster that was restored from an older copy learns what happened since. Only on hold, and only
//! what an operator asked for.

use super::{SANDBOXES_LIMIT, entry::Entry, fit};
use crate::{
    Outcome, Refusal, State,
    command::{Found, TakeOver, WriteOff},
    model::{Host, Sandbox, SnapshotPhase},
};
use plimsoll_types::{Desired, Generation, Phase, SandboxId, SandboxSpec, SessionId, SnapshotId, TenantId, Timestamp};

/// The reason a sandbox then has.
const TAKEN_OVER: &str = "taken over by its container's labels";

/// Done already is success.
pub(super) fn take(state: &mut State, entry: &mut Entry, item: &TakeOver) -> Result<Outcome, Refusal> {
    if state.hold.is_none() {
        return Err(Refusal::NotOnHold);
    }
    let Some(host) = state.hosts.get(&item.assignment.host) else { return Err(Refusal::HostUnknown) };
    if item.assignment.generation < Generation::FIRST {
        return Err(Refusal::GenerationPast);
    }
    match (state.sandboxes.get(&item.sandbox), &item.made) {
        (Some(known), _) if stands(known, item) => return Ok(Outcome::Done),
        (Some(known), _) => {
            judge(state, known, host, item)?;
            state.end_work(entry, item.sandbox, item.at);
        }
        (None, None) => return Err(Refusal::SandboxUnknown),
        (None, Some(made)) => {
            if state.sandboxes.len() >= SANDBOXES_LIMIT {
                return Err(Refusal::LimitReached);
            }
            free(state, item.sandbox, &made.tenant, &made.session)?;
            room(state, host, &made.spec)?;
            let base = made.spec.snapshot.filter(|id| available(state, *id));
            state.insert_sandbox(Sandbox { base, ..blank(item, made) });
        }
    }
    state.update_sandbox(item.sandbox, |sandbox| enter(sandbox, item));
    entry.sandbox(state, item.sandbox, item.at);
    Ok(Outcome::Done)
}

/// Done already is success.
pub(super) fn drop(state: &mut State, entry: &mut Entry, item: &WriteOff) -> Result<(), Refusal> {
    if state.hold.is_none() {
        return Err(Refusal::NotOnHold);
    }
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if sandbox.generation != item.generation {
        return Err(Refusal::GenerationPast);
    }
    if sandbox.phase == Phase::Failed && sandbox.assignment.is_none() {
        return Ok(());
    }
    if !sandbox.phase.is_live() || !sandbox.phase.may_become(Phase::Failed) {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    state.end_work(entry, item.sandbox, item.at);
    state.update_sandbox(item.sandbox, |sandbox| {
        let at = item.at.max(sandbox.phase_since);
        (sandbox.phase, sandbox.phase_since, sandbox.ended_at) = (Phase::Failed, at, sandbox.ended_at.or(Some(at)));
        (sandbox.assignment, sandbox.container, sandbox.queue_until, sandbox.frozen_since) = (None, None, None, None);
        sandbox.endpoints.clear();
        sandbox.reason = item.reason.clone();
    });
    entry.sandbox(state, item.sandbox, item.at);
    Ok(())
}

fn stands(known: &Sandbox, item: &TakeOver) -> bool {
    known.assignment == Some(item.assignment) && known.container.as_deref() == Some(&*item.container) && runs(known)
}

fn runs(sandbox: &Sandbox) -> bool {
    sandbox.phase == Phase::Running && sandbox.work.is_none()
}

/// An older incarnation never comes back, and one that is on its way out stays there.
fn judge(state: &State, known: &Sandbox, host: &Host, item: &TakeOver) -> Result<(), Refusal> {
    if item.assignment.generation < known.generation {
        return Err(Refusal::GenerationPast);
    }
    if matches!(known.phase, Phase::Terminating | Phase::Terminated) {
        return Err(Refusal::WrongPhase(known.phase));
    }
    free(state, known.id, &known.tenant, &known.session)?;
    let target = known.work.as_ref().and_then(|work| work.target);
    let holds = known.assignment.into_iter().chain(target).any(|at| at.host == item.assignment.host);
    if holds { Ok(()) } else { room(state, host, &known.spec) }
}

/// Two live sandboxes never share a session: the other one must be given up first.
fn free(state: &State, id: SandboxId, tenant: &TenantId, session: &SessionId) -> Result<(), Refusal> {
    match state.index.sessions.get(&(tenant.clone(), session.clone())) {
        Some(live) if *live != id => Err(Refusal::Conflict),
        Some(_) | None => Ok(()),
    }
}

fn available(state: &State, id: SnapshotId) -> bool {
    state.snapshots.get(&id).is_some_and(|snapshot| snapshot.phase == SnapshotPhase::Available)
}

fn room(state: &State, host: &Host, spec: &SandboxSpec) -> Result<(), Refusal> {
    if fit::has_room(state, host, spec) { Ok(()) } else { Err(Refusal::HostChanged) }
}

fn blank(item: &TakeOver, made: &Found) -> Sandbox {
    Sandbox {
        id: item.sandbox,
        tenant: made.tenant.clone(),
        session: made.session.clone(),
        spec: made.spec.clone(),
        desired: Desired::Running,
        phase: Phase::Pending,
        reason: "".into(),
        generation: Generation::ZERO,
        assignment: None,
        container: None,
        endpoints: Vec::new(),
        queue_until: None,
        deadline: None,
        operation: made.operation,
        created_at: made.created_at.min(item.at),
        started_at: Some(made.created_at.min(item.at)),
        ended_at: None,
        phase_since: Timestamp::ZERO,
        lifetime: None,
        base: None,
        work: None,
        frozen_since: None,
        trouble: None,
        moved: None,
        restored: None,
        superseded: Vec::new(),
    }
}

fn enter(sandbox: &mut Sandbox, item: &TakeOver) {
    let at = item.at.max(sandbox.phase_since);
    sandbox.generation = item.assignment.generation;
    sandbox.assignment = Some(item.assignment);
    sandbox.container = Some(item.container.clone());
    sandbox.endpoints.clone_from(&item.endpoints);
    (sandbox.desired, sandbox.phase, sandbox.phase_since) = (Desired::Running, Phase::Running, at);
    sandbox.started_at = sandbox.started_at.or(Some(at));
    (sandbox.ended_at, sandbox.queue_until) = (None, None);
    sandbox.frozen_since = item.frozen.then_some(at);
    sandbox.superseded.retain(|old| old.generation < item.assignment.generation);
    sandbox.reason = TAKEN_OVER.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Assignment, Command, PlaceOutcome, WorkKind, testing::*};
    use plimsoll_types::{HostId, OperationId, Resources};
    use std::sync::Arc;

    fn found(n: u64, host: u32, generation: u64) -> TakeOver {
        TakeOver {
            sandbox: id(n),
            assignment: Assignment { host: HostId(host), generation: Generation(generation) },
            container: format!("c{n}-{generation}").into(),
            endpoints: vec![endpoint(41000)],
            frozen: false,
            made: None,
            at: at(80),
        }
    }

    fn unknown(n: u64, host: u32) -> TakeOver {
        let made = Found {
            tenant: TenantId::default_tenant(),
            session: session(n),
            spec: Arc::new(spec()),
            operation: OperationId::from_parts(1, 1),
            created_at: at(20),
        };
        TakeOver { made: Some(made), ..found(n, host, 1) }
    }

    #[track_caller]
    fn check_take(state: &mut State, item: TakeOver, expected: Result<(), Refusal>) {
        let expected = expected.map_or_else(Outcome::Refused, |()| Outcome::Done);
        check(state, &Command::TakeOver(Box::new(item)), &expected);
    }

    fn write_off(n: u64) -> Command {
        let generation = Generation::FIRST;
        Command::WriteOff(vec![WriteOff { sandbox: id(n), generation, reason: "nowhere".into(), at: at(90) }])
    }

    #[test]
    fn what_moved_since_is_followed_and_its_old_room_is_free() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_take(&mut state, found(1, 1, 2), Err(Refusal::NotOnHold));
        check(&mut state, &hold(), &Outcome::Done);
        check_take(&mut state, found(1, 1, 2), Ok(()));
        check_take(&mut state, found(1, 1, 2), Ok(()));
        let now = sandbox(&state, 1);
        assert_eq!(
            (now.phase, now.generation, now.container.as_deref()),
            (Phase::Running, Generation(2), Some("c1-2"))
        );
        assert_eq!((host(&state, 0).reserved, host(&state, 1).reserved), (Resources::ZERO, spec().resources));
        check_take(&mut state, found(1, 0, 1), Err(Refusal::GenerationPast));
    }

    #[test]
    fn what_was_paused_or_being_moved_runs_again_where_it_was_found() {
        let mut state = cluster_with(2);
        pause(&mut state, 1, 0);
        run(&mut state, 2, 0);
        check_begin(&mut state, begin(2, WorkKind::Migrate, Some(1)));
        check(&mut state, &hold(), &Outcome::Done);
        check_take(&mut state, TakeOver { frozen: true, ..found(1, 1, 2) }, Ok(()));
        assert_eq!(sandbox(&state, 1).frozen_since, Some(at(80)));
        check_take(&mut state, found(2, 1, 2), Ok(()));
        assert_eq!((sandbox(&state, 2).work.clone(), host(&state, 0).sandboxes), (None, 0));
    }

    #[test]
    fn what_state_never_heard_of_becomes_a_sandbox_if_its_session_and_its_room_are_free() {
        let mut state = cluster_with(1);
        check(&mut state, &hold(), &Outcome::Done);
        check_take(&mut state, found(1, 0, 1), Err(Refusal::SandboxUnknown));
        check_take(&mut state, unknown(1, 9), Err(Refusal::HostUnknown));
        check_take(&mut state, unknown(1, 0), Ok(()));
        check_take(&mut state, unknown(1, 0), Ok(()));
        assert_eq!((sandbox(&state, 1).started_at, host(&state, 0).sandboxes), (Some(at(20)), 1));
        let mut twin = unknown(2, 0);
        twin.made.iter_mut().for_each(|made| made.session = session(1));
        check_take(&mut state, twin.clone(), Err(Refusal::Conflict));
        check_one(&mut state, &write_off(1), Ok(()));
        check_take(&mut state, twin, Ok(()));
        check_take(&mut state, unknown(3, 0), Ok(()));
        check_take(&mut state, unknown(4, 0), Err(Refusal::HostChanged));
    }

    #[test]
    fn who_is_nowhere_has_failed_and_holds_nothing() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        pause(&mut state, 2, 0);
        check_one(&mut state, &write_off(1), Err(Refusal::NotOnHold));
        check(&mut state, &hold(), &Outcome::Done);
        check_one(&mut state, &write_off(1), Ok(()));
        check_one(&mut state, &write_off(1), Ok(()));
        assert_eq!((sandbox(&state, 1).phase, host(&state, 0).sandboxes), (Phase::Failed, 0));
        check_one(&mut state, &write_off(2), Err(Refusal::WrongPhase(Phase::Paused)));
        check_one(&mut state, &write_off(9), Err(Refusal::SandboxUnknown));
    }

    #[test]
    fn what_is_going_does_not_come_back() {
        let mut state = cluster_with(1);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        let phase = sandbox(&state, 1).phase;
        check(&mut state, &hold(), &Outcome::Done);
        check_take(&mut state, found(1, 0, 2), Err(Refusal::WrongPhase(phase)));
    }
}
