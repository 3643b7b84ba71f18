//! Coming in: tokens, certificates, and what is refused.

use super::{cluster::Cluster, *};
use crate::{
    error::Error,
    identity::Identity,
    network::{
        client::{self, Caller},
        message::{Request, Response},
        tls,
    },
    token::JoinToken,
};
use bytes::Bytes;
use plimsoll_types::{Code, NodeId};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_others_used_ones_and_nonsense_are_refused() {
    let mut ours = Cluster::start(2).await;
    let theirs = Cluster::start(1).await;
    ours.place(|_| {});
    let options = ours.options[2].clone();

    let error = Node::enroll(&options, "plimsoll-join-nonsense").await.unwrap_err();
    assert_eq!(error.code(), Code::JoinDenied, "{error}");

    // Their token with our address: their CA is not found there.
    let mut token = JoinToken::from_text(&theirs.node(0).join_token().await.unwrap()).unwrap();
    token.address = ours.options[0].advertise.clone();
    let error = Node::enroll(&options, &token.to_text().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::NoQuorum, "{error}");

    // Their token with our address and our CA: the signature is not ours.
    let own = JoinToken::from_text(&ours.node(0).join_token().await.unwrap()).unwrap();
    token.fingerprint = own.fingerprint;
    let error = Node::enroll(&options, &token.to_text().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::JoinDenied, "{error}");
    assert!(!Identity::path(&options.data_dir).exists(), "nothing was left behind");

    // A token lets one node in, through any member.
    let follower = ours.follower().await;
    let text = ours.node(follower).join_token().await.unwrap();
    let node = Node::join(options, &text).await.unwrap();
    ours.nodes.push(Some(node));
    ours.voters(3).await;
    ours.place(|_| {});
    let error = Node::enroll(&ours.options[3], &text).await.unwrap_err();
    assert_eq!(error.code(), Code::JoinDenied, "{error}");
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_join_twice() {
    let mut cluster = Cluster::start(2).await;
    let token = cluster.node(0).join_token().await.unwrap();
    let error = Node::enroll(&cluster.options[1], &token).await.unwrap_err();
    assert_eq!(error.code(), Code::NodeExists, "the folder holds a node: {error}");
    let error = Node::create(&cluster.options[1]).unwrap_err();
    assert_eq!(error.code(), Code::NodeExists, "{error}");

    // Another folder with the address of a member.
    cluster.place(|_| {});
    let mut options = cluster.options[2].clone();
    options.advertise = cluster.options[1].advertise.clone();
    let error = Node::enroll(&options, &token).await.unwrap_err();
    assert_eq!(error.code(), Code::NodeExists, "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_crashed_between_the_steps_is_admitted_when_started() {
    let mut cluster = Cluster::start(1).await;
    leads(cluster.node(0)).await;
    cluster.place(|_| {});
    let token = cluster.node(0).join_token().await.unwrap();
    Node::enroll(&cluster.options[1], &token).await.unwrap();
    assert_eq!(cluster.node(0).members().len(), 1, "an identity alone is no membership");
    let node = Node::open(cluster.options[1].clone()).await.unwrap();
    assert_eq!(node.cluster_secret().expose(), cluster.node(0).cluster_secret().expose());
    assert_eq!(format!("{:?}", node.cluster_secret()), "ClusterSecret(…)");
    cluster.nodes.push(Some(node));
    cluster.voters(2).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_up_before_anything_goes_out_whoever_leads_and_whatever_restarts() {
    let mut cluster = Cluster::start(3).await;
    cluster.place(|_| {});
    cluster.place(|_| {});
    let text = cluster.node(0).join_token().await.unwrap();
    // It got the cluster's keys and crashed before it asked to be a member.
    Node::enroll(&cluster.options[3], &text).await.unwrap();
    let used = |error: Error| {
        assert_eq!(error.code(), Code::JoinDenied, "{error}");
        let said = error.to_string();
        assert!(said.contains("used already") && said.contains("plimsoll cluster token"), "{said}");
    };
    used(Node::enroll(&cluster.options[4], &text).await.unwrap_err());

    let leader = cluster.leader().await;
    let next = cluster.node(cluster.follower().await).node();
    cluster.node(leader).transfer(next).await.unwrap();
    used(Node::enroll(&cluster.options[4], &text).await.unwrap_err());

    for number in 0..3 {
        cluster.kill(number).await;
    }
    for number in 0..3 {
        cluster.restart(number).await;
    }
    cluster.leader().await;
    used(Node::enroll(&cluster.options[4], &text).await.unwrap_err());
    assert!(!Identity::path(&cluster.options[4].data_dir).exists(), "nothing was left behind");

    // The new leader gives out no number a second time, and admits whom the old one let in.
    let fresh = cluster.node(0).join_token().await.unwrap();
    Node::enroll(&cluster.options[4], &fresh).await.unwrap();
    assert_eq!(Node::peek(&cluster.options[4].data_dir).unwrap().1, NodeId(5));
    for number in [3, 4] {
        cluster.nodes.push(Some(Node::open(cluster.options[number].clone()).await.unwrap()));
        cluster.voters(number + 1).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_with_one_token_are_one_node() {
    let mut cluster = Cluster::start(3).await;
    let text = cluster.node(0).join_token().await.unwrap();
    for _ in 0..8 {
        cluster.place(|_| {});
    }
    // Through every member at once.
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let mut token = JoinToken::from_text(&text).unwrap();
            token.address = cluster.options[number % 3].advertise.clone();
            let options = cluster.options[3 + number].clone();
            tokio::spawn(async move { Node::enroll(&options, &token.to_text().unwrap()).await })
        })
        .collect();
    let mut admitted = 0;
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(()) => admitted += 1,
            Err(error) => assert_eq!(error.code(), Code::JoinDenied, "{error}"),
        }
    }
    assert_eq!(admitted, 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_admits_only_the_node_it_let_in() {
    let mut cluster = Cluster::start(1).await;
    cluster.place(|_| {});
    let text = cluster.node(0).join_token().await.unwrap();
    Node::enroll(&cluster.options[1], &text).await.unwrap();
    let mut thief = Identity::load(&cluster.options[1].data_dir).unwrap();
    let unused = cluster.node(0).join_token().await.unwrap();
    if let crate::identity::Origin::Joined { token, .. } = &mut thief.origin {
        token.0 = unused.into_bytes();
    }
    std::fs::remove_file(Identity::path(&cluster.options[1].data_dir)).unwrap();
    thief.save_new(&cluster.options[1].data_dir).unwrap();
    let node = Node::open(cluster.options[1].clone()).await.unwrap();
    let mut fatal = node.fatal();
    let error =
        tokio::time::timeout(PATIENCE, fatal.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(error.code(), Code::JoinDenied, "{error}");
    assert!(error.to_string().contains("empty its data folder"), "{error}");
    node.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_cluster_whose_founding_is_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let founder = Node::init(options(dir.path())).await.unwrap();
    leads(&founder).await;
    assert!(founder.is_lone_founder());
    let token = founder.join_token().await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let error = Node::enroll(&options(other.path()), &token).await.unwrap_err();
    assert!(error.to_string().contains("founding is not finished"), "{error}");
    founder.propose(founding(&founder)).await.unwrap();
    Node::enroll(&options(other.path()), &token).await.unwrap();
    founder.stop().await;
}

/// Who connects, with whose certificate, as which node of which cluster.
fn caller(certificates: &Identity, claim: &Identity) -> Caller {
    Caller { tls: tls::client(certificates).unwrap(), own: Some((claim.cluster, claim.node)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_cluster_or_another_node_are_refused() {
    let ours = Cluster::start(2).await;
    let theirs = Cluster::start(1).await;
    let address = &ours.options[0].advertise;
    let first = Identity::load(&ours.options[0].data_dir).unwrap();
    let second = Identity::load(&ours.options[1].data_dir).unwrap();
    let stranger = Identity::load(&theirs.options[0].data_dir).unwrap();

    client::connect(&caller(&second, &second), Some(first.node), address).await.map(|_| ()).unwrap();

    let foreign = client::connect(&caller(&stranger, &stranger), Some(first.node), address).await;
    assert!(foreign.is_err(), "their CA does not know our server");

    // A client that does not mind our server's certificate is still turned away by the server.
    let mut careless = stranger.clone();
    careless.authority = first.authority.clone();
    let foreign = client::connect(&caller(&careless, &second), Some(first.node), address).await;
    assert!(foreign.is_err(), "our server does not know their CA");

    let impostor = client::connect(&caller(&second, &first), Some(first.node), address).await;
    let error = impostor.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("certificate is not node 1's"), "{error}");

    let misled = client::connect(&caller(&second, &second), Some(second.node), address).await;
    assert!(misled.is_err(), "node 1 is not node 2");
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_only_joining_is_possible() {
    let cluster = Cluster::start(1).await;
    let token = JoinToken::from_text(&cluster.node(0).join_token().await.unwrap()).unwrap();
    let caller = Caller { tls: tls::stranger(token.fingerprint).unwrap(), own: None };
    let connection = client::connect(&caller, None, &token.address).await.unwrap();
    for request in [Request::ReadIndex, Request::Ask(Bytes::new()), Request::Remove(1)] {
        let answer = connection.call(&request, PATIENCE).await.unwrap();
        assert!(
            matches!(answer, Response::Failed(ref failure) if failure.message.contains("may only join")),
            "{answer:?}"
        );
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_identity_or_guard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    assert!(matches!(Node::open(options.clone()).await.map(|_| ()), Err(Error::Empty(_))));
    Node::create(&options).unwrap();
    std::fs::remove_file(dir.path().join("guard")).unwrap();
    let error = Node::open(options).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::StorageCorrupt, "{error}");
}
