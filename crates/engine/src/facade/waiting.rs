//! Waiting for what was started: on the node that was asked, by watching its own copy of the state.

use super::VpsClusterProvider;
use crate::{
    Error,
    request::{Wait, no_such_sandbox},
};
use plimsoll_state::Sandbox;
use plimsoll_types::{Code, Phase, SandboxId};
use std::sync::Arc;
use tokio::time;

impl VpsClusterProvider {
    /// The sandbox once it runs.
    pub(super) async fn until_running(&self, id: SandboxId, wait: Wait) -> Result<Arc<Sandbox>, Error> {
        let found = self.until(id, wait, |sandbox| match sandbox {
            Some(sandbox) => arrived(sandbox),
            None => Some(Err(no_such_sandbox(id))),
        });
        found.await
    }

    /// Returns once the sandbox is gone.
    pub(super) async fn until_gone(&self, id: SandboxId, wait: Wait) -> Result<(), Error> {
        if wait == Wait::No {
            return Ok(());
        }
        let gone = |sandbox: Option<&Arc<Sandbox>>| {
            let over = sandbox.is_none_or(|sandbox| sandbox.phase == Phase::Terminated);
            over.then_some(Ok(()))
        };
        // `until` answers a timeout with the phase that it is stuck in.
        self.until(id, wait, gone).await
    }

    async fn until<T: FromRecord>(
        &self,
        id: SandboxId,
        wait: Wait,
        judge: impl Fn(Option<&Arc<Sandbox>>) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = match wait {
            Wait::No => {
                let record = self.node.read(|state| state.sandboxes.get(&id).cloned());
                return record.map(T::from_record).ok_or_else(|| no_such_sandbox(id));
            }
            Wait::Upto(limit) => limit,
        };
        let answered = async {
            loop {
                let (seen, answer) = self.node.read(|state| (state.applied, judge(state.sandboxes.get(&id))));
                if let Some(answer) = answer {
                    return answer;
                }
                self.node.ledger.changed(seen).await;
            }
        };
        match time::timeout(limit, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late(id, limit)),
        }
    }

    fn late(&self, id: SandboxId, limit: std::time::Duration) -> Error {
        let phase = self.node.read(|state| state.sandboxes.get(&id).map(|sandbox| sandbox.phase));
        let phase = phase.map_or("gone", Phase::as_str);
        let message =
            format!("{id} is still {phase} after {limit:?}; it goes on, look again with `plimsoll inspect {id}`");
        Error::new(Code::Timeout, message).about(id)
    }
}

/// What a call that does not wait is answered with.
trait FromRecord {
    fn from_record(record: Arc<Sandbox>) -> Self;
}

impl FromRecord for Arc<Sandbox> {
    fn from_record(record: Arc<Sandbox>) -> Self {
        record
    }
}

impl FromRecord for () {
    fn from_record(_: Arc<Sandbox>) {}
}

/// Whether waiting for running is over.
fn arrived(sandbox: &Arc<Sandbox>) -> Option<Result<Arc<Sandbox>, Error>> {
    match sandbox.phase {
        Phase::Running | Phase::Paused => Some(Ok(Arc::clone(sandbox))),
        Phase::Failed | Phase::Terminating | Phase::Terminated => Some(Err(ended(sandbox))),
        Phase::Pending
        | Phase::Assigned
        | Phase::Starting
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring => None,
    }
}

/// Reasons begin with their code where there is one: it went through state as text.
fn ended(sandbox: &Sandbox) -> Error {
    let coded = sandbox.reason.split_once(": ").and_then(|(code, rest)| Some((code.parse::<Code>().ok()?, rest)));
    let error = match coded {
        Some((code, rest)) => Error::new(code, rest),
        None if sandbox.phase == Phase::Failed => Error::new(Code::StartFailed, &*sandbox.reason),
        None => Error::new(Code::Conflict, format!("it was taken down while it started: {}", sandbox.reason)),
    };
    error.about(sandbox.id)
}
