//! `Terminate`: the wish that a sandbox be gone. What never reached a host is gone at once; the rest keeps its
//! reservation until its host has nothing left of it.

use super::entry::Entry;
use crate::{Refusal, State, command::Terminate};
use plimsoll_types::{Desired, Phase};

pub(super) fn one(state: &mut State, entry: &mut Entry, wish: &Terminate) -> Result<(), Refusal> {
    let sandbox = state.sandboxes.get(&wish.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if matches!(sandbox.phase, Phase::Terminating | Phase::Terminated) {
        return Ok(());
    }
    if wish.if_deadline.is_some_and(|deadline| sandbox.deadline != Some(deadline)) {
        return Err(Refusal::DeadlineMoved);
    }
    let next = if sandbox.assignment.is_some() { Phase::Terminating } else { Phase::Terminated };
    if wish.if_phase.is_some_and(|phase| sandbox.phase != phase) || !sandbox.phase.may_become(next) {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    state.end_work(entry, wish.sandbox, wish.at);
    state.update_sandbox(wish.sandbox, |sandbox| {
        let at = wish.at.max(sandbox.phase_since);
        sandbox.desired = Desired::Terminated;
        sandbox.phase = next;
        sandbox.phase_since = at;
        sandbox.reason = wish.reason.clone();
        sandbox.endpoints.clear();
        sandbox.queue_until = None;
        sandbox.frozen_since = None;
        if next == Phase::Terminated {
            sandbox.ended_at = sandbox.ended_at.or(Some(at));
        }
    });
    if next == Phase::Terminated {
        state.drop_all_passing(entry, wish.sandbox, wish.at);
    }
    entry.sandbox(state, wish.sandbox, wish.at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, command::Advance, testing::*};

    fn wish(wish: Terminate) -> Command {
        Command::Terminate(vec![wish])
    }

    #[test]
    fn a_running_sandbox_keeps_its_capacity_until_it_is_gone() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_one(&mut state, &wish(terminate(1)), Ok(()));
        check_one(&mut state, &wish(Terminate { reason: "again".into(), ..terminate(1) }), Ok(()));
        let going = sandbox(&state, 1);
        assert_eq!((going.phase, going.desired, &*going.reason), (Phase::Terminating, Desired::Terminated, "asked"));
        assert_eq!((host(&state, 0).sandboxes, state.index.sessions.len()), (1, 0));
        check_one(&mut state, &advance(news(1, Phase::Terminated)), Ok(()));
        check_one(&mut state, &wish(terminate(1)), Ok(()));
        assert_eq!((host(&state, 0).sandboxes, &*sandbox(&state, 1).reason), (0, "asked"));
        check_one(&mut state, &wish(terminate(2)), Err(Refusal::SandboxUnknown));
    }

    #[test]
    fn what_no_host_knows_of_is_gone_at_once() {
        let mut state = cluster_with(1);
        check_place(&mut state, queue(1), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &wish(terminate(1)), Ok(()));
        assert_eq!((sandbox(&state, 1).phase, sandbox(&state, 1).ended_at), (Phase::Terminated, Some(at(40))));
        run(&mut state, 2, 0);
        check_one(&mut state, &advance(Advance { release: true, ..news(2, Phase::Failed) }), Ok(()));
        check_one(&mut state, &wish(terminate(2)), Ok(()));
        assert_eq!((sandbox(&state, 2).phase, sandbox(&state, 2).ended_at), (Phase::Terminated, Some(at(30))));
    }

    #[test]
    fn what_was_decided_meanwhile_wins() {
        let mut state = cluster_with(1);
        check_place(&mut state, queue(1), PlaceOutcome::Created(id(1)));
        check_one(&mut state, &assign(1, 0, 1), Ok(()));
        let timeout = Terminate { if_phase: Some(Phase::Pending), ..terminate(1) };
        check_one(&mut state, &wish(timeout), Err(Refusal::WrongPhase(Phase::Assigned)));
        check(&mut state, &set_deadline(1, 100), &crate::Outcome::Done);
        let expiry = Terminate { if_deadline: Some(at(99)), ..terminate(1) };
        check_one(&mut state, &wish(expiry), Err(Refusal::DeadlineMoved));
        let expiry = Terminate { if_deadline: Some(at(100)), ..terminate(1) };
        check_one(&mut state, &wish(expiry), Ok(()));
    }
}
