//! Letting a host go: what is left of ours there is removed first, because afterwards nobody looks at it any more.

use super::{VpsClusterProvider, hosts::no_such_host};
use crate::{
    Error,
    leader::{hold, reconciler},
};
use plimsoll_lifecycle::ports::ContainerSeen;
use plimsoll_state::{Command, Host, command::RemoveHost};
use plimsoll_types::{Code, HostId};
use std::time::Duration;
use tokio::time;

/// How long clearing up may take: an idle host needs a few seconds, and one that does not answer must not hold up its removal.
const CLEARING: Duration = Duration::from_secs(25);
/// Leftovers named in a warning; the rest is counted.
const NAMED: usize = 5;

impl VpsClusterProvider {
    /// Clears a host and forgets it. Answers with what an operator should know.
    pub(super) async fn let_go(&self, id: HostId) -> Result<Vec<String>, Error> {
        self.barrier().await?;
        hold::refuse(&self.node)?;
        let host = self.node.read(|state| state.hosts.get(&id).cloned());
        let host = host.ok_or_else(|| no_such_host(&id.to_string()))?;
        let mut warnings = Vec::new();
        // One that holds sandboxes is refused below, by state as it is then.
        if host.sandboxes == 0 {
            let cleared = time::timeout(CLEARING, self.clear(&host)).await;
            let silent = |_| Err(Error::new(Code::HostUnavailable, format!("no answer within {CLEARING:?}")));
            warnings.extend(match cleared.unwrap_or_else(silent) {
                Ok(left) => left,
                Err(error) => Some(uncleared(&host, &error)),
            });
        }
        self.change(Command::RemoveHost(RemoveHost { host: id, at: self.node.now() })).await?;
        for warning in &warnings {
            tracing::warn!(host = %host.name, address = %host.address, "a host was removed: {warning}");
        }
        Ok(warnings)
    }

    /// Removes what state does not want there, which is everything, and says what is left all the same.
    async fn clear(&self, host: &Host) -> Result<Option<String>, Error> {
        reconciler::reconcile(&self.node, host).await?;
        let Some(cluster) = self.node.read(|state| state.cluster) else { return Ok(None) };
        let driver = self.node.drivers.of(host);
        let containers = driver.list_containers(cluster).await?;
        let workspaces = driver.list_workspaces(cluster).await?;
        let left = containers.into_iter().map(container).chain(workspaces.into_iter().map(|it| it.source));
        Ok(leftovers(left.collect()))
    }
}

fn container(seen: ContainerSeen) -> String {
    format!("container {}", seen.name)
}

fn leftovers(mut left: Vec<String>) -> Option<String> {
    let more = left.len().saturating_sub(NAMED);
    left.truncate(NAMED);
    if more > 0 {
        left.push(format!("{more} more"));
    }
    (!left.is_empty()).then(|| format!("could not be removed from it, remove by hand: {}", left.join(", ")))
}

fn uncleared(host: &Host, error: &Error) -> String {
    format!(
        "{} could not be cleared ({}: {error}); containers, workspaces and networks of this cluster may be left on it",
        host.name, error.code
    )
}
