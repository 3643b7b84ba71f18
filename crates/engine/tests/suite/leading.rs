//! Leaders change at any moment; the work goes on and is done once.

use crate::world::{LONG, World, request};
use plimsoll_engine::{SandboxProvider, Wait};
use plimsoll_testkit::sim::{HostOp, HostSize, LedgerFaults, Moment};
use plimsoll_types::{NodeId, Phase, SessionId, TenantId};

#[tokio::test(start_paused = true)]
async fn a_leader_killed_at_any_step_of_a_create_is_replaced_and_the_create_finishes_once() {
    for op in [HostOp::EnsureImage, HostOp::CreateContainer, HostOp::StartContainer] {
        for moment in [Moment::Before, Moment::After] {
            let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
            let cluster = world.cluster.clone();
            world.host("h0").hook(op, moment, move || cluster.kill(NodeId(1)));
            let provider = world.providers[&NodeId(2)].clone();
            let made = provider.ensure(request("s1"), Wait::Upto(LONG)).await;
            let made = made.unwrap_or_else(|error| panic!("{op:?} {moment:?}: {error}"));
            assert_eq!(made.sandbox.phase, Phase::Running);
            assert!(!world.cluster.is_alive(NodeId(1)));
            assert_eq!(world.host("h0").effects(HostOp::StartContainer), 1, "{op:?} {moment:?}");
            world.assert_settled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_killed_at_any_step_of_a_takedown_leaves_nothing_behind() {
    for op in [HostOp::RemoveContainer, HostOp::RemoveWorkspace] {
        for moment in [Moment::Before, Moment::After] {
            let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
            let made = world.ensure("s1").await.expect("a sandbox");
            let cluster = world.cluster.clone();
            world.host("h0").hook(op, moment, move || cluster.kill(NodeId(1)));
            let provider = world.providers[&NodeId(2)].clone();
            let all = plimsoll_engine::Scope::All;
            provider.terminate(&all, made.sandbox.id, Wait::Upto(LONG)).await.expect("terminates");
            let host = world.host("h0");
            assert!(host.containers().is_empty() && host.volumes().is_empty(), "{op:?} {moment:?}");
            world.assert_settled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_creates_survive_the_loss_of_the_leader_and_run_once_each() {
    let mut world = World::with_nodes(3, &[HostSize::Cpx51, HostSize::Cpx51]).await;
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..10 {
        let provider = world.providers[&NodeId(2 + i % 2)].clone();
        asking.spawn(async move { provider.ensure(request(&format!("s{i}")), Wait::Upto(LONG)).await });
    }
    world.until("a first one", |state| state.in_phase(Phase::Starting).next().is_some()).await;
    world.cluster.kill(NodeId(1));
    for answer in asking.join_all().await {
        answer.expect("runs all the same");
    }
    assert_eq!(world.running(), 10);
    assert!(world.fleet.journal(|journal| journal.doubled().is_empty()));
    world.cluster.revive(NodeId(1));
    world.start(NodeId(1));
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_make_nothing_twice() {
    let world = World::with_nodes(3, &[HostSize::Cpx51]).await;
    world.cluster.set_faults(LedgerFaults {
        lost_permille: 100,
        answer_lost_permille: 150,
        late_permille: 100,
        question_lost_permille: 200,
        lag_ms: 50,
    });
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..6 {
        let provider = world.providers[&NodeId(1 + i % 3)].clone();
        asking.spawn(async move { provider.ensure(request(&format!("s{i}")), Wait::Upto(LONG)).await });
    }
    asking.join_all().await;
    world.cluster.heal();
    for i in 0..6 {
        world.ensure(&format!("s{i}")).await.expect("once all is well");
    }
    world.assert_settled().await;
    let state = world.state();
    for i in 0..6 {
        let session = SessionId::new(&format!("s{i}")).expect("a session");
        assert!(state.live_sandbox(&TenantId::default_tenant(), &session).is_some());
    }
    assert_eq!(world.running(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_follower_answers_like_the_leader() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    let follower = world.providers[&NodeId(3)].clone();
    let made = follower.ensure(request("s1"), Wait::Upto(LONG)).await.expect("through the leader");
    assert_eq!(made.sandbox.phase, Phase::Running);
    let measured = || async {
        let hosts = plimsoll_engine::ClusterOperations::hosts(follower.as_ref()).await.expect("hosts");
        hosts[0].load
    };
    plimsoll_testkit::wait::wait_for("the leader's measurements", LONG, measured).await.expect("through the leader");
    assert!(follower.health().await.expect("healthy"));
}
