//! What is reserved, and what really runs, fits under each host's load line.

use crate::sim::oracle::Scene;
use plimsoll_types::Resources;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (host, machine) in scene.hosts() {
        let line = scene.state.policy.load_line.of(host.facts.totals);
        if !host.reserved.fits_in(line) {
            broken.push(format!("{} has {} reserved, its line is {line}", host.name, host.reserved));
        }
        let Some(cluster) = scene.id() else { continue };
        let running =
            machine.running(cluster).into_iter().filter_map(|found| found.plan).fold(Resources::ZERO, |sum, plan| {
                sum.saturating_add(Resources { cpu: plan.cpu, memory: plan.memory, ..Resources::ZERO })
            });
        if !running.fits_in(line) {
            broken.push(format!("{} runs {running}, its line is {line}", host.name));
        }
    }
    broken
}
