//! The cluster's identity and policy.

use super::entry::{Entry, trim};
use crate::{
    Outcome, Refusal, State,
    command::{InitCluster, SetPolicy},
};

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

pub(super) fn set_policy(state: &mut State, entry: &mut Entry, set: &SetPolicy) -> Result<Outcome, Refusal> {
    if state.policy != set.policy {
        state.policy = set.policy.clone();
        trim(state);
        entry.cluster(state, set.at, "policy changed");
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Policy, testing::*};
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
        check(&mut state, &Command::SetPolicy(SetPolicy { policy, at: at(2) }), &Outcome::Done);
        assert_eq!((state.events.len(), state.events_dropped), (2, Some((3, 0))));
    }
}
