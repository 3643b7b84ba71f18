//! The cluster's identity and policy.

use super::entry::{Entry, trim};
use crate::{
    Outcome, Policy, Refusal, State,
    command::{InitCluster, SetPolicy},
};
use plimsoll_types::Phase;

/// Most events kept whatever the policy says: about 200 bytes each, they are in the memory and the snapshots of every node.
pub const EVENTS_LIMIT: usize = 1_000_000;

/// A retry of the proposal that gave the identity is answered like the first.
pub(super) fn initialise(state: &mut State, entry: &mut Entry, init: &InitCluster) -> Result<Outcome, Refusal> {
    match state.cluster {
        Some(cluster) if cluster == init.cluster => Ok(Outcome::Done),
        Some(_) => Err(Refusal::Cluster),
        None => {
            state.cluster = Some(init.cluster);
            state.policy = init.policy.clone();
            entry.cluster(state, init.at, "initialised");
            Ok(Outcome::Done)
        }
    }
}

/// A policy that is in force already is set again whatever was expected: a retry is answered like the first.
pub(super) fn set_policy(state: &mut State, entry: &mut Entry, set: &SetPolicy) -> Result<Outcome, Refusal> {
    if state.policy == set.policy {
        return Ok(Outcome::Done);
    }
    if set.expected.as_ref().is_some_and(|expected| *expected != state.policy) || !state.may_rename(&set.policy) {
        return Err(Refusal::Conflict);
    }
    state.policy = set.policy.clone();
    trim(state);
    entry.cluster(state, set.at, "policy changed");
    Ok(Outcome::Done)
}

impl State {
    /// Whether containers and workspaces may be called as this policy says. The names of those that exist are derived from the policy
    /// in force: under another one they would no longer be found.
    #[must_use]
    pub fn may_rename(&self, policy: &Policy) -> bool {
        let same = policy.name_prefix == self.policy.name_prefix && policy.data_dir == self.policy.data_dir;
        same || self.sandboxes.values().all(|sandbox| sandbox.phase == Phase::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, command::Advance, testing::*};
    use plimsoll_types::ClusterId;

    #[test]
    fn a_cluster_gets_its_identity_once_and_nothing_before_it() {
        let mut state = State::default();
        let early = Command::AddHost(Box::new(add_host(0)));
        check(&mut state, &early, &Outcome::Refused(Refusal::Cluster));
        check(&mut state, &init(Policy::default()), &Outcome::Done);
        check(&mut state, &init(Policy::default()), &Outcome::Done);
        let cluster = ClusterId::from_parts(2, 2);
        let other = InitCluster { cluster, policy: Policy::default(), at: at(2) };
        check(&mut state, &Command::InitCluster(other), &Outcome::Refused(Refusal::Cluster));
    }

    #[test]
    fn fewer_events_are_kept_from_the_moment_the_policy_says_so() {
        let mut state = cluster_with(3);
        let policy = Policy { events_kept: 2, ..Policy::default() };
        check(&mut state, &Command::SetPolicy(SetPolicy { policy, expected: None, at: at(2) }), &Outcome::Done);
        assert_eq!((state.events.len(), state.events_dropped), (2, Some((3, 0))));
    }

    #[test]
    fn a_policy_made_from_an_older_one_is_refused_and_a_retry_is_not() {
        let mut state = cluster_with(0);
        let first = state.policy.clone();
        let set = |queue_limit, expected: &Policy| {
            let policy = Policy { queue_limit, ..first.clone() };
            Command::SetPolicy(SetPolicy { policy, expected: Some(expected.clone()), at: at(2) })
        };
        check(&mut state, &set(5, &first), &Outcome::Done);
        check(&mut state, &set(5, &first), &Outcome::Done);
        check(&mut state, &set(6, &first), &Outcome::Refused(Refusal::Conflict));
        assert_eq!(state.policy.queue_limit, 5);
    }

    #[test]
    fn names_that_are_in_use_cannot_change() {
        let mut state = cluster_with(1);
        let policy = Policy { name_prefix: "other".into(), ..state.policy.clone() };
        let rename = Command::SetPolicy(SetPolicy { policy, expected: None, at: at(2) });
        run(&mut state, 1, 0);
        check(&mut state, &rename, &Outcome::Refused(Refusal::Conflict));
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        check(&mut state, &rename, &Outcome::Refused(Refusal::Conflict));
        let gone = Advance { release: true, container: None, ..news(1, Phase::Terminated) };
        check_one(&mut state, &advance(gone), Ok(()));
        check(&mut state, &rename, &Outcome::Done);
    }
}
