//! No incarnation ever ran twice, no two containers of a sandbox ran at once where that could be known, and where hosts answer, no
//! sandbox runs in two containers or ahead of what is committed.

use crate::sim::oracle::Scene;
use plimsoll_state::{Host, Sandbox, Stage};
use plimsoll_types::{Desired, Generation};
use std::collections::BTreeMap;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = scene.fleet.journal(|journal| journal.doubled().to_vec());
    broken.extend(scene.fleet.journal(|journal| journal.unfrozen().to_vec()));
    broken.extend(overlaps(scene));
    let Some(cluster) = scene.id() else { return broken };
    let mut copies: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (host, machine) in scene.hosts() {
        for seen in machine.running(cluster).into_iter().map(|found| found.seen) {
            let (Some(id), Some(generation)) = (seen.sandbox, seen.generation) else { continue };
            let sandbox = scene.state.sandboxes.get(&id);
            let committed = sandbox.map(|sandbox| sandbox.generation);
            let ahead = committed.is_none_or(|committed| generation > committed);
            // Where the host was away, a move may have been given up without it; where it is wanted gone, what arrived goes too.
            let excused = sandbox.is_some_and(|it| arrives(it, host, generation) || it.desired == Desired::Terminated)
                || scene.disturbed(&machine);
            if ahead && !excused {
                broken
                    .push(format!("{id} runs at generation {generation} on {}, committed is {committed:?}", host.name));
            }
            let assigned = sandbox.and_then(|sandbox| sandbox.assignment).map(|assignment| assignment.host);
            if committed == Some(generation) && (assigned == Some(host.id) || !scene.disturbed(&machine)) {
                copies.entry(id).or_default().push(format!("{} on {}", seen.name, host.name));
            }
        }
    }
    let doubled = copies.into_iter().filter(|(_, places)| places.len() > 1);
    broken.extend(doubled.map(|(id, places)| format!("{id} runs as {}", places.join(" and as "))));
    broken
}

/// Whether this incarnation is one that moves here, its snapshot being safe.
fn arrives(sandbox: &Sandbox, host: &Host, generation: Generation) -> bool {
    sandbox.work.as_ref().is_some_and(|work| {
        let target = work.target.filter(|target| target.host == host.id && target.generation == generation);
        target.is_some() && work.stage == Stage::Taken
    })
}

/// Two that ran at once; a copy that was replaced while its host was away runs until it is found.
fn overlaps(scene: &Scene<'_>) -> Vec<String> {
    let overlaps = scene.fleet.journal(|journal| journal.overlaps().to_vec());
    let text = overlaps.into_iter().map(|overlap| {
        let ((host, generation), (other, before)) = (overlap.began, overlap.beside);
        format!(
            "{} began at generation {generation} on {host} while generation {before} ran on {other}",
            overlap.sandbox
        )
    });
    text.collect()
}
