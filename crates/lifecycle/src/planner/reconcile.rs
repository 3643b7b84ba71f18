//! One host's plan: what was listed there, compared with what state says stands there.

use super::step::{Plan, Step};
use crate::ports::{ContainerSeen, ContainerState};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Generation, HostId, Phase, SandboxId};
use std::collections::BTreeMap;

/// Sandboxes that ran on the host already **before** its containers were listed, each with its generation: only of these
/// does a missing container mean anything.
pub type Before = BTreeMap<SandboxId, Generation>;

/// What to remove from a host and which sandboxes died there.
///
/// `state` must be read, behind a barrier, **after** `listed` was: every container is made after its intent is committed, so a
/// container whose sandbox is still unknown then has no owner and never will.
#[must_use]
pub fn reconcile(state: &State, host: HostId, before: &Before, listed: &[ContainerSeen]) -> Plan {
    let mut plan = Plan::default();
    let mut sorted: Vec<_> = listed.iter().collect();
    sorted.sort_by(|a, b| (a.sandbox, a.generation, &a.id).cmp(&(b.sandbox, b.generation, &b.id)));
    for seen in sorted {
        // A container of ours without a readable sandbox label was made by a release that this one does not understand.
        let Some(id) = seen.sandbox.filter(|_| state.cluster.is_some() && seen.cluster == state.cluster) else { continue };
        if let Some(why) = orphaned(state.sandboxes.get(&id).map(AsRef::as_ref), id, host, seen) {
            plan.push(Step::RemoveContainer(seen.id.clone()), why);
        }
    }
    for (id, generation) in before {
        let Some(sandbox) = state.sandboxes.get(id).filter(|sandbox| runs_here(sandbox, host, *generation)) else { continue };
        let container = listed.iter().find(|seen| Some(seen.id.as_str()) == sandbox.container.as_deref());
        let reason = match container.map(|seen| seen.state) {
            Some(ContainerState::Running | ContainerState::Paused | ContainerState::Created) => continue,
            Some(ContainerState::Exited(code)) => format!("its main process ended with exit code {code}"),
            Some(ContainerState::Dead) => "Docker reports its container as dead".to_owned(),
            None => "its container vanished from the host".to_owned(),
        };
        plan.push(Step::Fail(*id, *generation, reason), format!("it should run on {host}"));
    }
    plan
}

/// Why a container has no owner, if it has none.
fn orphaned(sandbox: Option<&Sandbox>, id: SandboxId, host: HostId, seen: &ContainerSeen) -> Option<String> {
    let Some(sandbox) = sandbox else { return Some(format!("there is no {id}")) };
    if sandbox.phase == Phase::Terminated {
        return Some(format!("{id} is terminated"));
    }
    let generation = seen.generation?;
    if generation > sandbox.generation {
        // State cannot be behind a container: leave what cannot be explained.
        return None;
    }
    let elsewhere = sandbox.assignment.is_none_or(|assignment| assignment.host != host);
    if elsewhere {
        return Some(format!("{id} is not on {host} any more"));
    }
    // An older one on the same host was fenced (stopped and renamed) by the create of the newer one and is kept for a while; one
    // that runs all the same would be a second copy.
    let doubled = generation < sandbox.generation && seen.state == ContainerState::Running;
    doubled.then(|| format!("{id} is at generation {}, this is {generation}", sandbox.generation))
}

fn runs_here(sandbox: &Sandbox, host: HostId, generation: Generation) -> bool {
    sandbox.phase == Phase::Running
        && sandbox.generation == generation
        && sandbox.assignment.is_some_and(|assignment| assignment.host == host)
}
