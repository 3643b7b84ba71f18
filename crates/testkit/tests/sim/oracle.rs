//! The oracle finds what it is there to find.

use super::host::{plan, target};
use plimsoll_lifecycle::ports::{Dial, HostDriver, Ledger};
use plimsoll_state::{
    Command, Outcome, Policy,
    command::{AddHost, InitCluster},
};
use plimsoll_testkit::sim::{HostSize, Oracle, SimClock, SimCluster, SimFleet, SimHost};
use plimsoll_types::{
    ClusterId, HostName, Identity, Labels, NodeId, PublishAddress, SandboxId, SessionId, TenantId, Timestamp,
};
use std::sync::Arc;

struct Stage {
    fleet: SimFleet,
    hosts: Vec<SimHost>,
    oracle: Oracle,
}

async fn stage() -> Stage {
    let cluster = SimCluster::new(3, 1);
    let fleet = SimFleet::new(1, SimClock::new());
    let ledger = cluster.ledger(NodeId(1));
    let init = InitCluster { cluster: ClusterId::from_parts(1, 1), policy: Policy::default(), at: Timestamp(1) };
    ledger.propose(Command::InitCluster(init)).await.expect("committed");
    let mut hosts = Vec::new();
    for name in ["h1", "h2"] {
        let host = fleet.add(name, HostSize::Cpx31);
        let add = AddHost {
            name: HostName::new(name).expect("a name"),
            address: host.address().clone(),
            identity: Identity::NodeDefault,
            host_key: Some(host.key()),
            labels: Labels::new(),
            price_milli_per_hour: 0,
            publish: PublishAddress::default(),
            advertise: None,
            facts: host.facts(),
            at: Timestamp(2),
        };
        let applied = ledger.propose(Command::AddHost(Box::new(add))).await.expect("committed");
        assert!(matches!(applied.outcome, Outcome::HostAdded(_)), "{applied:?}");
        hosts.push(host);
    }
    let oracle = Oracle::new(&cluster, &fleet);
    oracle.assert_settled();
    Stage { fleet, hosts, oracle }
}

impl Stage {
    fn driver(&self, host: usize) -> Arc<dyn HostDriver> {
        self.fleet.any_dialer().dial(&target(&self.hosts[host]))
    }

    async fn run_on(&self, host: usize, generation: u64) {
        let driver = self.driver(host);
        let plan = plan(1, 1, generation);
        driver.ensure_image(&plan.image).await.expect("an image");
        let seen = driver.create_container(&plan).await.expect("created");
        driver.start_container(&seen.id).await.expect("runs");
    }

    fn broken(&self) -> String {
        let found = self.oracle.judge_settled();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(start_paused = true)]
async fn it_finds_what_nobody_owns() {
    let stage = stage().await;
    stage.run_on(0, 1).await;
    let broken = stage.broken();
    for thing in ["container shadow-session-a on h1", "volume shadow-session-a-workspace", "folder /data/a"] {
        assert!(broken.contains(thing), "{thing} in {broken}");
    }
    assert!(broken.contains("committed is None"), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn it_finds_what_runs_twice_even_after_the_fact() {
    let stage = stage().await;
    stage.run_on(0, 1).await;
    stage.run_on(1, 1).await;
    for host in &stage.hosts {
        for found in host.containers() {
            host.lose_container(&found.seen.id);
        }
    }
    let broken = stage.broken();
    assert!(broken.contains("while generation 1 ran on h1") && broken.contains("ran on h1 and h2"), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn it_finds_a_lost_promise_and_a_touched_stranger() {
    let stage = stage().await;
    let (tenant, session) = (TenantId::default_tenant(), SessionId::new("a").expect("a session"));
    let stranger = stage.hosts[0].add_foreign("nginx", None);
    stage.oracle.foreign(&stage.hosts[0], &stranger);
    stage.oracle.assert_settled();
    stage.hosts[0].lose_container(&stranger);
    stage.oracle.acknowledged(SandboxId::from_parts(1, 1), &tenant, &session, Some("k"));
    stage.oracle.acknowledged(SandboxId::from_parts(2, 1), &tenant, &session, Some("k"));
    let broken = stage.broken();
    for part in ["was acknowledged and is gone", "was touched", "key k was answered with"] {
        assert!(broken.contains(part), "{part} in {broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_ran_at_once_are_found_and_a_frozen_one_is_none() {
    let stage = stage().await;
    stage.run_on(0, 1).await;
    let first = stage.hosts[0].containers()[0].seen.id.clone();
    let driver = stage.driver(0);
    driver.freeze(&first).await.expect("still");
    stage.run_on(1, 2).await;
    assert!(!stage.broken().contains("while"), "the first stands still");
    driver.thaw(&first).await.expect("goes on");
    let broken = stage.broken();
    assert!(broken.contains("began at generation 1 on h1 while generation 2 ran on h2"), "{broken}");
}
