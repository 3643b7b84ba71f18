//! openraft's own storage suite on our store.

use super::{guard::Guard, log::LogStore, snapshots::Snapshots};
use crate::{identity::Owner, machine::Machine, types::TypeConfig};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use plimsoll_types::{ClusterId, NodeId};
use std::sync::Arc;

pub(super) const OWNER: Owner = Owner { cluster: ClusterId::from_parts(1, 1), node: NodeId(1) };

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        Guard::create(dir.path(), OWNER.cluster, OWNER.node).unwrap();
        let log = LogStore::open(dir.path(), OWNER).unwrap();
        let machine = Machine::new(Arc::new(Snapshots::open(dir.path()).unwrap()));
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
