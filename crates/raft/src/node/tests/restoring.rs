//! A node that is founded from a backup's state.

use super::*;
use crate::error::Error;
use plimsoll_state::{Hold, State};
use plimsoll_types::NodeId;

fn hold() -> Hold {
    Hold { since: Timestamp(5), reason: "restored".into() }
}

/// A cluster with some entries: its state, and a copy of its node's identity file.
async fn lost() -> (State, tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::init(options(dir.path())).await.unwrap();
    leads(&node).await;
    node.propose(founding(&node)).await.unwrap();
    for number in 0..20 {
        propose(&node, number).await.unwrap();
    }
    let state = ledger::read(&node, Clone::clone);
    node.shutdown().await;
    let identity = dir.path().join("identity");
    (state, dir, identity)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_goes_on_with_everything_and_others_can_join_it() {
    let (state, old, identity) = lost().await;
    let dir = tempfile::tempdir().unwrap();
    let options_ = options(dir.path());
    let number = Node::restore(&options_, state.clone(), hold(), Some(&identity)).unwrap();
    assert_eq!(number, NodeId(2), "a number that no node had");
    let (before, secret) = (state.applied, Node::secret_in(&identity).unwrap());

    let node = Node::open(options_.clone()).await.unwrap();
    leads(&node).await;
    node.barrier().await.unwrap();
    assert_eq!((Some(node.cluster()), node.node()), (state.cluster, number));
    assert!(*node.cluster_secret() == secret, "what was sealed does not open");
    ledger::read(&node, |now| assert_eq!((now.hold.clone(), now.policy.clone()), (Some(hold()), state.policy.clone())));
    assert!(propose(&node, 1).await.unwrap() > before, "the log goes backwards");
    node.shutdown().await;

    let node = Node::open(options_).await.unwrap();
    leads(&node).await;
    let joined = tempfile::tempdir().unwrap();
    let token = node.join_token().await.unwrap();
    let second = Node::join(options(joined.path()), &token).await.unwrap();
    assert_eq!(second.node(), NodeId(3));
    let last = propose(&node, 7).await.unwrap();
    wait_for("the second node to have everything", async || applied(&second) >= last).await;
    assert_eq!(ledger::read(&second, Clone::clone), ledger::read(&node, Clone::clone));

    // The old node knows the cluster's id and secret, and is a stranger all the same.
    let stranger = crate::identity::Identity::load(old.path()).unwrap();
    let caller = crate::network::client::Caller {
        tls: crate::network::tls::client(&stranger).unwrap(),
        own: Some((node.cluster(), NodeId(1))),
    };
    let address = node.listens_on().to_string();
    assert!(crate::network::client::connect(&caller, Some(node.node()), &address).await.is_err());
    second.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_short_is_no_node_and_can_be_done_again() {
    let (state, _old, _) = lost().await;
    for left in 0..4 {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let options = options(&dir);
        Node::restore(&options, state.clone(), hold(), None).unwrap();
        // As a crash would leave it: the marker, and the first of the parts that follow it.
        std::fs::write(dir.join("restoring"), "").unwrap();
        for part in ["snapshots", "guard", "identity"].iter().skip(left) {
            let part = dir.join(part);
            if part.is_dir() { std::fs::remove_dir_all(part).unwrap() } else { std::fs::remove_file(part).unwrap() }
        }
        for refused in [Node::create(&options), Node::vacant(&dir), Node::open(options.clone()).await.map(drop)] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Unfinished(_)), "after {left} parts: {error}");
        }
        Node::restore(&options, state.clone(), hold(), None).unwrap();
        let node = Node::open(options.clone()).await.unwrap();
        leads(&node).await;
        node.shutdown().await;
        let error = Node::restore(&options, state.clone(), hold(), None).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_or_of_another_cluster_is_refused() {
    let (state, _old, identity) = lost().await;
    let (_, _other, foreign) = lost().await;
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let error = Node::restore(&options, state.clone(), hold(), Some(&foreign)).unwrap_err();
    assert!(error.to_string().contains("the backup of"), "{error}");
    let error = Node::restore(&options, state.clone(), hold(), Some(&dir.path().join("none"))).unwrap_err();
    assert!(error.to_string().contains("no identity file"), "{error}");
    let error = Node::restore(&options, State::default(), hold(), Some(&identity)).unwrap_err();
    assert!(error.to_string().contains("no cluster"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a refusal leaves something");
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let error = Node::restore(&options, state, hold(), Some(&identity)).unwrap_err();
    assert!(matches!(error, Error::NotEmpty(_)), "{error}");
}
