//! What is reserved, and what really runs, fits under each host's load line.

use crate::sim::oracle::Scene;
use plimsoll_lifecycle::ports::ContainerPlan;
use plimsoll_types::Resources;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (host, machine) in scene.hosts() {
        let line = scene.state.policy.load_line.of(host.facts.totals);
        if !host.reserved.fits_in(line) {
            broken.push(format!("{} has {} reserved, its line is {line}", host.name, host.reserved));
        }
        let Some(cluster) = scene.id() else { continue };
        // What was replaced while the host was away holds no room; it is stopped once it is found.
        let counts = |plan: &ContainerPlan| {
            let current = scene.state.sandboxes.get(&plan.sandbox).map(|sandbox| sandbox.generation);
            !scene.disturbed(&machine) || current == Some(plan.generation)
        };
        let running = machine
            .running(cluster)
            .into_iter()
            .filter_map(|found| found.plan)
            .filter(counts)
            .fold(Resources::ZERO, |sum, plan| {
                sum.saturating_add(Resources { cpu: plan.cpu, memory: plan.memory, ..Resources::ZERO })
            });
        if !running.fits_in(line) {
            broken.push(format!("{} runs {running}, its line is {line}", host.name));
        }
    }
    broken
}
