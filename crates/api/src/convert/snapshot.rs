//! From snapshots' records to the wire.

use plimsoll_client::wire::{self, Size, Time};
use plimsoll_state::{Snapshot, SnapshotKind, SnapshotPhase, State};

/// How far a snapshot is.
pub(crate) const fn phase(phase: SnapshotPhase) -> wire::SnapshotPhase {
    match phase {
        SnapshotPhase::Taking => wire::SnapshotPhase::Taking,
        SnapshotPhase::Available => wire::SnapshotPhase::Available,
        SnapshotPhase::Deleting => wire::SnapshotPhase::Deleting,
    }
}

/// A record, with who uses it.
pub(crate) fn snapshot(state: &State, record: &Snapshot) -> wire::Snapshot {
    let stored = record.stored.as_ref();
    wire::Snapshot {
        id: record.id,
        tenant: record.tenant.clone(),
        name: record.name.clone(),
        kind: match record.kind {
            SnapshotKind::Kept => wire::SnapshotKind::Kept,
            SnapshotKind::Checkpoint => wire::SnapshotKind::Checkpoint,
            SnapshotKind::Pause => wire::SnapshotKind::Pause,
            SnapshotKind::Transfer => wire::SnapshotKind::Transfer,
        },
        phase: phase(record.phase),
        sandbox: record.sandbox,
        generation: record.generation.0,
        image: record.image.clone(),
        created_at: Time(record.created_at),
        taken_at: stored.map(|stored| Time(stored.taken_at)),
        repository: stored.map(|stored| stored.repository.to_string()),
        digest: stored.map(|stored| stored.digest),
        size: stored.map(|stored| Size(stored.size)),
        sent: stored.map(|stored| Size(stored.sent)),
        layers: stored.map(|stored| stored.layers),
        architecture: stored.map(|stored| stored.architecture.to_string()),
        host: stored.map(|stored| super::sandbox::called(state, stored.host)),
        used_by: state.user_of(record.id),
    }
}
