//! Keeps the membership moving: finishes changes that a crash cut in two, and makes learners that caught up voters.
//!
//! It works from what is, not from what was asked, so it does not matter which leader began a change.

use super::{Inner, leader};
use crate::types::Peer;
use openraft::{ChangeMembers, Instant as _, async_runtime::WatchReceiver};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How often to look.
const PERIOD: Duration = Duration::from_millis(250);
/// A learner this close to the end of the log has caught up: it needs less than a round trip more.
const CAUGHT_UP: u64 = 256;

/// Runs until the node stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = inner.closing.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(changes) = next(&inner) else { continue };
        tracing::info!(?changes, "changing the membership");
        if let Err(failure) = leader::change(&inner, changes).await {
            tracing::warn!(reason = failure.message, "the membership was not changed; trying again");
        }
    }
}

/// The next change, if this node leads, none is under way and there is one to make.
fn next(inner: &Inner) -> Option<ChangeMembers<u64, Peer>> {
    leader::ensure_leads(inner).ok()?;
    let _idle = inner.changing.try_lock().ok()?;
    let metrics = inner.raft.metrics();
    let raft = metrics.borrow_watched();
    // Only committed memberships are built on.
    if raft.membership_config.log_id() != raft.committed_membership_config.log_id() {
        return None;
    }
    if raft.membership_config.get_joint_config().len() > 1 {
        // Adding nobody turns a joint membership into the one it was meant to become.
        return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
    }
    let last = raft.last_log_index?;
    let replication = raft.replication.as_ref()?;
    let heartbeat = raft.heartbeat.as_ref()?;
    let ready = raft.membership_config.membership().learner_ids().find(|learner| {
        let matched = replication.get(learner).and_then(|id| id.as_ref()).map(|id| id.index);
        let alive = heartbeat
            .get(learner)
            .copied()
            .flatten()
            .is_some_and(|at| at.elapsed() < inner.options.timers.election_max);
        alive && matched.is_some_and(|matched| matched.saturating_add(CAUGHT_UP) >= last)
    })?;
    Some(ChangeMembers::AddVoterIds(BTreeSet::from([ready])))
}
