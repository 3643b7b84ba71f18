//! The in-memory control plane: proposals, mishaps, leadership and lag.

use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::ports::{LeaderHandler, Ledger, LedgerError, ledger::read};
use plimsoll_state::{
    Command, Outcome, Policy,
    command::{InitCluster, SetPolicy},
};
use plimsoll_testkit::sim::{LedgerFaults, SimCluster};
use plimsoll_types::{ClusterId, NodeId, Timestamp};
use std::{sync::Arc, time::Duration};

fn init() -> Command {
    let policy = Policy::default();
    Command::InitCluster(InitCluster { cluster: ClusterId::from_parts(1, 1), policy, at: Timestamp(1) })
}

fn queue_limit(limit: u32) -> Command {
    let policy = Policy { queue_limit: limit, ..Policy::default() };
    Command::SetPolicy(SetPolicy { policy, expected: None, at: Timestamp(2) })
}

async fn ready(seed: u64) -> SimCluster {
    let cluster = SimCluster::new(3, seed);
    let applied = cluster.ledger(NodeId(1)).propose(init()).await.expect("a healthy cluster");
    assert_eq!(applied.outcome, Outcome::Done);
    cluster
}

fn limit_at(ledger: &impl Ledger) -> u32 {
    read(ledger, |state| state.policy.queue_limit)
}

#[tokio::test(start_paused = true)]
async fn a_proposal_on_a_follower_is_applied_there_when_it_returns() {
    let cluster = ready(1).await;
    cluster.set_lag(NodeId(3), Duration::from_secs(2));
    let follower = cluster.ledger(NodeId(3));
    follower.propose(queue_limit(7)).await.expect("committed");
    assert_eq!(limit_at(&*follower), 7, "a read that follows sees it");
}

#[tokio::test(start_paused = true)]
async fn a_lagging_follower_is_behind_until_its_barrier() {
    let cluster = ready(2).await;
    cluster.set_lag(NodeId(2), Duration::from_secs(1));
    cluster.ledger(NodeId(1)).propose(queue_limit(7)).await.expect("committed");
    let follower = cluster.ledger(NodeId(2));
    assert_ne!(limit_at(&*follower), 7);
    follower.barrier().await.expect("a quorum");
    assert_eq!(limit_at(&*follower), 7);
}

#[tokio::test(start_paused = true)]
async fn proposals_that_fail_are_lost_or_commit_all_the_same() {
    let cluster = ready(3).await;
    let ledger = cluster.ledger(NodeId(1));
    cluster.set_faults(LedgerFaults { lost_permille: 1000, ..LedgerFaults::default() });
    assert!(matches!(ledger.propose(queue_limit(1)).await, Err(LedgerError::NoQuorum(_))));
    assert_ne!(limit_at(&*ledger), 1, "lost");

    cluster.set_faults(LedgerFaults { answer_lost_permille: 1000, ..LedgerFaults::default() });
    assert!(ledger.propose(queue_limit(2)).await.is_err());
    assert_eq!(limit_at(&*ledger), 2, "committed, answer lost");

    cluster.set_faults(LedgerFaults { late_permille: 1000, ..LedgerFaults::default() });
    let seen = ledger.changed(0).await;
    assert!(ledger.propose(queue_limit(3)).await.is_err());
    assert_eq!(limit_at(&*ledger), 2, "not yet");
    ledger.changed(seen).await;
    assert_eq!(limit_at(&*ledger), 3, "late");
}

#[tokio::test(start_paused = true)]
async fn leaders_change_and_views_follow() {
    let cluster = ready(4).await;
    let ledger = cluster.ledger(NodeId(2));
    let before = ledger.leader();
    assert_eq!((before.leader, before.is_self), (Some(NodeId(1)), false));
    cluster.elect(NodeId(2));
    let after = ledger.leader_changed(before).await;
    assert!(after.is_self && after.term == before.term + 1);

    cluster.kill(NodeId(2));
    let witness = cluster.ledger(NodeId(3));
    let mut view = witness.leader();
    while view.leader.is_none() {
        view = witness.leader_changed(view).await;
    }
    assert_ne!(view.leader, Some(NodeId(2)));
    witness.propose(queue_limit(5)).await.expect("two of three are a quorum");

    cluster.kill(NodeId(1));
    assert!(matches!(witness.propose(queue_limit(6)).await, Err(LedgerError::NoQuorum(_))));
    let revived = cluster.revive(NodeId(1));
    revived.propose(queue_limit(8)).await.expect("a quorum again");
    assert_eq!(limit_at(&*revived), 8);
}

#[tokio::test(start_paused = true)]
async fn an_isolated_leader_learns_of_it_late_and_commits_nothing() {
    let cluster = ready(5).await;
    let old = cluster.ledger(NodeId(1));
    cluster.isolate(NodeId(1));
    assert!(old.leader().is_self, "it still believes");
    assert!(old.propose(queue_limit(5)).await.is_err());
    assert!(!old.leader().is_self, "its lease is over");
    let new = cluster.ledger(NodeId(2));
    new.propose(queue_limit(6)).await.expect("the others go on");
    assert_ne!(limit_at(&*old), 6);
    cluster.heal();
    assert_eq!(limit_at(&*old), 6);
}

#[tokio::test(start_paused = true)]
async fn a_killed_nodes_calls_never_return() {
    let cluster = ready(6).await;
    let dead = cluster.ledger(NodeId(1));
    cluster.kill(NodeId(1));
    assert!(tokio::time::timeout(Duration::from_secs(3600), dead.propose(queue_limit(5))).await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(3600), dead.changed(0)).await.is_err());
}

struct Echo(NodeId);

#[async_trait]
impl LeaderHandler for Echo {
    async fn answer(&self, question: Bytes) -> Bytes {
        Bytes::from(format!("{} says {}", self.0, String::from_utf8_lossy(&question)))
    }
}

#[tokio::test(start_paused = true)]
async fn questions_go_to_whoever_leads() {
    let cluster = ready(7).await;
    for ledger in cluster.ledgers() {
        ledger.serve_leader(Arc::new(Echo(ledger.node())));
    }
    let asker = cluster.ledger(NodeId(3));
    assert_eq!(asker.ask_leader(Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"1 says hi")));
    cluster.elect(NodeId(2));
    assert_eq!(asker.ask_leader(Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"2 says hi")));
    cluster.set_elections(false);
    cluster.kill(NodeId(2));
    let answer = asker.ask_leader(Bytes::from_static(b"hi")).await;
    assert!(matches!(answer, Err(LedgerError::NoQuorum(_))), "{answer:?}");
}
