//! What may be removed from a host's images: only the cluster's own snapshots, and none that a sandbox there has use for.

use super::step::{Plan, Step};
use crate::ports::ImageSeen;
use plimsoll_state::{SnapshotPhase, State};
use plimsoll_types::{HostId, Millis, SnapshotId, Timestamp};
use std::collections::BTreeSet;

/// How much room a host has for copies that are kept for speed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough: copies stay for a while.
    Enough,
    /// Its disk is nearly full: they go at once, oldest first.
    Tight,
}

/// How long a copy stays that nothing on the host runs from: a pause is often followed by a resume.
const KEPT: Millis = Millis::secs(3600);

/// Images to remove from a host, the oldest first. `state` must be read behind a barrier after `images` were listed.
#[must_use]
pub fn collect(state: &State, host: HostId, images: &[ImageSeen], room: Room, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let used: BTreeSet<SnapshotId> = state
        .on_host(host)
        .flat_map(|sandbox| sandbox.base.into_iter().chain(sandbox.work.as_ref().map(|work| work.snapshot)))
        .collect();
    let mut sorted: Vec<_> = images.iter().collect();
    sorted.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    for image in sorted {
        // A name of ours that tells no snapshot was written by a release that this one does not understand.
        let Some(id) = image.snapshot.filter(|id| !used.contains(id)) else { continue };
        let phase = state.snapshots.get(&id).map(|snapshot| snapshot.phase);
        let because = match phase {
            None => format!("there is no {id}"),
            Some(SnapshotPhase::Deleting) => format!("{id} is being deleted"),
            Some(SnapshotPhase::Taking) => continue,
            Some(SnapshotPhase::Available) => match room {
                Room::Tight => "the disk is nearly full and the registry has it".to_owned(),
                Room::Enough if now.since(image.created_at) >= KEPT => "nothing here runs from it".to_owned(),
                Room::Enough => continue,
            },
        };
        plan.push(Step::RemoveImage(image.name.clone()), because);
    }
    plan
}
