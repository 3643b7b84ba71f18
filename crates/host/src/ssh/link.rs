//! The one connection everybody shares: opened when first needed, by one task whoever asks, and opened again when lost.
//!
//! Nobody waits out a backoff here: until the next try is due, callers get the last error at once.

use super::login::{Connection, Login};
use crate::metrics;
use futures_util::{FutureExt, future::BoxFuture, future::Shared};
use plimsoll_lifecycle::ports::HostError;
use rand::Rng;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The wait after the first failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest wait: a host that answers again is found within two polls and this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, HostError>>>;

enum State {
    Down { failures: u32, next: Instant, last: Option<HostError> },
    Connecting { failures: u32, task: Connecting },
    Up(Arc<Connection>),
}

/// A connection that comes back.
pub(crate) struct Link {
    login: Arc<Login>,
    state: Mutex<State>,
}

impl Link {
    pub(crate) fn new(login: Arc<Login>) -> Self {
        let state = Mutex::new(State::Down { failures: 0, next: Instant::now(), last: None });
        Self { login, state }
    }

    /// The connection, opened if it is not.
    pub(crate) async fn get(&self) -> Result<Arc<Connection>, HostError> {
        let (task, failures) = match self.step() {
            Step::Done(result) => return result,
            Step::Wait(task, failures) => (task, failures),
        };
        let result = task.clone().await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The first of the waiting callers writes the result down; the others find that it is.
        let mine = matches!(&*state, State::Connecting { task: current, .. } if current.ptr_eq(&task));
        if mine {
            *state = match &result {
                Ok(connection) => State::Up(Arc::clone(connection)),
                Err(error) => State::Down {
                    failures: failures.saturating_add(1),
                    next: Instant::now() + backoff(failures),
                    last: Some(error.clone()),
                },
            };
        }
        result
    }

    fn step(&self) -> Step {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = match &*state {
            State::Up(connection) if !connection.handle.is_closed() => return Step::Done(Ok(Arc::clone(connection))),
            State::Up(_) => {
                tracing::info!(host = self.login.name, "SSH connection lost; connecting again");
                metrics::reconnect(&self.login.name);
                0
            }
            State::Connecting { failures, task } => return Step::Wait(task.clone(), *failures),
            State::Down { next, last: Some(error), .. } if Instant::now() < *next => {
                return Step::Done(Err(error.clone()));
            }
            State::Down { failures, .. } => *failures,
        };
        let login = Arc::clone(&self.login);
        // Spawned, so that a caller who gives up does not cut the login short for the others.
        let running = tokio::spawn(async move { login.connect().await.map(Arc::new) });
        let name = self.login.name.clone();
        let task: Connecting = async move {
            running.await.unwrap_or_else(|error| {
                let text = format!("connecting to host {name} was cut short: {error}");
                Err(crate::error::unreachable(plimsoll_types::Code::SshUnreachable, text))
            })
        }
        .boxed()
        .shared();
        *state = State::Connecting { failures, task: task.clone() };
        Step::Wait(task, failures)
    }
}

enum Step {
    Done(Result<Arc<Connection>, HostError>),
    Wait(Connecting, u32),
}

/// Half to all of the doubled wait, so that hosts lost together do not come back together.
fn backoff(failures: u32) -> Duration {
    let whole = BACKOFF_FIRST.saturating_mul(1 << failures.min(6)).min(BACKOFF_MAX);
    let half = whole / 2;
    half + rand::rng().random_range(Duration::ZERO..=half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_capped() {
        for failures in [0, 1, 4, 5, 60] {
            let wait = backoff(failures);
            let whole = BACKOFF_FIRST * (1 << failures.min(6));
            assert!(wait >= whole.min(BACKOFF_MAX) / 2 && wait <= BACKOFF_MAX, "{failures}: {wait:?}");
        }
    }
}
