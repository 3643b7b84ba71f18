//! What a caller was told is written is in the sandbox, wherever it runs and however it came there; after a restore, at least what
//! was in the snapshot it was restored from and what was written since. A paused sandbox has it in its snapshot.

use crate::sim::oracle::{Scene, Written};
use plimsoll_state::Sandbox;
use plimsoll_types::Phase;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    scene
        .promises
        .written
        .iter()
        .filter_map(|((id, path), written)| lost(scene, scene.state.sandboxes.get(id)?, path, written))
        .collect()
}

fn lost(scene: &Scene<'_>, sandbox: &Sandbox, path: &str, written: &[Written]) -> Option<String> {
    let promised = promised(scene, sandbox, path, written)?;
    let (found, place) = match sandbox.phase {
        Phase::Running => (in_container(scene, sandbox, path)?, "its container"),
        Phase::Paused => (in_snapshot(scene, sandbox, path), "its snapshot"),
        Phase::Pending
        | Phase::Assigned
        | Phase::Starting
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring
        | Phase::Failed
        | Phase::Terminating
        | Phase::Terminated => return None,
    };
    (found < Some(promised)).then(|| {
        let Sandbox { id, generation, .. } = sandbox;
        format!("{id} at generation {generation} has {found:?} at {path} in {place}; {promised} was acknowledged")
    })
}

/// The highest number that must be there.
fn promised(scene: &Scene<'_>, sandbox: &Sandbox, path: &str, written: &[Written]) -> Option<u64> {
    let Some(restored) = sandbox.restored else { return written.iter().map(|it| it.number).max() };
    let kept = stored(scene, restored.snapshot, path);
    let since = written.iter().filter(|it| it.at > restored.at).map(|it| it.number);
    since.chain(kept).max()
}

/// What a snapshot has, or had when it was still there.
fn stored(scene: &Scene<'_>, snapshot: plimsoll_types::SnapshotId, path: &str) -> Option<u64> {
    scene.fleet.registry().archived(snapshot, path)?.parse().ok()
}

/// `None` where the container cannot be looked at; that it should be there is judged elsewhere.
fn in_container(scene: &Scene<'_>, sandbox: &Sandbox, path: &str) -> Option<Option<u64>> {
    let host = scene.state.hosts.get(&sandbox.assignment?.host)?;
    let machine = scene.fleet.at(&host.address)?;
    let container = sandbox.container.as_deref()?;
    machine.containers().iter().any(|found| found.seen.id == container).then_some(())?;
    Some(machine.file(container, path).and_then(|text| text.parse().ok()))
}

fn in_snapshot(scene: &Scene<'_>, sandbox: &Sandbox, path: &str) -> Option<u64> {
    let stored = scene.state.snapshots.get(&sandbox.base?)?.stored.as_ref()?;
    scene.fleet.registry().file(&stored.digest, path)?.parse().ok()
}
