//! Read barriers share rounds: each costs the leader a round trip to a majority, and one round serves all who were waiting
//! when it began.

use super::{Inner, route};
use crate::network::message::{Request, Response};
use plimsoll_lifecycle::ports::LedgerError;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

type Answer = Option<Result<u64, LedgerError>>;

/// The round that has not begun yet, and the lock that the running one holds.
#[derive(Default)]
pub(super) struct Rounds {
    waiting: Mutex<Option<watch::Receiver<Answer>>>,
    running: tokio::sync::Mutex<()>,
}

/// Up to where must be applied to see everything that was acknowledged before this call.
pub(super) async fn read_index(inner: &Arc<Inner>) -> Result<u64, LedgerError> {
    let mut round = {
        let mut waiting = inner.rounds.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.as_ref() {
            Some(round) => round.clone(),
            None => {
                let (answer, round) = watch::channel(None);
                *waiting = Some(round.clone());
                // A task of its own: whoever opened the round may give up while others wait on it.
                inner.tasks.spawn(run(Arc::clone(inner), answer));
                round
            }
        }
    };
    let answer = round.wait_for(Option::is_some).await;
    answer.ok().and_then(|answer| answer.clone()).unwrap_or(Err(LedgerError::Closed))
}

async fn run(inner: Arc<Inner>, answer: watch::Sender<Answer>) {
    let _running = inner.rounds.running.lock().await;
    // Whoever comes from now on could have seen something newer, and opens the next round.
    inner.rounds.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let asked = route::ask(&inner, &Request::ReadIndex, inner.options.timers.proposal).await;
    answer.send_replace(Some(match asked {
        Ok(Response::ReadIndex(index)) => Ok(index),
        Ok(_) => Err(LedgerError::Leader("it answered something else".into())),
        Err(refusal) => Err(refusal.into()),
    }));
}
