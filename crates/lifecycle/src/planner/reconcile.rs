//! One host's plan: what was listed there, compared with what state says stands there.

use super::step::{Plan, Step};
use crate::{
    naming,
    ports::{ContainerSeen, ContainerState, Mount},
};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Generation, HostId, Phase, SandboxId};
use std::collections::{BTreeMap, BTreeSet};

/// What was found on a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed<'a> {
    /// The cluster's containers, stopped ones included.
    pub containers: &'a [ContainerSeen],
    /// The cluster's workspaces.
    pub workspaces: &'a [Mount],
}

/// Sandboxes that ran on the host already **before** its containers were listed, each with its generation: only of these
/// does a missing container mean anything.
pub type Before = BTreeMap<SandboxId, Generation>;

/// What to remove from a host and which sandboxes died there.
///
/// `state` must be read, behind a barrier, **after** `listed` was: every container is made after its intent is committed, so a
/// container or workspace whose sandbox is still unknown then has no owner and never will.
#[must_use]
pub fn reconcile(state: &State, host: HostId, before: &Before, listed: Listed<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut sorted: Vec<_> = listed.containers.iter().collect();
    sorted.sort_by(|a, b| (a.sandbox, a.generation, &a.id).cmp(&(b.sandbox, b.generation, &b.id)));
    // A create makes the workspace before the container, so a workspace may stand there without one.
    let mut kept: BTreeSet<String> = state.on_host(host).map(|sandbox| of(state, sandbox).volume).collect();
    for seen in sorted {
        // A container of ours without a readable sandbox label was made by a release that this one does not understand.
        let Some(id) = seen.sandbox.filter(|_| state.cluster.is_some() && seen.cluster == state.cluster) else {
            continue;
        };
        let sandbox = state.sandboxes.get(&id).map(AsRef::as_ref);
        match orphaned(sandbox, id, host, seen) {
            Some(why) => plan.push(Step::RemoveContainer(seen.id.clone()), why),
            // A fenced one keeps its workspace as long as it is kept itself.
            None => kept.extend(sandbox.map(|sandbox| of(state, sandbox).volume)),
        }
    }
    let mut left: Vec<_> = listed.workspaces.iter().filter(|mount| !kept.contains(&mount.volume)).collect();
    left.sort_by(|a, b| a.volume.cmp(&b.volume));
    for mount in left {
        plan.push(Step::RemoveWorkspace(mount.clone()), format!("no sandbox on {host} has it"));
    }
    for (id, generation) in before {
        let Some(sandbox) = state.sandboxes.get(id).filter(|sandbox| runs_here(sandbox, host, *generation)) else {
            continue;
        };
        let container = listed.containers.iter().find(|seen| Some(seen.id.as_str()) == sandbox.container.as_deref());
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

fn of(state: &State, sandbox: &Sandbox) -> Mount {
    naming::workspace(&state.policy, &sandbox.tenant, &sandbox.session)
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
