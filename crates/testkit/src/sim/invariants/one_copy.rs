//! No incarnation ever ran twice, and where hosts answer, no sandbox runs in two containers or ahead of what is committed.

use crate::sim::oracle::Scene;
use std::collections::BTreeMap;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = scene.fleet.journal(|journal| journal.doubled().to_vec());
    let Some(cluster) = scene.id() else { return broken };
    let mut copies: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (host, machine) in scene.hosts() {
        for seen in machine.running(cluster).into_iter().map(|found| found.seen) {
            let (Some(id), Some(generation)) = (seen.sandbox, seen.generation) else { continue };
            let committed = scene.state.sandboxes.get(&id).map(|sandbox| sandbox.generation);
            if committed.is_none_or(|committed| generation > committed) {
                broken
                    .push(format!("{id} runs at generation {generation} on {}, committed is {committed:?}", host.name));
            }
            if committed == Some(generation) {
                copies.entry(id).or_default().push(format!("{} on {}", seen.name, host.name));
            }
        }
    }
    let doubled = copies.into_iter().filter(|(_, places)| places.len() > 1);
    broken.extend(doubled.map(|(id, places)| format!("{id} runs as {}", places.join(" and as "))));
    broken
}
