//! Containers that somebody else made are still there and were neither stopped nor renamed.

use crate::sim::oracle::Scene;
use plimsoll_lifecycle::ports::ContainerState;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, id) in &scene.promises.foreign {
        let Some(machine) = scene.fleet.hosts().into_iter().find(|machine| machine.name() == name) else { continue };
        let untouched = machine.containers().iter().any(|found| {
            found.seen.id == *id && found.seen.state == ContainerState::Running && !found.seen.name.contains("fenced")
        });
        if !untouched {
            broken.push(format!("a stranger's container {id} on {name} was touched"));
        }
    }
    broken
}
