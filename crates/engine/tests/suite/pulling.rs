//! Images that take long: a pull has time of its own, and nobody else waits for it.

use crate::world::{LONG, World, image, request};
use plimsoll_engine::{SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::{Clock, HostFailure};
use plimsoll_testkit::{
    sim::{HostOp, HostSize, Mishap, When},
    wait::wait_for,
};
use plimsoll_types::{Code, Generation, NodeId, Phase, Timestamp};
use std::time::Duration;

const CREATE_BUDGET: Duration = Duration::from_secs(180);
const SLOW: Duration = Duration::from_secs(500);

async fn until_pulling(world: &World) {
    let asked = || async { world.host("h0").calls(HostOp::EnsureImage) == 1 };
    wait_for("the pull", LONG, asked).await.expect("a pull");
}

fn seconds_since(world: &World, then: Timestamp) -> u64 {
    world.clock.now().since(then).0 / 1000
}

#[tokio::test(start_paused = true)]
async fn a_pull_beyond_the_create_budget_ends_in_a_running_sandbox() {
    // With all of them at once, those whose turn comes later wait as long; and a hiccup after the pull is forgiven.
    let world = World::new(&[HostSize::Cpx51]).await;
    let host = world.host("h0");
    host.fault(HostOp::EnsureImage, Mishap::Slow(SLOW), When::Next(4));
    host.fault(HostOp::StartContainer, Mishap::FailBefore(HostFailure::Transient), When::Next(2));
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..8 {
        let provider = world.provider();
        asking.spawn(async move { provider.ensure(request(&format!("s{i}")), Wait::Upto(LONG)).await });
    }
    for answer in asking.join_all().await {
        let made = answer.expect("a sandbox").sandbox;
        assert_eq!((made.phase, made.generation), (Phase::Running, Generation::FIRST));
        assert!(seconds_since(&world, made.created_at) >= SLOW.as_secs());
    }
    assert_eq!(host.calls(HostOp::EnsureImage), 8, "none was begun twice");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_with_a_long_pull() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.fault(HostOp::EnsureImage, Mishap::Slow(SLOW), When::Next(1));
    let provider = world.providers[&NodeId(2)].clone();
    let made = provider.create(request("s1"), Wait::No).await.expect("accepted").sandbox;
    until_pulling(&world).await;
    tokio::time::sleep(CREATE_BUDGET * 2).await;
    world.cluster.kill(NodeId(1));
    world.until_phase(made.id, Phase::Running).await;
    assert_eq!(host.effects(HostOp::StartContainer), 1);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_during_a_pull_is_left_for_another() {
    let world = World::new(&[HostSize::Cpx31]).await;
    world.host("h0").fault(HostOp::EnsureImage, Mishap::Slow(SLOW), When::Always);
    let made = world.provider().create(request("s1"), Wait::No).await.expect("accepted").sandbox;
    until_pulling(&world).await;
    world.add(&world.fleet.add("h1", HostSize::Cpx31)).await.expect("a host");
    tokio::time::sleep(CREATE_BUDGET * 2).await;
    world.host("h0").disconnect();
    world.until_phase(made.id, Phase::Running).await;
    assert_eq!(world.sandbox(made.id).generation, Generation(2));
    assert_eq!(world.host("h1").containers().len(), 1);
    world.fleet.heal();
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_a_sandbox_does_not_wait_for_its_image() {
    let world = World::new(&[HostSize::Cpx31]).await;
    world.host("h0").fault(HostOp::EnsureImage, Mishap::Slow(SLOW), When::Next(1));
    let made = world.provider().create(request("s1"), Wait::No).await.expect("accepted").sandbox;
    until_pulling(&world).await;
    let asked = world.clock.now();
    world.provider().terminate(&Scope::All, made.id, Wait::Upto(LONG)).await.expect("gone");
    assert!(seconds_since(&world, asked) < 30, "{} s", seconds_since(&world, asked));
    let host = world.host("h0");
    assert!(host.containers().is_empty() && host.volumes().is_empty());
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_never_ends_fails_in_time_and_says_so() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.fault(HostOp::EnsureImage, Mishap::Hang, When::Always);
    let error = world.ensure("s1").await.expect_err("no image");
    assert_eq!(error.code, Code::Timeout, "{error}");
    let failed = world.sandbox(error.sandbox.expect("its id"));
    let took = failed.phase_since.since(failed.created_at).0 / 1000;
    assert!((780..820).contains(&took), "{took} s");
    world.fleet.heal();
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn time_that_a_pull_took_is_not_lent_to_what_comes_after() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.fault(HostOp::EnsureImage, Mishap::Slow(Duration::from_secs(100)), When::Next(1));
    host.fault(HostOp::StartContainer, Mishap::Unreachable, When::Always);
    let error = world.ensure("s1").await.expect_err("it does not start");
    let failed = world.sandbox(error.sandbox.expect("its id"));
    let took = failed.phase_since.since(failed.created_at).0 / 1000;
    assert!((280..310).contains(&took), "{took} s: {error}");
    world.fleet.heal();
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_fails_at_once_gives_its_room_back_only_when_nothing_is_left() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.set_start_fails(Some(HostFailure::Permanent));
    // Clearing up does not succeed at first either.
    host.fault(HostOp::RemoveContainer, Mishap::FailBefore(HostFailure::Transient), When::Next(3));
    let made = world.provider().create(request("s1"), Wait::No).await.expect("accepted").sandbox;
    world.until_phase(made.id, Phase::Failed).await;
    let free = |state: &plimsoll_state::State| state.hosts.values().all(|host| host.sandboxes == 0);
    assert!(!host.containers().is_empty() && !free(&world.state()), "{image} is still there", image = image());
    world.until("room", free).await;
    assert!(host.containers().is_empty() && host.volumes().is_empty());
    world.assert_settled().await;
}
