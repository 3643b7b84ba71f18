//! Snapshots end in two steps: marked so that nothing starts from them any more, and forgotten once the registry has nothing of
//! them. What a sandbox needs to come back is never marked.

use super::entry::Entry;
use crate::{
    Outcome, Refusal, State,
    command::{DeleteSnapshot, ForgetSnapshots},
    model::{SnapshotKind, SnapshotPhase},
};
use plimsoll_types::{SandboxId, SnapshotId, Timestamp};

/// Snapshots kept in state at once: a hundred thousand records are some tens of megabytes.
pub const SNAPSHOTS_LIMIT: usize = 100_000;

pub(super) fn delete(state: &mut State, entry: &mut Entry, item: &DeleteSnapshot) -> Result<(), Refusal> {
    let snapshot = state.snapshots.get(&item.snapshot).ok_or(Refusal::SnapshotUnknown)?;
    match snapshot.phase {
        SnapshotPhase::Deleting => return Ok(()),
        SnapshotPhase::Taking => return Err(Refusal::SnapshotUnusable),
        SnapshotPhase::Available => {}
    }
    if let Some(sandbox) = state.user_of(item.snapshot) {
        return Err(Refusal::SnapshotInUse(sandbox));
    }
    state.drop_snapshot(entry, item.snapshot, item.at);
    Ok(())
}

/// Records that are unknown or not being deleted are passed over.
pub(super) fn forget(state: &mut State, entry: &mut Entry, item: &ForgetSnapshots) -> Outcome {
    for id in &item.snapshots {
        let Some(gone) = state.snapshots.get(id).filter(|it| it.phase == SnapshotPhase::Deleting).cloned() else {
            continue;
        };
        state.remove_snapshot(*id);
        entry.snapshot_gone(state, &gone, item.at);
    }
    Outcome::Done
}

impl State {
    /// Marks a snapshot for deletion unless a sandbox needs it.
    pub(super) fn drop_snapshot(&mut self, entry: &mut Entry, id: SnapshotId, at: Timestamp) {
        let there = self.snapshots.get(&id).is_some_and(|snapshot| snapshot.phase != SnapshotPhase::Deleting);
        if there && self.user_of(id).is_none() {
            self.update_snapshot(id, |snapshot| snapshot.phase = SnapshotPhase::Deleting);
            entry.snapshot(self, id, at);
        }
    }

    /// Drops the pauses and transfers of a sandbox that it does not stand on any more.
    pub(super) fn drop_unneeded(&mut self, entry: &mut Entry, sandbox: SandboxId, at: Timestamp) {
        let passing = |kind| matches!(kind, SnapshotKind::Pause | SnapshotKind::Transfer);
        let work = self.sandboxes.get(&sandbox).and_then(|sandbox| sandbox.work.as_ref()).map(|work| work.snapshot);
        let old: Vec<SnapshotId> = self
            .snapshots_of(sandbox)
            .filter(|snapshot| passing(snapshot.kind) && Some(snapshot.id) != work)
            .map(|snapshot| snapshot.id)
            .collect();
        old.into_iter().for_each(|id| self.drop_snapshot(entry, id, at));
    }

    /// Drops everything taken for a sandbox that ended, except what somebody asked to keep.
    pub(super) fn drop_all_passing(&mut self, entry: &mut Entry, sandbox: SandboxId, at: Timestamp) {
        let passing = |kind| kind != SnapshotKind::Kept;
        let old: Vec<SnapshotId> =
            self.snapshots_of(sandbox).filter(|snapshot| passing(snapshot.kind)).map(|snapshot| snapshot.id).collect();
        old.into_iter().for_each(|id| self.drop_snapshot(entry, id, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, command::Place, model::WorkKind, testing::*};
    use plimsoll_types::TenantId;
    use std::sync::Arc;

    fn delete_of(n: u64) -> Command {
        Command::DeleteSnapshots(vec![DeleteSnapshot { snapshot: snapshot(n), at: at(70) }])
    }

    #[test]
    fn what_a_sandbox_needs_is_not_deleted() {
        let mut state = cluster_with(1);
        check_one(&mut state, &delete_of(1), Err(Refusal::SnapshotUnknown));
        pause(&mut state, 1, 0);
        check_one(&mut state, &delete_of(1), Err(Refusal::SnapshotInUse(id(1))));
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        assert_eq!(state.deleting().count(), 1, "it went with its sandbox");
        check_one(&mut state, &delete_of(1), Ok(()));
        let forget = ForgetSnapshots { snapshots: vec![snapshot(1), snapshot(2)], at: at(80) };
        check(&mut state, &Command::ForgetSnapshots(forget), &Outcome::Done);
        assert!(state.snapshots.is_empty());
    }

    #[test]
    fn what_an_operation_has_taken_is_not_deleted_under_it() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_begin(&mut state, begin(1, WorkKind::Migrate, Some(1)));
        check_taken(&mut state, 1);
        check_one(&mut state, &delete_of(1), Err(Refusal::SnapshotInUse(id(1))));
    }

    #[test]
    fn a_new_sandbox_starts_from_an_available_snapshot_of_its_tenant() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        check_begin(&mut state, crate::command::Begin { ..begin(1, WorkKind::Snapshot, None) });
        let mut spec = spec();
        spec.snapshot = Some(snapshot(1));
        let from = |n| Place { spec: Arc::new(spec.clone()), ..place(n, 1) };
        check_place(&mut state, from(2), PlaceOutcome::Refused(Refusal::SnapshotUnusable));
        check_one(&mut state, &delete_of(1), Err(Refusal::SnapshotUnusable));
        check_taken(&mut state, 1);
        let other = Place { tenant: TenantId::new("other").unwrap(), ..from(3) };
        check_place(&mut state, other, PlaceOutcome::Refused(Refusal::SnapshotUnknown));
        check_place(&mut state, from(2), PlaceOutcome::Created(id(2)));
        check_one(&mut state, &delete_of(1), Err(Refusal::SnapshotInUse(id(2))));
    }
}
