//! `SetHold`: puts the cluster on hold, or ends that. What acts on hosts is refused in between; see [`crate::Command::acts`].

use super::entry::Entry;
use crate::{EventKind, Outcome, State, command::SetHold, model::Hold};
use plimsoll_types::{Millis, SandboxId};

/// After a hold no sandbox expires for so long. State may be older than what platforms have extended since, and nobody could
/// extend what was known only to the hosts: they need time to do it again. Shorter ends work that is wanted, longer only costs room.
pub const DEADLINE_GRACE: Millis = Millis::secs(1800);

/// Put on hold again it keeps its first time and gets the new reason; ending what has ended changes nothing.
pub(super) fn set(state: &mut State, entry: &mut Entry, set: &SetHold) -> Outcome {
    match (&set.reason, &state.hold) {
        (Some(reason), Some(hold)) if hold.reason == *reason => {}
        (Some(reason), hold) => {
            let since = hold.as_ref().map_or(set.at, |hold| hold.since);
            state.hold = Some(Hold { since, reason: reason.clone() });
            entry.cluster(state, set.at, "on hold");
        }
        (None, None) => {}
        (None, Some(_)) => {
            state.hold = None;
            entry.cluster(state, set.at, "resumed");
            postpone(state, entry, set);
        }
    }
    Outcome::Done
}

/// Moves every deadline that would pass within the grace.
fn postpone(state: &mut State, entry: &mut Entry, set: &SetHold) {
    let until = set.at.plus(DEADLINE_GRACE);
    let due: Vec<SandboxId> = state.expired(until).map(|sandbox| sandbox.id).collect();
    for id in due {
        let Some(sandbox) = state.sandboxes.get(&id).filter(|it| it.phase.is_live() && it.deadline != Some(until))
        else {
            continue;
        };
        let tenant = sandbox.tenant.clone();
        state.update_sandbox(id, |sandbox| sandbox.deadline = Some(until));
        entry.emit(state, set.at, EventKind::Deadline { sandbox: id, tenant, deadline: Some(until) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Refusal, command::RemoveHost, testing::*};
    use plimsoll_types::{HostId, Phase};

    #[test]
    fn on_hold_nothing_that_acts_is_taken_and_the_rest_is() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check(&mut state, &hold(), &Outcome::Done);
        let before = state.sandboxes.clone();
        let refused = Outcome::Refused(Refusal::OnHold);
        for command in [
            Command::Place(vec![place(2, 0)]),
            Command::Terminate(vec![terminate(1)]),
            advance(news(1, Phase::Failed)),
            assign(1, 0, 2),
            Command::RemoveHost(RemoveHost { host: HostId(0), at: at(60) }),
        ] {
            check(&mut state, &command, &refused);
        }
        assert_eq!(state.sandboxes, before);
        check(&mut state, &set_deadline(1, 9_000_000), &Outcome::Done);
        check(&mut state, &Command::AddHost(Box::new(add_host(5))), &Outcome::HostAdded(HostId(1)));
        check(&mut state, &resume(70), &Outcome::Done);
        check(&mut state, &resume(70), &Outcome::Done);
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
    }

    #[test]
    fn who_would_expire_right_after_a_hold_gets_time_to_be_extended() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        run(&mut state, 2, 0);
        check(&mut state, &set_deadline(1, 50), &Outcome::Done);
        check(&mut state, &set_deadline(2, 9_000_000), &Outcome::Done);
        check(&mut state, &hold(), &Outcome::Done);
        check(&mut state, &resume(1000), &Outcome::Done);
        assert_eq!(sandbox(&state, 1).deadline, Some(at(1000).plus(DEADLINE_GRACE)));
        assert_eq!(sandbox(&state, 2).deadline, Some(at(9_000_000)));
    }

    #[test]
    fn a_hold_keeps_its_time_and_gets_a_new_reason() {
        let mut state = cluster_with(0);
        check(&mut state, &hold(), &Outcome::Done);
        let again = SetHold { reason: Some("we look".into()), at: at(900) };
        check(&mut state, &Command::SetHold(again), &Outcome::Done);
        assert_eq!(state.hold, Some(Hold { since: at(60), reason: "we look".into() }));
    }
}
