//! Once all is quiet, each container, volume, folder and network of ours on a host belongs to a sandbox that is there.

use crate::sim::{SimHost, oracle::Scene};
use plimsoll_lifecycle::{
    naming,
    ports::{ContainerSeen, ContainerState, Mount},
};
use plimsoll_state::{Host, Sandbox};
use std::sync::Arc;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    scene.hosts().flat_map(|(host, machine)| ownerless(scene, host, &machine)).collect()
}

fn ownerless(scene: &Scene<'_>, host: &Host, machine: &SimHost) -> Vec<String> {
    let here: Vec<&Arc<Sandbox>> = scene
        .state
        .sandboxes
        .values()
        .filter(|sandbox| sandbox.assignment.is_some_and(|assignment| assignment.host == host.id))
        .collect();
    let mounts: Vec<Mount> =
        here.iter().map(|sandbox| naming::workspace(&scene.state.policy, &sandbox.tenant, &sandbox.session)).collect();
    let ours = |owner: &Option<_>| owner.is_some() && *owner == scene.id();
    let mut broken = Vec::new();
    let containers = machine.containers();
    for found in containers.iter().filter(|found| ours(&found.seen.cluster)) {
        if !here.iter().any(|sandbox| owns(sandbox, &found.seen)) {
            broken.push(format!("container {} on {} ({:?})", found.seen.name, host.name, found.seen.state));
        }
    }
    for (volume, owner) in machine.volumes() {
        if ours(&owner) && !mounts.iter().any(|mount| mount.volume == volume) {
            broken.push(format!("volume {volume} on {}", host.name));
        }
    }
    for folder in machine.folders() {
        if !mounts.iter().any(|mount| mount.source == folder) {
            broken.push(format!("folder {folder} on {}", host.name));
        }
    }
    for (network, owner) in machine.networks() {
        if ours(&owner) && !containers.iter().any(|found| found.network.as_ref() == Some(&network)) {
            broken.push(format!("network {network} on {}", host.name));
        }
    }
    broken
}

/// The container of the committed incarnation, or a stopped one of an incarnation before it, which is kept for a while.
fn owns(sandbox: &Sandbox, seen: &ContainerSeen) -> bool {
    let current = seen.generation == Some(sandbox.generation);
    let fenced = seen.generation < Some(sandbox.generation) && seen.state != ContainerState::Running;
    seen.sandbox == Some(sandbox.id) && (current || fenced)
}
