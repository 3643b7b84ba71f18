//! Several nodes: replication, failover, coming and going.

use super::*;
use plimsoll_lifecycle::ports::MemberRole;
use plimsoll_types::{Code, NodeId};

/// Nodes with their folders; a node that was stopped leaves its place empty.
pub(super) struct Cluster {
    pub(super) dirs: Vec<tempfile::TempDir>,
    pub(super) options: Vec<Options>,
    pub(super) nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// Starts so many nodes, all of them voters.
    pub(super) async fn start(size: usize) -> Self {
        Self::start_with(size, |_| {}).await
    }

    pub(super) async fn start_with(size: usize, configure: impl Fn(&mut Options)) -> Self {
        let mut cluster = Self { dirs: Vec::new(), options: Vec::new(), nodes: Vec::new() };
        for number in 0..size {
            cluster.place(&configure);
            let options = cluster.options[number].clone();
            let node = if number == 0 {
                let node = Node::init(options).await.unwrap();
                leads(&node).await;
                node.propose(founding(&node)).await.unwrap();
                node
            } else {
                let token = cluster.node(0).join_token().await.unwrap();
                Node::join(options, &token).await.unwrap()
            };
            cluster.nodes.push(Some(node));
            cluster.voters(number + 1).await;
        }
        cluster
    }

    /// Makes a folder and options for one more node.
    pub(super) fn place(&mut self, configure: impl Fn(&mut Options)) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        configure(&mut options);
        self.dirs.push(dir);
        self.options.push(options);
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().unwrap()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    pub(super) async fn voters(&self, count: usize) {
        wait_for("every node to know all voters", async || {
            self.running().all(|node| {
                let members = node.members();
                members.len() == count && members.iter().all(|member| member.role == MemberRole::Voter)
            })
        })
        .await;
    }

    /// The position of the leader that all running nodes agree on.
    pub(super) async fn leader(&self) -> usize {
        let mut found = None;
        wait_for("one leader", async || {
            let views: Vec<_> = self.running().map(Ledger::leader).collect();
            let leader = views[0].leader;
            let agreed = views.iter().all(|view| view.leader == leader && view.term == views[0].term);
            found = self.nodes.iter().position(|node| node.as_ref().is_some_and(|node| node.leader().is_self));
            agreed && leader.is_some() && found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(super) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.nodes.len()).find(|number| *number != leader && self.nodes[*number].is_some()).unwrap()
    }

    /// Stops a node at once, without handing over.
    pub(super) async fn kill(&mut self, number: usize) {
        self.nodes[number].take().unwrap().stop().await;
    }

    pub(super) async fn restart(&mut self, number: usize) {
        self.nodes[number] = Some(Node::open(self.options[number].clone()).await.unwrap());
    }

    pub(super) async fn all_applied(&self, index: u64) {
        wait_for("every node to apply", async || self.running().all(|node| applied(node) >= index)).await;
    }

    pub(super) async fn stop(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_replicate_and_survive_their_leader() {
    let mut cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    let mut last = 0;
    for number in 0..20 {
        last = propose(cluster.node(follower), number).await.unwrap();
        assert!(applied(cluster.node(follower)) >= last, "applied where it was proposed");
    }
    cluster.all_applied(last).await;

    let leader = cluster.leader().await;
    let term = cluster.node(leader).leader().term;
    cluster.kill(leader).await;
    let next = cluster.leader().await;
    assert!(cluster.node(next).leader().term > term);
    let after = propose(cluster.node(cluster.follower().await), 99).await.unwrap();
    assert!(after > last, "nothing acknowledged was lost");

    cluster.restart(leader).await;
    cluster.all_applied(after).await;
    cluster.node(leader).barrier().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kills_under_load() {
    let mut cluster = Cluster::start(3).await;
    for round in 0..2u64 {
        let leader = cluster.leader().await;
        let writers: Vec<_> = cluster
            .running()
            .cloned()
            .map(|node| {
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    while let Ok(index) = propose(&node, round).await {
                        acknowledged.push(index);
                        if acknowledged.len() == 400 {
                            break;
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        wait_for("some writes", async || applied(cluster.node(leader)) > 100 * (round + 1)).await;
        cluster.kill(leader).await;
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        cluster.leader().await;
        cluster.restart(leader).await;
        let mut unique = acknowledged.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), acknowledged.len(), "no index was acknowledged twice");
        cluster.all_applied(*unique.last().unwrap()).await;
    }
    let digests: Vec<_> = cluster.running().map(|node| ledger::read(node, Clone::clone)).collect();
    let end = propose(cluster.node(0), 7).await.unwrap();
    cluster.all_applied(end).await;
    assert_eq!(digests.len(), 3);
    let states: Vec<_> = cluster.running().map(|node| ledger::read(node, Clone::clone)).collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "replicas are equal");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start_with(3, |options| options.timers.proposal = Duration::from_millis(1500)).await;
    let leader = cluster.leader().await;
    for number in (0..3).filter(|number| *number != leader).collect::<Vec<_>>() {
        cluster.kill(number).await;
    }
    let node = cluster.node(leader);
    assert!(matches!(propose(node, 1).await, Err(LedgerError::NoQuorum(_))));
    assert!(matches!(node.barrier().await, Err(LedgerError::NoQuorum(_))));
    assert!(!node.leader().is_self, "it may have a successor it knows nothing of");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request_and_on_shutdown() {
    let mut cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let target = cluster.node(follower).node();
    cluster.node(leader).transfer(target).await.unwrap();
    wait_for("the follower to lead", async || cluster.node(follower).leader().is_self).await;
    let error = cluster.node(leader).transfer(NodeId(99)).await.unwrap_err();
    assert!(error.to_string().contains("not a voter"), "{error}");

    let leaving = cluster.leader().await;
    let term = cluster.node(leaving).leader().term;
    cluster.nodes[leaving].take().unwrap().shutdown().await;
    let next = cluster.leader().await;
    assert_eq!(cluster.node(next).leader().term, term + 1, "one election, won at once");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_handed_over_passes_on_what_it_is_asked() {
    let cluster = Cluster::start(3).await;
    let leaving = cluster.leader().await;
    cluster.node(leaving).hand_over().await;
    assert!(!cluster.node(leaving).leader().is_self, "it leads on");
    let next = cluster.leader().await;
    assert_ne!(next, leaving);
    let last = propose(cluster.node(leaving), 1).await.unwrap();
    cluster.node(leaving).barrier().await.unwrap();
    assert!(applied(cluster.node(leaving)) >= last, "what it passed on came back");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_told_and_its_id_is_not_used_again() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let removed = cluster.node(follower).node();
    let mut fatal = cluster.node(follower).fatal();
    cluster.node(leader).remove(removed).await.unwrap();
    assert_eq!(cluster.node(leader).members().len(), 2);
    let error =
        tokio::time::timeout(PATIENCE, fatal.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(error.code(), Code::NodeNotFound, "{error}");
    cluster.kill(follower).await;

    let error = cluster.node(leader).remove(removed).await.unwrap_err();
    assert!(error.to_string().contains("not a member"), "{error}");

    cluster.place(|_| {});
    let token = cluster.node(leader).join_token().await.unwrap();
    let node = Node::join(cluster.options[3].clone(), &token).await.unwrap();
    assert_eq!(node.node(), NodeId(4));
    cluster.nodes.push(Some(node));
    cluster.voters(3).await;

    // The leader removes itself too: another one does it.
    let leader = cluster.leader().await;
    let own = cluster.node(leader).node();
    let other = cluster.follower().await;
    cluster.node(leader).remove(own).await.unwrap();
    wait_for("the leader to be gone", async || cluster.node(other).members().iter().all(|member| member.node != own))
        .await;
    cluster.kill(leader).await;
    cluster.voters(2).await;
    propose(cluster.node(other), 5).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_voter_cannot_be_removed() {
    let cluster = Cluster::start(1).await;
    leads(cluster.node(0)).await;
    let error = cluster.node(0).remove(NodeId(1)).await.unwrap_err();
    assert!(error.to_string().contains("last voter"), "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start_with(1, |options| options.snapshot_every = 50).await;
    leads(cluster.node(0)).await;
    let mut last = 0;
    for number in 0..300 {
        last = propose(cluster.node(0), number).await.unwrap();
    }
    wait_for("the log to be purged", async || cluster.node(0).inner.purged() > 0).await;
    cluster.place(|options| options.snapshot_every = 50);
    let token = cluster.node(0).join_token().await.unwrap();
    let node = Node::join(cluster.options[1].clone(), &token).await.unwrap();
    cluster.nodes.push(Some(node));
    cluster.voters(2).await;
    cluster.all_applied(last).await;
    assert_eq!(ledger::read(cluster.node(0), Clone::clone), ledger::read(cluster.node(1), Clone::clone));

    // What came by snapshot survives a restart.
    cluster.kill(1).await;
    cluster.restart(1).await;
    cluster.all_applied(last).await;
    cluster.node(1).barrier().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_survive_two() {
    let mut cluster = Cluster::start(5).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let last = propose(cluster.node(follower), 1).await.unwrap();
    cluster.kill(leader).await;
    cluster.kill(follower).await;
    let next = cluster.leader().await;
    assert!(propose(cluster.node(next), 2).await.unwrap() > last);
    cluster.stop().await;
}
