//! Calls about snapshots.

use crate::{
    call::{Call, Wait},
    client::Client,
    error::Error,
    moving::Accepted,
    sandboxes::of,
    wire::{Page, Snapshot, TakeSnapshot},
};
use plimsoll_types::{SandboxId, SnapshotName};

/// Which snapshots to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Taken of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// At most so many; 100 if absent, 1,000 at most.
    pub limit: Option<u32>,
    /// After this one: the last page's `next`.
    pub after: Option<String>,
}

impl Client {
    /// Takes a snapshot of a sandbox, which goes on.
    ///
    /// # Errors
    /// See [`Error`]; `timeout` if it takes longer than the wait (it goes on by itself), `snapshot_exists` if the name is taken.
    pub async fn take_snapshot(
        &self,
        id: SandboxId,
        name: Option<&SnapshotName>,
        wait: Wait,
    ) -> Result<Accepted<Snapshot>, Error> {
        let body = TakeSnapshot { name: name.cloned() };
        self.accepted(&of(Call::post, id, &["snapshots"]).json(&body).wait(wait)).await
    }

    /// A page of snapshots, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Page<Snapshot>, Error> {
        let call = Call::get(&["v1", "snapshots"])
            .query("sandbox", filter.sandbox)
            .query("limit", filter.limit)
            .query("after", filter.after.as_ref());
        self.json(&call).await
    }

    /// One snapshot by id or name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshot(&self, which: &str) -> Result<Snapshot, Error> {
        self.json(&Call::get(&["v1", "snapshots", which])).await
    }

    /// Deletes a snapshot by id or name. Gone already is success.
    ///
    /// # Errors
    /// See [`Error`]; `snapshot_in_use` while a sandbox needs it to come back.
    pub async fn delete_snapshot(&self, which: &str) -> Result<(), Error> {
        self.nothing(&Call::delete(&["v1", "snapshots", which])).await
    }
}
