//! `Forget` and `ForgetIdempotency`: drop what was kept long enough. Never anything that a host still knows of.

use crate::{Outcome, State, command::ForgetIdempotency};
use plimsoll_types::{Phase, SandboxId};

/// Most idempotency keys dropped by one command, so that none holds up apply for long; the next one goes on.
pub const FORGET_AT_ONCE: usize = 10_000;

/// Records that are unknown or not terminated are passed over.
pub(super) fn sandboxes(state: &mut State, ids: &[SandboxId]) -> Outcome {
    for id in ids {
        if state.sandboxes.get(id).is_some_and(|sandbox| sandbox.phase == Phase::Terminated) {
            state.remove_sandbox(*id);
        }
    }
    Outcome::Done
}

pub(super) fn idempotency(state: &mut State, forget: &ForgetIdempotency) -> Outcome {
    for _ in 0..FORGET_AT_ONCE {
        let Some(oldest) = state.index.remembered.first() else { break };
        if oldest.0 >= forget.before {
            break;
        }
        if let Some((_, tenant, key)) = state.index.remembered.pop_first() {
            state.idempotency.remove(&(tenant, key));
        }
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, command::Place, testing::*};

    #[test]
    fn only_what_ended_is_forgotten() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        check_place(&mut state, queue(2), PlaceOutcome::Created(id(2)));
        check_one(&mut state, &Command::Terminate(vec![terminate(2)]), Ok(()));
        let ended = at(40).plus(state.policy.retention);
        assert_eq!(state.forgettable(ended).map(|sandbox| sandbox.id).collect::<Vec<_>>(), [id(2)]);
        assert_eq!(state.forgettable(plimsoll_types::Timestamp(ended.0 - 1)).count(), 0);
        check(&mut state, &Command::Forget(vec![id(1), id(2), id(3)]), &Outcome::Done);
        assert_eq!(state.sandboxes.keys().collect::<Vec<_>>(), [&id(1)]);
    }

    #[test]
    fn keys_are_forgotten_by_age() {
        let mut state = cluster_with(1);
        for (n, seconds) in [(1, 10), (2, 20)] {
            let item = Place { idempotency: key(&format!("k{n}"), 1), at: at(seconds), ..place(n, 0) };
            check_place(&mut state, item, PlaceOutcome::Created(id(n)));
        }
        let now = at(20).plus(state.policy.idempotency_ttl);
        let before = state.idempotency_overdue(now).unwrap();
        check(&mut state, &Command::ForgetIdempotency(ForgetIdempotency { before }), &Outcome::Done);
        assert!(state.remembered(&tenant(), "k1").is_none() && state.remembered(&tenant(), "k2").is_some());
        assert_eq!(state.idempotency_overdue(now), None);
    }
}
