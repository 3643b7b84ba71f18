//! Once all is quiet, every sandbox is where it should be, or ended with a reason, and its container is what state says; no operation
//! is under way for ever.

use crate::sim::oracle::Scene;
use plimsoll_lifecycle::{naming, ports::ContainerState};
use plimsoll_state::Sandbox;
use plimsoll_types::{Desired, Phase};

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    scene.state.sandboxes.values().filter_map(|sandbox| unsettled(scene, sandbox)).collect()
}

fn unsettled(scene: &Scene<'_>, sandbox: &Sandbox) -> Option<String> {
    let Sandbox { id, phase, desired, .. } = sandbox;
    if let Some(work) = &sandbox.work {
        return Some(format!("{id} has a {} under way since {:?}", work.kind, work.began));
    }
    match (phase, desired) {
        (Phase::Running, Desired::Running) => missing_container(scene, sandbox),
        (Phase::Failed, Desired::Running) if sandbox.reason.is_empty() => Some(format!("{id} failed without a reason")),
        (Phase::Failed, Desired::Running)
        | (Phase::Paused, Desired::Paused)
        | (Phase::Terminated, Desired::Terminated) => None,
        // A sandbox that still may wait for room is where it should be.
        (Phase::Pending, Desired::Running) if sandbox.queue_until.is_some() => None,
        (phase, desired) => Some(format!("{id} should be {desired} and is {phase}: {}", sandbox.reason)),
    }
}

fn missing_container(scene: &Scene<'_>, sandbox: &Sandbox) -> Option<String> {
    let host = sandbox.assignment.and_then(|assignment| scene.state.hosts.get(&assignment.host));
    let machine = host.and_then(|host| scene.fleet.at(&host.address));
    let state = if sandbox.frozen_since.is_some() { ContainerState::Paused } else { ContainerState::Running };
    let runs = machine.as_ref().is_some_and(|machine| {
        machine.containers().iter().any(|found| {
            Some(found.seen.id.as_str()) == sandbox.container.as_deref()
                && found.seen.state == state
                && found.seen.sandbox == Some(sandbox.id)
                && found.seen.generation == Some(sandbox.generation)
        })
    });
    if !runs {
        return Some(format!("{} is said to run, but its container is not {state:?}", sandbox.id));
    }
    let secrets = machine.zip(sandbox.container.as_deref());
    let told = secrets.is_none_or(|(machine, container)| machine.file(container, naming::SECRETS_FILE).is_some());
    (sandbox.spec.sealed_env.is_some() && !told).then(|| format!("{} runs without its secrets", sandbox.id))
}
