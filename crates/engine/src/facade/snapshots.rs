//! Snapshots as records: found, listed and deleted. What happens to images follows from state.

use super::VpsClusterProvider;
use crate::{
    Error,
    request::{Scope, no_such_snapshot},
};
use plimsoll_state::{
    Command, Refusal, Snapshot, SnapshotPhase, State,
    command::DeleteSnapshot,
    query::{PAGE_DEFAULT, PAGE_LIMIT},
};
use plimsoll_types::{Code, SandboxId, SnapshotId, SnapshotName};
use std::{ops::Bound, sync::Arc};

impl VpsClusterProvider {
    pub(super) async fn list_snapshots(
        &self,
        scope: &Scope,
        sandbox: Option<SandboxId>,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<(Vec<Arc<Snapshot>>, Option<SnapshotId>), Error> {
        self.barrier().await?;
        let limit = if limit == 0 { PAGE_DEFAULT } else { limit.min(PAGE_LIMIT) };
        let mut page: Vec<Arc<Snapshot>> = self.node.read(|state| {
            let seen = |it: &&Arc<Snapshot>| scope.allows(&it.tenant) && after.is_none_or(|after| it.id > after);
            match sandbox {
                // A sandbox's are few, and may outlive its record.
                Some(sandbox) => {
                    let mut all: Vec<_> = state.snapshots_of(sandbox).filter(seen).cloned().collect();
                    all.sort_by_key(|it| it.id);
                    all.truncate(limit + 1);
                    all
                }
                None => {
                    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                    let rest = state.snapshots.range((from, Bound::Unbounded)).map(|(_, it)| it);
                    rest.filter(seen).take(limit + 1).cloned().collect()
                }
            }
        });
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|last| last.id);
        Ok((page, next))
    }

    pub(super) async fn find_snapshot(&self, scope: &Scope, id_or_name: &str) -> Result<Arc<Snapshot>, Error> {
        self.barrier().await?;
        let mut found = self.node.read(|state| named(state, scope, id_or_name));
        if found.len() > 1 {
            let message = format!("{} tenants have a snapshot {id_or_name}; name it by its id", found.len());
            return Err(Error::new(Code::Conflict, message));
        }
        found.pop().ok_or_else(|| no_such_snapshot(id_or_name))
    }

    pub(super) async fn drop_snapshot(&self, scope: &Scope, id: SnapshotId) -> Result<(), Error> {
        let snapshot = self.find_snapshot(scope, &id.to_string()).await?;
        let wish = DeleteSnapshot { snapshot: id, at: self.node.now() };
        match self.node.commit_one(Command::DeleteSnapshots(vec![wish])).await? {
            // Gone by now is what was wanted.
            Ok(()) | Err(Refusal::SnapshotUnknown) => Ok(()),
            Err(Refusal::SnapshotInUse(user)) => {
                let message = format!("{user} starts from {id} when it comes back; terminate it first");
                Err(Error::new(Code::SnapshotInUse, message).about(user))
            }
            Err(Refusal::SnapshotUnusable) => {
                let message = format!("{id} is being taken; wait until it is available, then delete it");
                Err(Error::new(Code::SnapshotUnusable, message).about(snapshot.sandbox))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The snapshot that a new sandbox of this tenant is to start from, if it can.
    pub(super) async fn startable(&self, scope: &Scope, id: SnapshotId) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.find_snapshot(scope, &id.to_string()).await?;
        match snapshot.phase {
            SnapshotPhase::Available => Ok(snapshot),
            SnapshotPhase::Taking | SnapshotPhase::Deleting => {
                let phase = snapshot.phase.as_str();
                let message = format!("{id} is {phase}; a sandbox starts only from a snapshot that is available");
                Err(Error::new(Code::SnapshotUnusable, message))
            }
        }
    }
}

/// By id, or else by name: one at most for a tenant, and for operators one of each tenant that has the name.
fn named(state: &State, scope: &Scope, text: &str) -> Vec<Arc<Snapshot>> {
    if let Ok(id) = text.parse::<SnapshotId>() {
        return state.snapshots.get(&id).filter(|it| scope.allows(&it.tenant)).cloned().into_iter().collect();
    }
    let Ok(name) = SnapshotName::new(text) else { return Vec::new() };
    match scope {
        Scope::Tenant(tenant) => state.snapshot_named(tenant, &name).cloned().into_iter().collect(),
        Scope::All => {
            let has = |it: &&Arc<Snapshot>| it.name.as_ref() == Some(&name) && it.phase != SnapshotPhase::Deleting;
            state.snapshots.values().filter(has).cloned().collect()
        }
    }
}
