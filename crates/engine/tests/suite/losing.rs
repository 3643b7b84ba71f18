//! Hosts are lost: what wants to be restored runs elsewhere within 90 s, what wants to wait waits, and what comes back is one copy.

use crate::{
    outliving::{read, write},
    world::{LONG, World, request},
};
use plimsoll_engine::{ClusterOperations, NewSandbox, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::Clock;
use plimsoll_state::Sandbox;
use plimsoll_testkit::sim::{HostSize, SimHost};
use plimsoll_types::{HostLossPolicy, Millis, Phase};
use std::sync::Arc;

fn restored(session: &str) -> NewSandbox {
    let mut request = request(session);
    request.spec.on_host_loss = HostLossPolicy::Restore;
    request.spec.checkpoint_every = Some(Millis::secs(60));
    request
}

fn host_of(world: &World, sandbox: &Sandbox) -> SimHost {
    let host = sandbox.assignment.expect("a host").host;
    world.host(world.state().hosts[&host].name.as_str())
}

async fn checkpointed(world: &World, sandbox: &Arc<Sandbox>) {
    let id = sandbox.id;
    world.until("a checkpoint", |state| state.newest_snapshot(id).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_it_runs_elsewhere_within_ninety_seconds() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let made = world.create(restored("s1")).await.expect("a sandbox").sandbox;
    write(&world, made.id, "saved").await;
    checkpointed(&world, &made).await;
    let host = host_of(&world, &made);
    let died = world.clock.now();
    host.power_off();
    world
        .until("another incarnation", |state| {
            let now = &state.sandboxes[&made.id];
            now.phase == Phase::Running && now.generation > made.generation
        })
        .await;
    let took = world.clock.now().since(died);
    assert!(took <= Millis::secs(90), "{took:?}");
    let now = world.sandbox(made.id);
    let window = now.restored.expect("says what is gone").window;
    assert!(window <= Millis::secs(70), "{window:?}");
    assert_eq!(read(&world, made.id).await, "saved");
    host.heal();
    world.assert_settled().await;
    assert_eq!(world.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_room_it_says_so_and_is_restored_when_there_is_some() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let made = world.create(restored("s1")).await.expect("a sandbox").sandbox;
    checkpointed(&world, &made).await;
    let host = host_of(&world, &made);
    let other = world.state().hosts.values().find(|it| it.name.as_str() != host.name()).expect("another").id;
    world.provider().cordon(other, Some("kept free")).await.expect("cordons");
    host.power_off();
    world.until("a reason", |state| state.sandboxes[&made.id].reason.contains("no room to restore it")).await;
    assert_eq!(world.sandbox(made.id).phase, Phase::Lost);
    world.provider().cordon(other, None).await.expect("uncordons");
    world.until_phase(made.id, Phase::Running).await;
    assert_eq!(world.sandbox(made.id).assignment.map(|at| at.host), Some(other));
}

#[tokio::test(start_paused = true)]
async fn what_waits_comes_back_with_its_host() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox").sandbox;
    write(&world, made.id, "here").await;
    let host = host_of(&world, &made);
    host.power_off();
    world.until("a reason", |state| state.sandboxes[&made.id].reason.contains("waits for the host")).await;
    host.heal();
    let back = world.provider().ensure(request("s1"), Wait::Upto(LONG)).await.expect("it is back");
    assert!(back.sandbox.id == made.id && back.recovered && back.sandbox.generation == made.generation);
    assert_eq!(read(&world, made.id).await, "here");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_whose_snapshot_is_safe_is_done_though_its_host_is_lost() {
    use plimsoll_testkit::sim::{HostOp, Moment};
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox").sandbox;
    write(&world, made.id, "safe").await;
    let host = host_of(&world, &made);
    let dying = host.clone();
    host.hook(HostOp::RemoveContainer, Moment::Before, move || dying.power_off());
    world.provider().pause(&Scope::All, made.id, Wait::Upto(LONG)).await.expect("paused");
    assert_eq!(read(&world, made.id).await, "safe");
    host.heal();
    world.assert_settled().await;
    assert_eq!(world.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_taken_in_time_and_the_last_few_are_kept() {
    let world = World::new(&[HostSize::Cpx41]).await;
    let made = world.create(restored("s1")).await.expect("a sandbox").sandbox;
    let other = world.create(restored("s2")).await.expect("a sandbox").sandbox;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    for id in [made.id, other.id] {
        let newest = world.provider().latest_snapshot(&Scope::All, id).await.expect("answers").expect("one");
        let age = world.clock.now().since(newest.stored.as_ref().expect("stored").taken_at);
        assert!(age <= Millis::secs(75), "{age:?}");
    }
    world.until("old ones to go", |state| state.snapshots_of(made.id).count() <= 4).await;
    assert!(world.provider().gauges().contains("plimsoll_checkpoint_age_seconds_max "));
    world.assert_settled().await;
}
