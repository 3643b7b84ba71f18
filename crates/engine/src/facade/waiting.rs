//! Waiting for what was started: on the node that was asked, by watching its own copy of the state.

use super::VpsClusterProvider;
use crate::{Error, operation, request::Wait};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Code, Phase, SandboxId};
use std::sync::Arc;
use tokio::time;

impl VpsClusterProvider {
    /// Returns once the sandbox is gone.
    pub(super) async fn until_gone(&self, id: SandboxId, wait: Wait) -> Result<(), Error> {
        if wait == Wait::No {
            return Ok(());
        }
        let gone = |sandbox: Option<&Arc<Sandbox>>| {
            let over = sandbox.is_none_or(|sandbox| sandbox.phase == Phase::Terminated);
            over.then_some(Ok(()))
        };
        // A timeout is answered with the phase that it is stuck in.
        self.watch(id, wait, |state| gone(state.sandboxes.get(&id))).await
    }

    /// Looks at state whenever it changes until there is an answer about a sandbox, at most as long as the caller waits.
    pub(super) async fn watch<T>(
        &self,
        id: SandboxId,
        wait: Wait,
        judge: impl Fn(&State) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = match wait {
            Wait::No => std::time::Duration::ZERO,
            Wait::Upto(limit) => limit,
        };
        let answered = async {
            loop {
                let (seen, answer) = self.node.read(|state| (state.applied, judge(state)));
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

/// Why a sandbox that was waited for does not run.
pub(super) fn ended(sandbox: &Sandbox) -> Error {
    let error = if sandbox.phase == Phase::Failed {
        operation::reason(&sandbox.reason, Code::StartFailed)
    } else {
        let coded = operation::reason(&sandbox.reason, Code::Internal);
        if coded.code == Code::Internal {
            Error::new(Code::Conflict, format!("it was taken down while it started: {}", sandbox.reason))
        } else {
            coded
        }
    };
    error.about(sandbox.id)
}
