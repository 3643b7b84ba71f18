//! One node.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_leads_applies_and_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let node = Node::init(options.clone()).await.unwrap();
    leads(&node).await;
    let first = propose(&node, 1).await.unwrap();
    let second = propose(&node, 2).await.unwrap();
    assert!(second > first);
    node.barrier().await.unwrap();
    assert_eq!(node.changed(first).await, second);
    assert_eq!(node.members().len(), 1);
    node.shutdown().await;
    assert!(matches!(propose(&node, 3).await, Err(LedgerError::Closed)));
    drop(node);

    let node = Node::open(options).await.unwrap();
    leads(&node).await;
    node.barrier().await.unwrap();
    assert!(node.progress().1 >= second);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_no_failure() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::init(options(dir.path())).await.unwrap();
        leads(&node).await;
        node.shutdown().await;
        assert!(node.fatal().borrow().is_none(), "{:?}", node.fatal().borrow());
    }
}

struct Echo;

#[async_trait::async_trait]
impl plimsoll_lifecycle::ports::LeaderHandler for Echo {
    async fn answer(&self, question: bytes::Bytes) -> bytes::Bytes {
        question
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_reach_the_leaders_handler_from_any_node() {
    let cluster = super::cluster::Cluster::start(2).await;
    for node in cluster.running() {
        node.serve_leader(std::sync::Arc::new(Echo));
    }
    for node in cluster.running() {
        assert_eq!(node.ask_leader("who?".into()).await.unwrap(), "who?");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_proposals_are_refused_and_too_large_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_proposals = 4;
    let node = Node::init(options).await.unwrap();
    leads(&node).await;
    let results = futures_util::future::join_all((0..64).map(|number| propose(&node, number))).await;
    let refused = results.iter().filter(|result| matches!(result, Err(LedgerError::Overloaded))).count();
    assert!(refused > 0 && refused < 64, "{refused} of 64 refused");
    let huge = Command::Forget(vec![plimsoll_types::SandboxId::from_parts(1, 1); 400_000]);
    let error = node.propose(huge).await.unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
    let large = Command::Forget(vec![plimsoll_types::SandboxId::from_parts(1, 1); 100_000]);
    node.propose(large).await.unwrap();
    let blobs = std::fs::read_dir(dir.path().join("log/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled never syncs blobs, so entries must not become any");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::init(options(dir.path())).await.unwrap();
    let error = Node::open(options(dir.path())).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), plimsoll_types::Code::Conflict, "{error}");
    node.shutdown().await;
}

/// A node with a purged log and two snapshots, stopped.
async fn with_snapshots() -> (tempfile::TempDir, Options, Vec<std::path::PathBuf>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.snapshot_every = 40;
    let node = Node::init(options.clone()).await.unwrap();
    leads(&node).await;
    let mut last = 0;
    for number in 0..250 {
        last = propose(&node, number).await.unwrap();
    }
    let folder = dir.path().join("snapshots");
    let snapshots = || {
        let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "snapshot")).collect();
        paths.sort();
        paths
    };
    wait_for("a purged log and two snapshots", async || node.inner.purged() > 0 && snapshots().len() == 2).await;
    node.shutdown().await;
    (dir, options, snapshots(), last)
}

fn damage(path: &Path) {
    let mut content = std::fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_replaced_by_the_one_before_and_the_log() {
    let (_dir, options, snapshots, last) = with_snapshots().await;
    damage(&snapshots[1]);
    let node = Node::open(options).await.unwrap();
    leads(&node).await;
    node.barrier().await.unwrap();
    assert_eq!(applied(&node), last);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_log_without_a_whole_snapshot_is_a_lost_node() {
    let (_dir, options, snapshots, _) = with_snapshots().await;
    snapshots.iter().for_each(|path| damage(path));
    let error = Node::open(options).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), plimsoll_types::Code::StorageCorrupt, "{error}");
}
