//! Hosts that die with sandboxes on them: those that want it begin again elsewhere, the others wait, and what comes back does no harm.

use super::{
    acts::{restorable, secretive},
    steps::kill_leader_at,
    world::World,
};
use plimsoll_engine::NewSandbox;
use plimsoll_lifecycle::ports::ContainerState;
use plimsoll_testkit::sim::{HostOp, HostSize, SimHost, host::Moment};
use plimsoll_types::{Generation, Phase, SandboxId};
use std::time::Duration;
use tokio::time::{self, Instant};

/// From a host's death to its sandboxes' new life.
const WITHIN: Duration = Duration::from_secs(90);

/// A sandbox with files in a checkpoint, and its host.
async fn checkpointed(request: NewSandbox) -> (World, SandboxId, SimHost) {
    let world = World::new(1, 3, &[HostSize::Cpx41; 3]).await;
    let id = world.ensure(1, request).await.expect("it runs").sandbox.id;
    world.write_both(id).await;
    let written = world.now();
    let taken = || {
        let state = world.cluster.committed();
        let newest = state.newest_snapshot(id).and_then(|snapshot| snapshot.stored.clone());
        newest.is_some_and(|stored| stored.taken_at > written) && state.sandboxes[&id].work.is_none()
    };
    world.until("a checkpoint of it", taken).await;
    let home = world.home(id);
    (world, id, home)
}

async fn runs_elsewhere(world: &World, id: SandboxId, home: &SimHost) {
    let began = Instant::now();
    world
        .until("it runs elsewhere", || {
            let record = world.record(id);
            record.phase == Phase::Running && record.generation > Generation(1)
        })
        .await;
    assert!(began.elapsed() <= WITHIN, "{:?}", began.elapsed());
    assert_ne!(world.home(id).name(), home.name());
}

/// The copy that was replaced: stopped, renamed, and still there.
fn is_fenced(id: SandboxId, home: &SimHost) -> bool {
    let old = home.containers().into_iter().filter(|found| found.seen.sandbox == Some(id));
    let old: Vec<_> = old.map(|found| found.seen).collect();
    old.len() == 1
        && old.iter().all(|seen| matches!(seen.state, ContainerState::Exited(_)) && seen.name.contains("fenced"))
}

#[tokio::test(start_paused = true)]
async fn it_begins_again_from_its_checkpoint_and_the_old_copy_is_fenced() {
    for off in [true, false] {
        let (world, id, home) = checkpointed(restorable("a", Some(60))).await;
        if off {
            home.power_off()
        } else {
            home.disconnect()
        }
        runs_elsewhere(&world, id, &home).await;
        let restored = world.record(id).restored.expect("it was restored");
        assert!(restored.window.0 <= 70_000, "{restored:?}");
        world.oracle.assert_now();
        world.write_both(id).await;
        home.heal();
        world.until("the old copy is fenced", || is_fenced(id, &home)).await;
        world.settle().await;
        assert!(is_fenced(id, &home), "kept for a while");
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_around_each_step_of_restoring_and_fencing() {
    let steps = [HostOp::Pull, HostOp::CreateContainer, HostOp::StartContainer, HostOp::Files, HostOp::Fence];
    for op in steps {
        for moment in [Moment::Before, Moment::After] {
            let (world, id, home) = checkpointed(restorable("a", Some(60))).await;
            let after_return = op == HostOp::Fence;
            if !after_return {
                kill_leader_at(&world, op, moment);
            }
            home.disconnect();
            world.until("it is lost", || world.record(id).phase != Phase::Running).await;
            world.until("it runs again", || world.record(id).phase == Phase::Running).await;
            home.heal();
            if after_return {
                // Healing drops what is planned on a host.
                kill_leader_at(&world, op, moment);
            }
            world.until("fenced", || is_fenced(id, &home)).await;
            let died = || world.cluster.nodes().iter().any(|node| !world.cluster.is_alive(*node));
            world.until(&format!("{op:?} {moment:?}: the leader dies"), died).await;
            world.settle().await;
            assert_eq!(world.record(id).generation, Generation(2), "{op:?} {moment:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_holds_waits_and_goes_on_with_its_host() {
    for off in [true, false] {
        let world = World::new(2, 3, &[HostSize::Cpx41; 2]).await;
        let id = world.ensure(1, secretive("a")).await.expect("it runs").sandbox.id;
        world.write_both(id).await;
        let home = world.home(id);
        if off {
            home.power_off()
        } else {
            home.disconnect()
        }
        world.until("it is lost", || world.record(id).phase == Phase::Lost).await;
        time::sleep(Duration::from_secs(600)).await;
        assert_eq!(world.record(id).phase, Phase::Lost);
        home.heal();
        world.until("it runs", || world.record(id).phase == Phase::Running).await;
        assert_eq!(world.record(id).generation, Generation::FIRST);
        world.settle().await;
        world.write_both(id).await;
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_without_a_checkpoint_waits_as_well() {
    let world = World::new(3, 3, &[HostSize::Cpx41; 2]).await;
    let id = world.ensure(1, restorable("a", None)).await.expect("it runs").sandbox.id;
    world.write_both(id).await;
    let home = world.home(id);
    home.disconnect();
    world.until("it is lost", || world.record(id).phase == Phase::Lost).await;
    time::sleep(Duration::from_secs(300)).await;
    let record = world.record(id);
    assert!(record.phase == Phase::Lost && record.reason.contains("no snapshot"), "{}", record.reason);
    home.heal();
    world.settle().await;
    assert_eq!(world.record(id).generation, Generation::FIRST);
}

/// The host that something happens to while a migration is at each of its steps.
async fn break_in_the_middle(source: bool, op: HostOp, moment: Moment) {
    let what = format!("{} dies at {op:?} {moment:?}", if source { "the source" } else { "the target" });
    let (world, id, home) = checkpointed(restorable("a", Some(60))).await;
    let target = world.fleet.hosts().into_iter().find(|host| host.name() != home.name()).expect("another");
    let dying = if source { home.clone() } else { target.clone() };
    for host in world.fleet.hosts() {
        let dying = dying.clone();
        host.hook(op, moment, move || dying.disconnect());
    }
    let answer = world.migrate(1, id, Some(target.name())).await;
    world.note(format!("{what}: {answer:?}"));
    time::sleep(Duration::from_secs(120)).await;
    world.oracle.assert_now();
    let record = world.record(id);
    assert_eq!(record.phase, Phase::Running, "{what}: {answer:?} {record:?}");
    assert_ne!(world.home(id).name(), dying.name(), "{what}");
    world.settle().await;
    assert_eq!(world.record(id).phase, Phase::Running, "{what}");
}

#[tokio::test(start_paused = true)]
async fn either_host_dies_in_the_middle_of_a_migration() {
    let here = [HostOp::Freeze, HostOp::Commit, HostOp::Push];
    let there = [HostOp::Pull, HostOp::CreateContainer, HostOp::StartContainer];
    for moment in [Moment::Before, Moment::After] {
        for op in here.into_iter().chain(there) {
            break_in_the_middle(true, op, moment).await;
        }
        for op in there {
            break_in_the_middle(false, op, moment).await;
        }
    }
}
