//! Watches raft: who leads, how far it is, and whether it still runs.

use super::Inner;
use crate::{error::Error, metrics};
use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver};
use plimsoll_lifecycle::ports::LeaderView;
use plimsoll_types::NodeId;
use std::sync::Arc;

/// Between two looks while a leader is about to be known: a longer one delays the new leader's work.
const UNSETTLED: std::time::Duration = std::time::Duration::from_millis(10);

/// Runs until the node stops.
pub(super) async fn run(inner: Arc<Inner>) {
    // Not every step of the log: under load there are thousands in a second.
    let mut raft = inner.raft.server_metrics();
    let mut removed = inner.pool.removed();
    loop {
        // Silence is no news, so it has to be looked for; and so is the first answer to a new leader.
        let pause = if publish(&inner) { UNSETTLED } else { inner.options.timers.heartbeat };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            changed = raft.changed() => {
                if changed.is_err() {
                    // Being told to stop ends raft as well, and either can be seen first.
                    if !inner.stop.is_cancelled() {
                        fail(&inner, Error::Stopped("raft has ended".into()));
                    }
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
            Ok(()) = removed.changed() => fail(&inner, Error::Removed),
        }
    }
}

/// Publishes what raft says now; true if more is about to be known: this node is elected and waits for a majority's answer, say.
pub(super) fn publish(inner: &Inner) -> bool {
    let (view, failed, unsettled) = {
        let server = inner.raft.server_metrics().borrow_watched().clone();
        let metrics = inner.raft.metrics();
        let raft = metrics.borrow_watched();
        let elected = raft.state == ServerState::Leader && raft.current_leader == Some(inner.owner.node.0);
        // A leader that a majority has not answered for this long may have a successor it knows nothing of.
        let alone = raft.membership_config.voter_ids().count() == 1;
        let answered = raft.last_quorum_acked.is_some_and(|at| at.elapsed() < inner.options.timers.election_max);
        let leads = elected && (alone || answered);
        let index = |id: &Option<crate::types::LogId>| id.as_ref().map(|id| id.index);
        let (committed, applied) = (index(&raft.local_committed), index(&raft.last_applied));
        metrics::progress(raft.current_term, leads, raft.last_log_index, committed, applied);
        let view = LeaderView { leader: raft.current_leader.map(NodeId), term: raft.current_term, is_self: leads };
        // The news that woke this task is published an instant before the whole that is read here.
        let behind = (server.state, server.current_leader) != (raft.state, raft.current_leader);
        (view, raft.running_state.as_ref().err().map(ToString::to_string), behind || (elected && !leads))
    };
    let changed = inner.leader.send_if_modified(|seen| {
        let differs = *seen != view;
        *seen = view;
        differs
    });
    if changed {
        metrics::leader_changed();
        let leader = view.leader.map(|node| node.0);
        tracing::info!(node = inner.owner.node.0, leader, term = view.term, leads = view.is_self, "leadership");
    }
    if let Some(reason) = failed
        && !inner.stop.is_cancelled()
    {
        fail(inner, Error::Stopped(reason));
    }
    unsettled
}

/// Reports the first reason why the node cannot go on.
pub(super) fn fail(inner: &Inner, error: Error) {
    inner.fatal.send_if_modified(|fatal| {
        if fatal.is_some() {
            return false;
        }
        tracing::error!(%error, "this node cannot go on");
        *fatal = Some(error);
        true
    });
}
