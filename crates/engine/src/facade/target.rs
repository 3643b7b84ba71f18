//! What a call into a sandbox reaches: the committed generation's container on its host, and nothing else.

use super::{
    VpsClusterProvider,
    operations::{BOUND, under_way},
};
use crate::{
    Error,
    request::{Scope, no_such_sandbox},
    sessions::Session,
};
use plimsoll_lifecycle::ports::{ContainerState, HostDriver, HostError, HostFailure};
use plimsoll_state::{Host, Sandbox};
use plimsoll_types::{Code, OperationId, Phase, SandboxId};
use std::{sync::Arc, time::Duration};
use tokio::time;

/// Between looks at a container that an operation holds still; a look costs about 3 ms.
const STILL_POLL: Duration = Duration::from_millis(200);

/// A container to talk to.
pub(super) struct Target {
    pub(super) driver: Arc<dyn HostDriver>,
    pub(super) container: Box<str>,
    pub(super) sandbox: Arc<Sandbox>,
    host: Arc<Host>,
}

impl Target {
    /// Says which host it was, and that the host is the trouble where it does not answer.
    pub(super) fn blame(&self, error: HostError) -> Error {
        let (id, host) = (self.sandbox.id, &self.host.name);
        match error.failure {
            HostFailure::Unreachable => {
                Error::new(Code::HostUnavailable, format!("host {host} does not answer: {}", error.message)).about(id)
            }
            HostFailure::Transient | HostFailure::ThisHost | HostFailure::Permanent => Error::from(error).about(id),
        }
    }
}

impl VpsClusterProvider {
    /// One sandbox as of now, if the caller may see it.
    pub(super) async fn visible(&self, scope: &Scope, id: SandboxId) -> Result<Arc<Sandbox>, Error> {
        self.barrier().await?;
        self.visible_here(scope, id)
    }

    /// One sandbox as this node knows it.
    pub(super) fn visible_here(&self, scope: &Scope, id: SandboxId) -> Result<Arc<Sandbox>, Error> {
        let found = self.node.read(|state| state.sandboxes.get(&id).cloned());
        found.filter(|sandbox| scope.allows(&sandbox.tenant)).ok_or_else(|| no_such_sandbox(id))
    }

    /// Where to reach a sandbox that is in one of these phases.
    pub(super) async fn target(&self, scope: &Scope, id: SandboxId, phases: &[Phase]) -> Result<Target, Error> {
        let sandbox = self.visible(scope, id).await?;
        let target = self.container_of(&sandbox).filter(|_| phases.contains(&sandbox.phase));
        target.ok_or_else(|| wrong_phase(&sandbox, phases))
    }

    /// Where to reach a sandbox for work inside: brought back first if it is paused or frozen, and past the moment for which an
    /// operation holds it still. For the leader it is awake as long as the session lives.
    pub(super) async fn awake_target(&self, scope: &Scope, id: SandboxId) -> Result<(Target, Session), Error> {
        self.visible(scope, id).await?;
        let session = Session::begin(&self.node, id);
        let sandbox = self.roused(scope, id).await?;
        let target = self.container_of(&sandbox).ok_or_else(|| wrong_phase(&sandbox, &[Phase::Running]))?;
        let Some(work) = &sandbox.work else { return Ok((target, session)) };
        // While files and workspace are read, nothing can be started in it.
        let moves = async {
            while self.is_held_still(&target, work.operation).await? {
                time::sleep(STILL_POLL).await;
            }
            Ok::<_, Error>(())
        };
        match time::timeout(BOUND, moves).await {
            Ok(moves) => moves?,
            Err(_) => return Err(under_way(&sandbox, work.operation, Some(work.kind))),
        }
        // It may have moved meanwhile.
        let sandbox = self.roused(scope, id).await?;
        let target = self.container_of(&sandbox).ok_or_else(|| wrong_phase(&sandbox, &[Phase::Running]))?;
        Ok((target, session))
    }

    async fn is_held_still(&self, target: &Target, operation: OperationId) -> Result<bool, Error> {
        let goes_on = |it: &Arc<Sandbox>| it.work.as_ref().is_some_and(|work| work.operation == operation);
        if !self.node.read(|state| state.sandboxes.get(&target.sandbox.id).is_some_and(goes_on)) {
            return Ok(false);
        }
        let seen = target.driver.inspect(&target.container).await.map_err(|error| target.blame(error))?;
        Ok(seen.is_some_and(|seen| seen.state == ContainerState::Paused))
    }

    /// The container of a sandbox as it is recorded, with the way to its host.
    pub(super) fn container_of(&self, sandbox: &Arc<Sandbox>) -> Option<Target> {
        let at = sandbox.assignment?;
        let host = self.node.read(|state| state.hosts.get(&at.host).cloned())?;
        let driver = self.node.drivers.of(&host);
        Some(Target { driver, container: sandbox.container.clone()?, sandbox: Arc::clone(sandbox), host })
    }
}

pub(super) fn wrong_phase(sandbox: &Sandbox, phases: &[Phase]) -> Error {
    let allowed: Vec<_> = phases.iter().map(|phase| phase.as_str()).collect();
    let why = if sandbox.reason.is_empty() { String::new() } else { format!(" ({})", sandbox.reason) };
    let message =
        format!("{} is {}{why}; this works only while it is {}", sandbox.id, sandbox.phase, allowed.join(" or "));
    Error::new(Code::WrongPhase, message).about(sandbox.id)
}
