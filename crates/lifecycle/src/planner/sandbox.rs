//! One sandbox's plan: from its phase and the containers seen under its name to the steps that are left.

use super::step::{Plan, Step};
use crate::{
    naming,
    ports::{ContainerPlan, ContainerSeen, ContainerState, PortPublish},
};
use plimsoll_state::{Host, Policy, Sandbox};
use plimsoll_types::{ClusterId, Phase, SandboxId};
use std::collections::BTreeMap;

/// What a sandbox's plan is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The cluster whose labels the container gets.
    pub cluster: ClusterId,
    /// The rules for names and folders.
    pub policy: &'a Policy,
    /// The sandbox as it is committed.
    pub sandbox: &'a Sandbox,
    /// Its host, if it has one.
    pub host: Option<&'a Host>,
    /// Containers seen on that host under the sandbox's name or id.
    pub seen: &'a [ContainerSeen],
    /// An earlier sandbox of the same session that still has names on the same host.
    pub predecessor: Option<SandboxId>,
}

/// The steps that are left for a sandbox.
#[must_use]
pub fn plan(facts: Facts<'_>) -> Plan {
    match facts.sandbox.phase {
        Phase::Assigned | Phase::Starting => facts.host.map_or_else(Plan::default, |host| create(facts, host)),
        Phase::Terminating => terminate(facts),
        // Pending waits for the placer; the others rest, or belong to workflows that begin with an assignment.
        Phase::Pending
        | Phase::Running
        | Phase::Pausing
        | Phase::Paused
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring
        | Phase::Failed
        | Phase::Terminated => Plan::default(),
    }
}

/// The container of a sandbox's current incarnation on a host.
#[must_use]
pub fn container_plan(cluster: ClusterId, policy: &Policy, sandbox: &Sandbox, host: &Host) -> ContainerPlan {
    let spec = &sandbox.spec;
    let labels = [
        (naming::label::SESSION.to_owned(), sandbox.session.to_string()),
        (naming::label::TENANT.to_owned(), sandbox.tenant.to_string()),
    ];
    ContainerPlan {
        name: naming::container(policy, &sandbox.tenant, &sandbox.session),
        cluster,
        sandbox: sandbox.id,
        generation: sandbox.generation,
        operation: sandbox.operation,
        labels: BTreeMap::from(labels),
        image: spec.image.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        cpu: spec.resources.cpu,
        memory: spec.resources.memory,
        pids_limit: spec.pids_limit,
        ports: PortPublish { address: host.publish.0, ports: spec.ports.iter().copied().collect() },
        workspace: naming::workspace(policy, &sandbox.tenant, &sandbox.session),
        network: naming::network(policy, &sandbox.tenant),
        runtime: spec.runtime,
        hostname: naming::hostname(&sandbox.session),
    }
}

fn create(facts: Facts<'_>, host: &Host) -> Plan {
    let mut plan = Plan::default();
    let sandbox = facts.sandbox;
    if let Some(predecessor) = facts.predecessor {
        plan.push(Step::Await(predecessor), format!("it has the same names on {}", host.name));
        return plan;
    }
    let container = container_plan(facts.cluster, facts.policy, sandbox, host);
    let name = container.name.clone();
    let ours = facts.seen.iter().find(|seen| is_current(seen, facts));
    if ours.is_none() {
        plan.push(
            Step::EnsureImage(sandbox.spec.image.clone()),
            format!("the sandbox starts from it on {}", host.name),
        );
    }
    // An image is nobody's, so it may come first: a pull that takes minutes is not part of starting.
    if sandbox.phase == Phase::Assigned {
        plan.push(Step::Commit(Phase::Starting, String::new()), format!("{} is about to be told", host.name));
    }
    // Also where one was seen: creating finds it and answers with the id that the following steps use.
    let why = match ours {
        None => format!("generation {} has none", sandbox.generation),
        Some(_) => "an earlier try made it".to_owned(),
    };
    plan.push(Step::CreateContainer(Box::new(container)), why);
    let why = match ours.map(|seen| seen.state) {
        Some(ContainerState::Running) => "to read its ports",
        Some(ContainerState::Created | ContainerState::Paused | ContainerState::Exited(_) | ContainerState::Dead)
        | None => "it does not run yet",
    };
    plan.push(Step::StartContainer(name.clone()), why);
    if sandbox.spec.sealed_env.is_some() {
        plan.push(Step::WriteSecrets(name), "secrets live in memory only");
    }
    plan.push(Step::AwaitReady(sandbox.spec.ports.iter().copied().collect()), "callers get endpoints that answer");
    plan.push(Step::Commit(Phase::Running, String::new()), "it serves");
    plan
}

fn terminate(facts: Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    let sandbox = facts.sandbox;
    if let Some(host) = facts.host {
        // What carries another sandbox's label stays, whatever its name: the next sandbox of the session may have it by now.
        for seen in facts.seen.iter().filter(|seen| is_ours(seen, facts)) {
            plan.push(
                Step::RemoveContainer(seen.id.clone()),
                format!("{} is wanted gone from {}", sandbox.id, host.name),
            );
        }
        let workspace = naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session);
        plan.push(Step::RemoveWorkspace(workspace), "it goes with its sandbox");
    }
    plan.push(Step::Commit(Phase::Terminated, sandbox.reason.to_string()), "nothing of it is left; the room is free");
    plan
}

fn is_ours(seen: &ContainerSeen, facts: Facts<'_>) -> bool {
    seen.cluster == Some(facts.cluster) && seen.sandbox == Some(facts.sandbox.id)
}

fn is_current(seen: &ContainerSeen, facts: Facts<'_>) -> bool {
    is_ours(seen, facts) && seen.generation == Some(facts.sandbox.generation)
}
