//! What state calls available is in the registry with that digest, unless the registry lost it by itself; what is being taken is
//! being taken by somebody.

use crate::sim::oracle::Scene;
use plimsoll_state::SnapshotPhase;
use plimsoll_types::Desired;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let registry = scene.fleet.registry();
    let mut broken = Vec::new();
    for snapshot in scene.state.snapshots.values() {
        let id = snapshot.id;
        match (&snapshot.phase, &snapshot.stored) {
            (SnapshotPhase::Available, Some(stored)) => {
                if !registry.holds(&stored.repository, &stored.digest) && !registry.lost(&stored.digest) {
                    broken.push(format!("{id} is said to be at {}@{}", stored.repository, stored.digest));
                }
            }
            (SnapshotPhase::Available, None) => broken.push(format!("{id} is said to be available and is nowhere")),
            (SnapshotPhase::Taking, _) => {
                let worked_on = scene.state.sandboxes.get(&snapshot.sandbox).and_then(|sandbox| sandbox.work.as_ref());
                if worked_on.is_none_or(|work| work.snapshot != id) {
                    broken.push(format!("{id} is being taken by nobody"));
                }
            }
            (SnapshotPhase::Deleting, _) => {}
        }
    }
    // What is wanted gone needs nothing to come back from.
    let wanted = scene.state.sandboxes.values().filter(|sandbox| sandbox.desired != Desired::Terminated);
    let needed = wanted.filter_map(|sandbox| Some((sandbox, sandbox.base?)));
    for (sandbox, base) in needed {
        let phase = scene.state.snapshots.get(&base).map(|snapshot| snapshot.phase);
        if phase != Some(SnapshotPhase::Available) {
            broken.push(format!("{} ({}) stands on {base}, which is {phase:?}", sandbox.id, sandbox.phase));
        }
    }
    broken
}
