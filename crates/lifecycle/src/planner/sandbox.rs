//! One sandbox's plan: from its phase and the containers seen under its name to the steps that are left.

use super::step::{Plan, Step};
use crate::{
    naming,
    ports::{ContainerPlan, ContainerSeen, ContainerState, PortPublish, SnapshotImage},
};
use plimsoll_state::{Host, Policy, Sandbox, Snapshot};
use plimsoll_types::{ClusterId, Generation, ImageRef, Phase, SandboxId};
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
    /// The snapshot that the incarnation starts from, if it starts from one.
    pub base: Option<&'a Snapshot>,
    /// Containers seen on that host under the sandbox's name or id.
    pub seen: &'a [ContainerSeen],
    /// An earlier sandbox of the same session that still has names on the same host.
    pub predecessor: Option<SandboxId>,
}

/// The steps that are left for a sandbox.
#[must_use]
pub fn plan(facts: Facts<'_>) -> Plan {
    match facts.sandbox.phase {
        Phase::Assigned | Phase::Starting | Phase::Restoring => {
            facts.host.map_or_else(Plan::default, |host| create(facts, host))
        }
        Phase::Lost => facts.host.map_or_else(Plan::default, |host| come_back(facts, host)),
        Phase::Terminating => terminate(facts),
        // Pending waits for the placer; the others rest, or have an operation with a plan of its own.
        Phase::Pending
        | Phase::Running
        | Phase::Pausing
        | Phase::Paused
        | Phase::Migrating
        | Phase::Failed
        | Phase::Terminated => Plan::default(),
    }
}

/// The container of one incarnation of a sandbox on a host; from a snapshot, if it has one to start from.
#[must_use]
pub fn container_plan(
    (cluster, policy): (ClusterId, &Policy),
    sandbox: &Sandbox,
    generation: Generation,
    host: &Host,
    base: Option<&SnapshotImage>,
) -> ContainerPlan {
    let spec = &sandbox.spec;
    // A snapshot's local name is an image name by its making; should it ever not be, the spec's image fails loudly on the host.
    let snapshot = base.and_then(|base| ImageRef::new(&naming::snapshot_image(cluster, base.snapshot)).ok());
    let labels = [
        (naming::label::SESSION.to_owned(), sandbox.session.to_string()),
        (naming::label::TENANT.to_owned(), sandbox.tenant.to_string()),
    ];
    ContainerPlan {
        name: naming::container(policy, &sandbox.tenant, &sandbox.session),
        cluster,
        sandbox: sandbox.id,
        generation,
        operation: sandbox.operation,
        labels: BTreeMap::from(labels),
        from_snapshot: base.is_some(),
        image: snapshot.unwrap_or_else(|| spec.image.clone()),
        command: spec.command.clone(),
        env: spec.env.clone(),
        cpu: spec.resources.cpu,
        memory: spec.resources.memory,
        pids_limit: spec.pids_limit,
        ports: PortPublish { address: host.publish.0, ports: spec.ports.iter().copied().collect() },
        workspace: naming::workspace(policy, &sandbox.tenant, &sandbox.session, generation),
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
    let base = facts.base.and_then(|base| snapshot_image(facts.cluster, base));
    let container = container_plan((facts.cluster, facts.policy), sandbox, sandbox.generation, host, base.as_ref());
    let ours = facts.seen.iter().find(|seen| is_current(seen, facts));
    if ours.is_none() {
        let because = format!("the sandbox starts from it on {}", host.name);
        plan.push(base.map_or_else(|| Step::EnsureImage(sandbox.spec.image.clone()), pull), because);
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
    start(&mut plan, sandbox, container, ours, &why);
    plan
}

/// A sandbox that was lost with its host, and whose host is back: the same incarnation goes on, started again if it must be.
fn come_back(facts: Facts<'_>, host: &Host) -> Plan {
    let mut plan = Plan::default();
    let sandbox = facts.sandbox;
    let Some(ours) = facts.seen.iter().find(|seen| is_current(seen, facts)) else {
        // Never a new container here: it would begin with nothing, and look as if nothing had happened.
        let reason = format!("its host {} came back without its container", host.name);
        plan.push(Step::Fail(sandbox.id, sandbox.generation, reason), "there is nothing to go on with");
        return plan;
    };
    if ours.state == ContainerState::Paused {
        plan.push(Step::Thaw(ours.id.clone()), "it was held still when its host was lost");
    }
    let base = facts.base.and_then(|base| snapshot_image(facts.cluster, base));
    let container = container_plan((facts.cluster, facts.policy), sandbox, sandbox.generation, host, base.as_ref());
    start(&mut plan, sandbox, container, Some(ours), "its host is back");
    plan
}

/// Where a snapshot is, once it is anywhere.
pub(super) fn snapshot_image(cluster: ClusterId, snapshot: &Snapshot) -> Option<SnapshotImage> {
    let stored = snapshot.stored.as_ref()?;
    let repository = stored.repository.to_string();
    Some(SnapshotImage { cluster, snapshot: snapshot.id, repository, digest: stored.digest })
}

fn pull(image: SnapshotImage) -> Step {
    Step::PullImage(Box::new(image))
}

/// From the container's making to where it serves.
fn start(plan: &mut Plan, sandbox: &Sandbox, container: ContainerPlan, ours: Option<&ContainerSeen>, why: &str) {
    let name = container.name.clone();
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
    plan.push(Step::AwaitReady(sandbox.spec.ports.iter().copied().collect()), "callers are told where its ports are");
    plan.push(Step::Commit(Phase::Running, String::new()), "it serves");
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
        let workspace = naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session, sandbox.generation);
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
