//! Getting a question to the leader, wherever it is.

use super::{Inner, leader};
use crate::network::{
    connection::CallError,
    message::{Failure, Reason, Request, Response},
};
use openraft::async_runtime::WatchReceiver;
use plimsoll_lifecycle::ports::LedgerError;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before asking again a node that does not lead (yet, or any more).
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Why there was no answer.
pub(super) enum Refusal {
    /// No leader could be asked.
    Ledger(LedgerError),
    /// The leader said no.
    Leader(Failure),
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Refusal> for LedgerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ledger(error) => error,
            Refusal::Leader(failure) => Self::Leader(failure.message),
        }
    }
}

/// Where the leader is.
enum Place {
    Here,
    There { node: u64, address: String },
}

/// Asks the leader, waiting for one to be elected if there is none. What was certainly not done is tried again until the
/// deadline; what may have been done is not.
pub(super) async fn ask(inner: &Inner, request: &Request, deadline: Duration) -> Result<Response, Refusal> {
    let until = Instant::now() + deadline;
    let mut last = "no leader is known".to_owned();
    loop {
        if inner.closing.is_cancelled() {
            return Err(LedgerError::Closed.into());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LedgerError::NoQuorum(last).into());
        }
        match leader(inner) {
            None => {}
            Some(Place::Here) => match leader::answer(inner, request, left).await {
                Response::Failed(failure) => last = judge(failure)?,
                response => return Ok(response),
            },
            Some(Place::There { node, address }) => match inner.pool.call(node, &address, request, left).await {
                Ok(Response::Failed(failure)) => last = judge(failure)?,
                Ok(response) => return Ok(response),
                Err(CallError::Busy) => return Err(LedgerError::Overloaded.into()),
                Err(CallError::NotSent(reason) | CallError::Removed(reason)) => last = reason,
                // A question that changes nothing can be asked again.
                Err(CallError::Lost(reason)) if matches!(request, Request::ReadIndex) => last = reason,
                Err(CallError::Lost(reason)) => {
                    return Err(
                        LedgerError::NoQuorum(format!("the leader (node {node}) did not answer: {reason}")).into()
                    );
                }
            },
        }
        pause(inner, until).await;
    }
}

/// Whether to try again: then the reason is the answer.
fn judge(failure: Failure) -> Result<String, Refusal> {
    match failure.reason {
        Reason::NotLeader => Ok(failure.message),
        Reason::Overloaded => Err(LedgerError::Overloaded.into()),
        Reason::NoQuorum => Err(LedgerError::NoQuorum(failure.message).into()),
        Reason::Denied | Reason::NodeExists | Reason::Removed | Reason::Refused | Reason::Other => {
            Err(Refusal::Leader(failure))
        }
    }
}

/// Waits for news of the leader, or a moment.
async fn pause(inner: &Inner, until: Instant) {
    let mut leader = inner.leader.subscribe();
    leader.mark_unchanged();
    let wake = until.min(Instant::now() + RETRY_PAUSE);
    tokio::select! {
        _ = leader.changed() => {}
        () = tokio::time::sleep_until(wake) => {}
        () = inner.closing.cancelled() => {}
    }
}

fn leader(inner: &Inner) -> Option<Place> {
    let view = *inner.leader.borrow();
    if view.is_self {
        return Some(Place::Here);
    }
    let node = view.leader?.0;
    // A node that was just deposed may still think that it was the leader.
    if node == inner.owner.node.0 {
        return None;
    }
    let metrics = inner.raft.metrics();
    let address = metrics.borrow_watched().membership_config.get_node(&node)?.raft_address.clone();
    Some(Place::There { node, address })
}
