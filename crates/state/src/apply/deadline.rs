//! `SetDeadline`: moves the time at which a sandbox expires.

use super::entry::Entry;
use crate::{EventKind, Outcome, Refusal, State, command::SetDeadline};

pub(super) fn set(state: &mut State, entry: &mut Entry, set: &SetDeadline) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&set.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if !sandbox.phase.is_live() {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    if sandbox.deadline != set.deadline {
        let tenant = sandbox.tenant.clone();
        state.update_sandbox(set.sandbox, |sandbox| sandbox.deadline = set.deadline);
        entry.emit(state, set.at, EventKind::Deadline { sandbox: set.sandbox, tenant, deadline: set.deadline });
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, testing::*};
    use plimsoll_types::Phase;

    #[test]
    fn a_deadline_moves_while_the_sandbox_lives() {
        let mut state = cluster_with(1);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        check(&mut state, &set_deadline(1, 100), &Outcome::Done);
        let events = state.events.len();
        check(&mut state, &set_deadline(1, 100), &Outcome::Done);
        assert_eq!(state.events.len(), events, "nothing moved");
        assert_eq!(state.expired(at(99)).count(), 0);
        assert_eq!(state.expired(at(100)).count(), 1);
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        assert_eq!((state.expired(at(100)).count(), state.next_expiry()), (0, None), "it ends already");
        check(&mut state, &set_deadline(1, 200), &Outcome::Refused(Refusal::WrongPhase(Phase::Terminating)));
        check(&mut state, &set_deadline(2, 200), &Outcome::Refused(Refusal::SandboxUnknown));
    }
}
