//! `Advance`: records what became of one incarnation. The table of moves judges; only news of the current generation
//! counts; the same news twice is the same as once.

use super::entry::Entry;
use crate::{
    Refusal, State,
    command::Advance,
    model::{Sandbox, Stage, WorkKind},
};
use plimsoll_types::{Desired, OperationId, Phase};

pub(super) fn one(state: &mut State, entry: &mut Entry, news: &Advance) -> Result<(), Refusal> {
    let sandbox = state.sandboxes.get(&news.sandbox).ok_or(Refusal::SandboxUnknown)?;
    judge(sandbox, news)?;
    let moves = sandbox.phase != news.to;
    let paused = (news.to == Phase::Paused).then(|| sandbox.work.as_ref().map(|work| work.snapshot)).flatten();
    if moves && paused.is_none() {
        state.end_work(entry, news.sandbox, news.at);
    }
    let done = sandbox_work(state, news);
    state.update_sandbox(news.sandbox, |sandbox| {
        if moves {
            enter(sandbox, news);
        } else if matches!(news.to, Phase::Running | Phase::Lost) && !news.reason.is_empty() {
            // Why it waits: no room to be restored in, or no way to be paused.
            sandbox.reason = news.reason.clone();
        }
        fill_in(sandbox, news);
    });
    if moves {
        if let Some((snapshot, work)) = paused.zip(done) {
            state.update_sandbox(news.sandbox, |sandbox| {
                (sandbox.base, sandbox.work, sandbox.trouble, sandbox.frozen_since) =
                    (Some(snapshot), None, None, None);
            });
            entry.work(state, news.sandbox, work, news.at, "done");
        }
        settle_snapshots(state, entry, news);
        entry.sandbox(state, news.sandbox, news.at);
    }
    Ok(())
}

fn sandbox_work(state: &State, news: &Advance) -> Option<(OperationId, WorkKind)> {
    let work = state.sandboxes.get(&news.sandbox)?.work.as_ref()?;
    Some((work.operation, work.kind))
}

/// Drops the snapshots that the sandbox does not need any more where it is now.
fn settle_snapshots(state: &mut State, entry: &mut Entry, news: &Advance) {
    match news.to {
        Phase::Paused | Phase::Running => state.drop_unneeded(entry, news.sandbox, news.at),
        Phase::Terminated => state.drop_all_passing(entry, news.sandbox, news.at),
        Phase::Pending
        | Phase::Assigned
        | Phase::Starting
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring
        | Phase::Failed
        | Phase::Terminating => {}
    }
}

fn judge(sandbox: &Sandbox, news: &Advance) -> Result<(), Refusal> {
    if news.generation != sandbox.generation {
        return Err(Refusal::GenerationPast);
    }
    let legal = sandbox.phase == news.to || (sandbox.phase.may_become(news.to) && may_tell(sandbox, news.to));
    if !legal || (news.release && !may_release(news.to)) {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    let other = match (&sandbox.container, &news.container) {
        (Some(known), Some(told)) => known != told,
        (None, None) => news.to == Phase::Running,
        (None, Some(_)) | (Some(_), None) => false,
    };
    if other { Err(Refusal::Conflict) } else { Ok(()) }
}

/// Whether news alone may lead there. Others bring what the move needs: `Assign` a host, `Begin` and `Switch` an operation and its
/// end, and a pause is one only with its snapshot in the registry.
fn may_tell(sandbox: &Sandbox, to: Phase) -> bool {
    let taken = |kind| sandbox.work.as_ref().is_some_and(|work| work.kind == kind && work.stage == Stage::Taken);
    match to {
        Phase::Assigned | Phase::Restoring | Phase::Pausing | Phase::Migrating => false,
        Phase::Running => !matches!(sandbox.phase, Phase::Pausing | Phase::Migrating),
        Phase::Paused => taken(WorkKind::Pause) || resumes(sandbox),
        Phase::Pending | Phase::Starting | Phase::Lost | Phase::Failed | Phase::Terminating | Phase::Terminated => true,
    }
}

/// One that ran before and starts from a snapshot is paused again where it cannot start: nothing of it is lost.
const fn resumes(sandbox: &Sandbox) -> bool {
    matches!(sandbox.phase, Phase::Assigned | Phase::Starting) && sandbox.base.is_some() && sandbox.started_at.is_some()
}

/// Where a sandbox can be without holding capacity, nothing of it being left on its host.
const fn may_release(phase: Phase) -> bool {
    matches!(phase, Phase::Failed | Phase::Paused | Phase::Terminated)
}

fn enter(sandbox: &mut Sandbox, news: &Advance) {
    // A new leader's clock may be behind the old one's: a sandbox's own times never run backwards.
    let at = news.at.max(sandbox.phase_since);
    sandbox.phase = news.to;
    sandbox.phase_since = at;
    match news.to {
        Phase::Running => sandbox.started_at = sandbox.started_at.or(Some(at)),
        Phase::Failed | Phase::Terminated => sandbox.ended_at = sandbox.ended_at.or(Some(at)),
        Phase::Pending
        | Phase::Assigned
        | Phase::Starting
        | Phase::Pausing
        | Phase::Paused
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring
        | Phase::Terminating => {}
    }
    match news.to {
        Phase::Terminating | Phase::Terminated => sandbox.desired = Desired::Terminated,
        Phase::Paused => sandbox.desired = Desired::Paused,
        // A pause that its host was lost under is not gone on with.
        Phase::Running | Phase::Lost => sandbox.desired = Desired::Running,
        Phase::Pending
        | Phase::Assigned
        | Phase::Starting
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Restoring
        | Phase::Failed => {}
    }
    // The end keeps the reason it was asked for, unless it brings a better one.
    if !(news.reason.is_empty() && news.to == Phase::Terminated) {
        sandbox.reason = news.reason.clone();
    }
}

fn fill_in(sandbox: &mut Sandbox, news: &Advance) {
    let gone = news.release || matches!(news.to, Phase::Paused | Phase::Terminated);
    if gone {
        sandbox.assignment = None;
        sandbox.container = None;
        sandbox.queue_until = None;
    } else if sandbox.container.is_none() && sandbox.assignment.is_some() {
        sandbox.container = news.container.clone();
    }
    // Ports may change while it runs: Docker picks new ones when the host restarts the container.
    if news.to == Phase::Running && !news.endpoints.is_empty() {
        sandbox.endpoints = news.endpoints.clone();
    }
    // A lost sandbox may come back as it was, so it keeps them.
    if !matches!(news.to, Phase::Running | Phase::Pausing | Phase::Migrating | Phase::Lost) {
        sandbox.endpoints.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PlaceOutcome, testing::*};
    use plimsoll_types::{Generation, Resources};

    #[test]
    fn a_start_is_recorded_with_its_times() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let sandbox = sandbox(&state, 1);
        assert_eq!((sandbox.phase, sandbox.started_at), (Phase::Running, Some(at(30))));
        assert_eq!((sandbox.container.as_deref(), sandbox.endpoints.len()), (Some("c1"), 1));
    }

    #[test]
    fn the_same_news_twice_is_once_and_fills_in_what_was_missing() {
        let mut state = cluster_with(1);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &advance(news(1, Phase::Starting)), Ok(()));
        let events = state.events.len();
        let container = Advance { container: Some("c1".into()), ..news(1, Phase::Starting) };
        check_one(&mut state, &advance(container.clone()), Ok(()));
        check_one(&mut state, &advance(container), Ok(()));
        assert_eq!((sandbox(&state, 1).container.as_deref(), state.events.len()), (Some("c1"), events));
    }

    #[test]
    fn a_generation_has_one_container() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let other = Advance { container: Some("c2".into()), ..news(1, Phase::Running) };
        check_one(&mut state, &advance(other), Err(Refusal::Conflict));
        check_place(&mut state, place(2, 0), PlaceOutcome::Created(id(2)));
        check_one(&mut state, &advance(news(2, Phase::Starting)), Ok(()));
        check_one(&mut state, &advance(news(2, Phase::Running)), Err(Refusal::Conflict));
    }

    #[test]
    fn old_news_unknown_sandboxes_and_illegal_moves_are_refused() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let old = Advance { generation: Generation::ZERO, ..news(1, Phase::Failed) };
        check_one(&mut state, &advance(old), Err(Refusal::GenerationPast));
        check_one(&mut state, &advance(news(1, Phase::Starting)), Err(Refusal::WrongPhase(Phase::Running)));
        check_one(&mut state, &advance(news(9, Phase::Running)), Err(Refusal::SandboxUnknown));
        let kept = Advance { release: true, ..news(1, Phase::Lost) };
        check_one(&mut state, &advance(kept), Err(Refusal::WrongPhase(Phase::Running)));
        check_place(&mut state, queue(2), PlaceOutcome::Created(id(2)));
        let assigned = Advance { generation: Generation::ZERO, ..news(2, Phase::Assigned) };
        check_one(&mut state, &advance(assigned), Err(Refusal::WrongPhase(Phase::Pending)));
    }

    #[test]
    fn a_failed_sandbox_holds_its_capacity_until_its_host_is_clean() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_one(&mut state, &advance(news(1, Phase::Failed)), Ok(()));
        assert_eq!(host(&state, 0).reserved, spec().resources);
        assert!(state.index.sessions.is_empty(), "a new ensure may create a fresh sandbox");
        let clean = Advance { release: true, ..news(1, Phase::Failed) };
        check_one(&mut state, &advance(clean.clone()), Ok(()));
        check_one(&mut state, &advance(clean), Ok(()));
        assert_eq!((host(&state, 0).reserved, sandbox(&state, 1).container.clone()), (Resources::ZERO, None));
    }

    #[test]
    fn paused_and_terminated_release() {
        let mut state = cluster_with(1);
        pause(&mut state, 1, 0);
        check_one(&mut state, &assign(1, 0, 2), Ok(()));
        let back = Advance { generation: Generation(2), ..news(1, Phase::Paused) };
        check_one(&mut state, &advance(back), Ok(()));
        assert_eq!(
            (sandbox(&state, 1).desired, host(&state, 0).sandboxes),
            (Desired::Paused, 0),
            "it could not resume"
        );
        assert_eq!(host(&state, 0).sandboxes, 0);
        check_one(&mut state, &assign(1, 0, 3), Ok(()));
        let ends = |to| Advance { generation: Generation(3), ..news(1, to) };
        check_one(&mut state, &advance(ends(Phase::Terminating)), Ok(()));
        check_one(&mut state, &advance(ends(Phase::Terminated)), Ok(()));
        assert_eq!((host(&state, 0).sandboxes, sandbox(&state, 1).ended_at), (0, Some(at(40))));
    }

    #[test]
    fn a_lost_sandbox_comes_back_as_it_was_and_a_slow_clock_does_not_turn_time_back() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_one(&mut state, &advance(news(1, Phase::Lost)), Ok(()));
        check_one(&mut state, &advance(Advance { at: at(3), ..news(1, Phase::Running) }), Ok(()));
        assert_eq!((sandbox(&state, 1).endpoints.len(), sandbox(&state, 1).phase_since), (1, at(30)));
        let moved = Advance { endpoints: vec![endpoint(40000)], ..news(1, Phase::Running) };
        check_one(&mut state, &advance(moved), Ok(()));
        assert_eq!(sandbox(&state, 1).endpoints, vec![endpoint(40000)]);
    }

    #[test]
    fn a_pause_that_was_lost_with_its_host_is_not_wanted_any_more_and_the_reason_may_change() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_begin(&mut state, begin(1, WorkKind::Pause, None));
        check_one(&mut state, &advance(news(1, Phase::Lost)), Ok(()));
        assert_eq!((sandbox(&state, 1).desired, &sandbox(&state, 1).work), (Desired::Running, &None));
        let events = state.events.len();
        let waits = Advance { reason: "no room".into(), ..news(1, Phase::Lost) };
        check_one(&mut state, &advance(waits), Ok(()));
        check_one(&mut state, &advance(Advance { reason: "".into(), ..news(1, Phase::Lost) }), Ok(()));
        assert_eq!((&*sandbox(&state, 1).reason, state.events.len()), ("no room", events));
    }
}
