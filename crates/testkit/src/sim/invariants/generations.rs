//! A sandbox's generation is never lower than it was when the oracle looked before.

use crate::sim::oracle::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let back = scene.promises.generations.iter().filter_map(|(id, before)| {
        let now = scene.state.sandboxes.get(id)?.generation;
        (now < *before).then(|| format!("{id} went from generation {before} to {now}"))
    });
    back.collect()
}
