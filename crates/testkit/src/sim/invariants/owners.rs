//! Once all is quiet, each container, volume, folder, network and image of ours belongs to a sandbox or snapshot that is there, and
//! what is kept of a replaced incarnation does not run.

use crate::sim::{SimHost, oracle::Scene};
use plimsoll_lifecycle::{
    naming,
    ports::{ContainerSeen, ContainerState, Mount},
};
use plimsoll_state::{Host, Sandbox, SnapshotPhase};
use std::sync::Arc;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken: Vec<String> = scene.hosts().flat_map(|(host, machine)| ownerless(scene, host, &machine)).collect();
    broken.extend(images(scene));
    broken
}

fn ownerless(scene: &Scene<'_>, host: &Host, machine: &SimHost) -> Vec<String> {
    let ours = |owner: &Option<_>| owner.is_some() && *owner == scene.id();
    let mut broken = Vec::new();
    let containers = machine.containers();
    let mut mounts: Vec<Mount> = scene.state.on_host(host.id).map(|sandbox| mount(scene, sandbox)).collect();
    for found in containers.iter().filter(|found| ours(&found.seen.cluster)) {
        match found.seen.sandbox.and_then(|id| scene.state.sandboxes.get(&id)) {
            Some(sandbox) if owns(host, sandbox, &found.seen) => {
                mounts.extend(found.plan.as_ref().map(|plan| plan.workspace.clone()));
            }
            Some(_) | None => {
                broken.push(format!("container {} on {} ({:?})", found.seen.name, host.name, found.seen.state));
            }
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

fn mount(scene: &Scene<'_>, sandbox: &Arc<Sandbox>) -> Mount {
    naming::workspace(&scene.state.policy, &sandbox.tenant, &sandbox.session, sandbox.generation)
}

/// The container of the committed incarnation on its own host; or a stopped one of an incarnation before it, which is kept for a
/// while where it was replaced: on the same host by the next one, or on a host that was lost, under a name that says so.
fn owns(host: &Host, sandbox: &Sandbox, seen: &ContainerSeen) -> bool {
    let here = sandbox.assignment.is_some_and(|assignment| assignment.host == host.id);
    let stopped = !matches!(seen.state, ContainerState::Running | ContainerState::Paused);
    let older = seen.generation < Some(sandbox.generation) && stopped;
    let replaced = sandbox.superseded.iter().any(|it| it.host == host.id && Some(it.generation) == seen.generation);
    let current = here && seen.generation == Some(sandbox.generation);
    current || (older && (here || (replaced && seen.name.contains("fenced"))))
}

/// Snapshots in the registry that no record knows, and copies on hosts that neither a record knows nor a container uses.
fn images(scene: &Scene<'_>) -> Vec<String> {
    let Some(cluster) = scene.id() else { return Vec::new() };
    let registry = scene.fleet.registry();
    let known = |id| scene.state.snapshots.get(&id).is_some_and(|it| it.phase != SnapshotPhase::Deleting);
    let tags = registry.tags().into_iter().filter(|(_, snapshot)| !known(*snapshot));
    let mut broken: Vec<String> = tags.map(|(repository, id)| format!("{id} in the registry's {repository}")).collect();
    for (host, machine) in scene.hosts() {
        let copies = machine.snapshots().into_iter().filter(|(_, image)| image.cluster == cluster);
        let left = copies.filter(|(name, image)| !known(image.snapshot) && !machine.image_used(name));
        broken.extend(left.map(|(name, _)| format!("image {name} on {}", host.name)));
    }
    let records = scene.state.snapshots.values().filter(|snapshot| snapshot.phase == SnapshotPhase::Deleting);
    broken.extend(records.map(|snapshot| format!("the record of {} which is to be deleted", snapshot.id)));
    broken
}
