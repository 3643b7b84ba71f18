//! A registry that is away, full, slow, breaks off or loses what it had; hosts without room for an image.

use super::{
    acts::secretive,
    world::{World, sandbox},
};
use plimsoll_engine::SandboxProvider;
use plimsoll_testkit::sim::{HostSize, SimRegistry};
use plimsoll_types::{Code, Generation, Phase, SandboxId};
use std::time::Duration;

async fn world() -> (World, SandboxId, SimRegistry) {
    let world = World::new(1, 3, &[HostSize::Cpx41; 2]).await;
    let id = world.ensure(1, secretive("a")).await.expect("it runs").sandbox.id;
    world.write_both(id).await;
    let registry = world.fleet.registry();
    (world, id, registry)
}

/// The sandbox runs on as it was, and says why.
fn runs_on(world: &World, id: SandboxId, code: Code) {
    let record = world.record(id);
    assert_eq!((record.phase, record.generation), (Phase::Running, Generation::FIRST), "{}", record.reason);
    let trouble = record.trouble.as_ref().expect("it says why");
    assert!(trouble.reason.starts_with(code.as_str()), "{}", trouble.reason);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_or_full_leaves_every_sandbox_as_it_was() {
    for full in [false, true] {
        let (world, id, registry) = world().await;
        let code = if full { Code::RegistryFull } else { Code::RegistryUnreachable };
        if full {
            registry.set_full(true)
        } else {
            registry.set_down(true)
        }
        assert_eq!(world.pause(1, id).await.expect_err("no registry").code, code);
        runs_on(&world, id, code);
        assert_eq!(world.migrate(1, id, None).await.expect_err("no registry").code, code);
        runs_on(&world, id, code);
        assert_eq!(world.snapshot(1, id, None).await.expect_err("no registry").code, code);
        runs_on(&world, id, code);
        world.write_both(id).await;
        world.settle().await;
        world.pause(1, id).await.expect("it is back");
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_breaks_off_is_pushed_again() {
    let (world, id, registry) = world().await;
    registry.break_pushes(1);
    world.pause(1, id).await.expect("paused");
    world.settle().await;
    registry.break_pushes(1);
    world.resume(1, id, None).await.expect("resumed");
    world.migrate(1, id, None).await.expect("moved");
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_registry_is_waited_for() {
    let (world, id, registry) = world().await;
    registry.set_slow(Duration::from_secs(60));
    world.migrate(1, id, None).await.expect("moved");
    let moved = world.record(id).moved.clone().expect("it moved");
    assert!(moved.downtime.0 >= 120_000, "{moved:?}");
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_the_registry_lost_is_named_and_its_sandbox_stays_paused() {
    let (world, id, registry) = world().await;
    world.pause(1, id).await.expect("paused");
    let base = world.record(id).base.expect("a snapshot");
    let there = if other_than_taken(&world, base) == "h1" { "h1" } else { "h2" };
    registry.lose(base);
    let error = world.resume(1, id, Some(there)).await.expect_err("it is gone");
    assert_eq!(error.code, Code::ImageNotFound, "{error}");
    world.until("paused again", || world.record(id).phase == Phase::Paused).await;
    assert!(world.is_nowhere(id));
    // The host it was taken on still has a copy.
    let back = if there == "h1" { "h2" } else { "h1" };
    world.resume(1, id, Some(back)).await.expect("resumed");
    world.settle().await;
}

fn other_than_taken(world: &World, snapshot: plimsoll_types::SnapshotId) -> &'static str {
    let state = world.cluster.committed();
    let taken_on = state.snapshots[&snapshot].stored.as_ref().expect("it is somewhere").host;
    if state.hosts[&taken_on].name.as_str() == "h1" { "h2" } else { "h1" }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_on_either_side_leaves_the_sandbox_as_it_was() {
    for source in [true, false] {
        let (world, id, _) = world().await;
        let home = world.home(id);
        let other = world.fleet.hosts().into_iter().find(|host| host.name() != home.name()).expect("another");
        let full = if source { &home } else { &other };
        let filled = full.clone();
        // In the middle: the placer would not choose a host that is full already.
        let op = plimsoll_testkit::sim::HostOp::Freeze;
        home.hook(op, plimsoll_testkit::sim::host::Moment::After, move || filled.set_disk_full(true));
        let error = world.migrate(1, id, Some(other.name())).await.expect_err("no room");
        assert_eq!(error.code, Code::HostFull, "{error}");
        runs_on(&world, id, Code::HostFull);
        world.settle().await;
        world.migrate(1, id, Some(other.name())).await.expect("moved");
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_sandbox_starts_from_a_snapshot_which_is_not_deleted_under_it() {
    let (world, id, _) = world().await;
    let kept = world.snapshot(1, id, Some("kept")).await.expect("taken");
    let mut request = sandbox("b");
    request.spec.snapshot = Some(kept.id);
    let second = world.ensure(1, request).await.expect("it runs").sandbox;
    let container = second.container.as_deref().expect("a container");
    assert_eq!(world.home(second.id).file(container, "/workspace/n1").as_deref(), Some("1"));
    assert_eq!(world.home(second.id).file(container, "/opt/n2").as_deref(), Some("2"));
    let scope = plimsoll_engine::Scope::All;
    let delete = async |world: &World| world.call(1, async |it| it.delete_snapshot(&scope, kept.id).await).await;
    assert_eq!(delete(&world).await.expect_err("in use").code, Code::SnapshotInUse);
    world.terminate(1, second.id, plimsoll_engine::Wait::No).await.expect("accepted");
    world.settle().await;
    delete(&world).await.expect("deleted");
    world.settle().await;
    assert!(world.fleet.registry().tags().is_empty());
}
