//! One host's plan: what was listed there, compared with what state says stands there.

use super::step::{Plan, Step};
use crate::{
    naming,
    ports::{ContainerSeen, ContainerState, Mount},
};
use plimsoll_state::{Sandbox, State, Superseded};
use plimsoll_types::{Generation, HostId, Phase, SandboxId, Timestamp};
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
pub fn reconcile(state: &State, host: HostId, before: &Before, listed: Listed<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut sorted: Vec<_> = listed.containers.iter().collect();
    sorted.sort_by(|a, b| (a.sandbox, a.generation, &a.id).cmp(&(b.sandbox, b.generation, &b.id)));
    // A create makes the workspace before the container, so a workspace may stand there without one.
    let mut kept: BTreeSet<String> = state.on_host(host).flat_map(|sandbox| workspaces(state, sandbox, host)).collect();
    for seen in sorted {
        // A container of ours without a readable sandbox label was made by a release that this one does not understand.
        let Some(id) = seen.sandbox.filter(|_| state.cluster.is_some() && seen.cluster == state.cluster) else {
            continue;
        };
        let sandbox = state.sandboxes.get(&id).map(AsRef::as_ref);
        match judge(state, sandbox, (id, host), seen, now) {
            Fate::Remove(why) => plan.push(Step::RemoveContainer(seen.id.clone()), why),
            Fate::Fence(name, why) => {
                plan.push(Step::Fence(seen.id.clone(), name), why);
                kept.extend(workspace_of(state, sandbox, seen));
            }
            // A fenced one keeps its workspace as long as it is kept itself.
            Fate::Keep => kept.extend(workspace_of(state, sandbox, seen)),
        }
    }
    let mut left: Vec<_> = listed.workspaces.iter().filter(|mount| !kept.contains(&mount.volume)).collect();
    left.sort_by(|a, b| a.volume.cmp(&b.volume));
    for mount in left {
        plan.push(Step::RemoveWorkspace(mount.clone()), format!("no sandbox on {host} has it"));
    }
    let by_id: BTreeMap<&str, &ContainerSeen> = listed.containers.iter().map(|seen| (seen.id.as_str(), seen)).collect();
    for (id, generation) in before {
        let Some(sandbox) = state.sandboxes.get(id).filter(|sandbox| runs_here(sandbox, host, *generation)) else {
            continue;
        };
        let container = sandbox.container.as_deref().and_then(|container| by_id.get(container));
        let frozen = sandbox.frozen_since.is_some();
        let reason = match container.map(|seen| (seen.state, &seen.id)) {
            // An operation holds it still and lets it go on by itself.
            Some((ContainerState::Running | ContainerState::Paused, _)) if sandbox.work.is_some() => continue,
            Some((ContainerState::Running, id)) if frozen => {
                plan.push(Step::Freeze(id.clone()), "it is frozen");
                continue;
            }
            Some((ContainerState::Paused, id)) if !frozen => {
                plan.push(Step::Thaw(id.clone()), "nothing holds it still any more");
                continue;
            }
            Some((ContainerState::Running | ContainerState::Paused | ContainerState::Created, _)) => continue,
            // Our own idle process never ends by itself: Docker or the machine was restarted under it.
            Some((ContainerState::Exited(code), _)) if sandbox.spec.command.is_none() => {
                let reason = format!("its container was stopped from outside, with exit code {code}");
                plan.push(Step::Lose(*id, *generation, reason), format!("it should run on {host}"));
                continue;
            }
            Some((ContainerState::Exited(code), _)) => format!("its main process ended with exit code {code}"),
            Some((ContainerState::Dead, _)) => "Docker reports its container as dead".to_owned(),
            None => "its container vanished from the host".to_owned(),
        };
        plan.push(Step::Fail(*id, *generation, reason), format!("it should run on {host}"));
    }
    plan
}

/// The workspaces of the incarnations that have room reserved on this host.
fn workspaces(state: &State, sandbox: &Sandbox, host: HostId) -> Vec<String> {
    let of = |generation| naming::workspace(&state.policy, &sandbox.tenant, &sandbox.session, generation).volume;
    let assigned = sandbox.assignment.into_iter().chain(sandbox.work.as_ref().and_then(|work| work.target));
    assigned.filter(|it| it.host == host).map(|it| of(it.generation)).collect()
}

/// The workspace of the incarnation that a container was made for.
fn workspace_of(state: &State, sandbox: Option<&Sandbox>, seen: &ContainerSeen) -> Option<String> {
    let (sandbox, generation) = (sandbox?, seen.generation?);
    Some(naming::workspace(&state.policy, &sandbox.tenant, &sandbox.session, generation).volume)
}

/// What becomes of a container that was found.
enum Fate {
    Keep,
    Fence(String, String),
    Remove(String),
}

fn judge(
    state: &State,
    sandbox: Option<&Sandbox>,
    (id, host): (SandboxId, HostId),
    seen: &ContainerSeen,
    now: Timestamp,
) -> Fate {
    let Some(sandbox) = sandbox else { return Fate::Remove(format!("there is no {id}")) };
    if sandbox.phase == Phase::Terminated {
        return Fate::Remove(format!("{id} is terminated"));
    }
    let Some(generation) = seen.generation else {
        // What copies a workspace lives as long as the operation whose snapshot it makes; other helpers are removed by who made them.
        let wanted = sandbox.work.as_ref().is_some_and(|work| naming::carrier(work.snapshot) == seen.name);
        let left = naming::is_carrier(&seen.name) && !wanted;
        return if left { Fate::Remove("its snapshot was given up".to_owned()) } else { Fate::Keep };
    };
    let arrives = sandbox.work.as_ref().and_then(|work| work.target).is_some_and(|target| target.host == host);
    let here = sandbox.assignment.is_some_and(|assignment| assignment.host == host);
    if generation > sandbox.generation {
        // Only a migration has a container of the next generation; one on another host is what a migration that was given up left.
        let left = !arrives && !here;
        return if left { Fate::Remove(format!("{id} did not move to {host}")) } else { Fate::Keep };
    }
    let replaced = |it: &&Superseded| it.host == host && it.generation == generation;
    if let Some(superseded) = sandbox.superseded.iter().find(replaced) {
        return keep_replaced(state, sandbox, superseded, seen, now);
    }
    if !here {
        return Fate::Remove(format!("{id} is not on {host} any more"));
    }
    // An older one on the same host was fenced by the create of the newer one and is kept for a while; one that runs all the same
    // would be a second copy.
    let doubled = generation < sandbox.generation && seen.state == ContainerState::Running;
    let why = || format!("{id} is at generation {}, this is {generation}", sandbox.generation);
    if doubled { Fate::Remove(why()) } else { Fate::Keep }
}

/// A copy on a host that was lost and came back: stopped and renamed at once, and kept for the policy's while.
fn keep_replaced(
    state: &State,
    sandbox: &Sandbox,
    superseded: &Superseded,
    seen: &ContainerSeen,
    now: Timestamp,
) -> Fate {
    let (id, generation) = (sandbox.id, superseded.generation);
    if now >= superseded.at.plus(state.policy.superseded_kept) {
        return Fate::Remove(format!("{id} was replaced, and its copy kept long enough"));
    }
    let name = naming::fenced(&naming::container(&state.policy, &sandbox.tenant, &sandbox.session), generation);
    let still = matches!(seen.state, ContainerState::Exited(_) | ContainerState::Created | ContainerState::Dead);
    if still && seen.name == name {
        return Fate::Keep;
    }
    Fate::Fence(name, format!("{id} is at generation {} elsewhere, this is {generation}", sandbox.generation))
}

fn runs_here(sandbox: &Sandbox, host: HostId, generation: Generation) -> bool {
    sandbox.phase == Phase::Running
        && sandbox.generation == generation
        && sandbox.assignment.is_some_and(|assignment| assignment.host == host)
}
