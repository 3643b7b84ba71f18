//! What a call into a sandbox reaches: the committed generation's container on its host, and nothing else.

use super::VpsClusterProvider;
use crate::{
    Error,
    request::{Scope, no_such_sandbox},
};
use plimsoll_lifecycle::ports::{HostDriver, HostError, HostFailure};
use plimsoll_state::{Host, Sandbox};
use plimsoll_types::{Code, Phase, SandboxId};
use std::sync::Arc;

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
        let host = sandbox.assignment.and_then(|at| self.node.read(|state| state.hosts.get(&at.host).cloned()));
        let (Some(host), Some(container), true) = (host, sandbox.container.clone(), phases.contains(&sandbox.phase))
        else {
            return Err(wrong_phase(&sandbox, phases));
        };
        let driver = self.node.drivers.of(&host);
        Ok(Target { driver, container, sandbox, host })
    }
}

pub(super) fn wrong_phase(sandbox: &Sandbox, phases: &[Phase]) -> Error {
    let allowed: Vec<_> = phases.iter().map(|phase| phase.as_str()).collect();
    let why = if sandbox.reason.is_empty() { String::new() } else { format!(" ({})", sandbox.reason) };
    let message =
        format!("{} is {}{why}; this works only while it is {}", sandbox.id, sandbox.phase, allowed.join(" or "));
    Error::new(Code::WrongPhase, message).about(sandbox.id)
}
