//! One connection for each peer, made when it is needed and made again, with pauses, when it is lost.

use super::{
    client::{self, Caller},
    connection::{CallError, Connection},
    message::{Reason, Request, Response},
};
use plimsoll_types::NodeId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The first pause after a failed connect; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause. Must stay below the election timeout, or a peer that comes back misses heartbeats for too long.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Connections to peers by node id.
pub(crate) struct Pool {
    caller: Caller,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    /// Set once a member says that this node was removed.
    removed: watch::Sender<bool>,
}

#[derive(Default)]
struct Link {
    state: tokio::sync::Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    address: String,
    connection: Option<Arc<Connection>>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller, links: Mutex::default(), removed: watch::Sender::new(false) }
    }

    /// Turns true once a member says that this node was removed.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    /// Asks a peer something.
    pub(crate) async fn call(
        &self,
        node: u64,
        address: &str,
        request: &Request,
        deadline: Duration,
    ) -> Result<Response, CallError> {
        let until = Instant::now() + deadline;
        let connection = tokio::time::timeout_at(until, self.connection(node, address))
            .await
            .map_err(|_| CallError::NotSent(format!("{address} did not answer within {deadline:?}")))??;
        let response = connection.call(request, until.saturating_duration_since(Instant::now())).await?;
        if let Response::Failed(failure) = &response
            && failure.reason == Reason::Removed
        {
            self.removed.send_replace(true);
        }
        Ok(response)
    }

    /// Drops every connection.
    pub(crate) fn close(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn connection(&self, node: u64, address: &str) -> Result<Arc<Connection>, CallError> {
        let link = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(links.entry(node).or_default())
        };
        let mut state = link.state.lock().await;
        if state.address != address {
            *state = LinkState { address: address.to_owned(), ..LinkState::default() };
        }
        if let Some(connection) = state.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        state.connection = None;
        if state.not_before.is_some_and(|time| Instant::now() < time) {
            return Err(CallError::NotSent(format!("{address} did not answer a moment ago")));
        }
        match client::connect(&self.caller, Some(NodeId(node)), address).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                state.connection = Some(Arc::clone(&connection));
                (state.failures, state.not_before) = (0, None);
                Ok(connection)
            }
            Err(error) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
                // Spread out, so that peers of a node that comes back do not all arrive at once.
                let pause = pause.mul_f64(rand::random_range(0.5..1.0));
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + pause);
                if state.failures == 1 {
                    tracing::warn!(node, address, %error, "a peer cannot be reached");
                }
                if matches!(error, CallError::Removed(_)) {
                    self.removed.send_replace(true);
                }
                Err(error)
            }
        }
    }
}
