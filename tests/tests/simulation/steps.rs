//! Each host step of create and terminate with each mishap: the leader dies before or after it, it is done twice, its answer is lost,
//! it hangs. Every time the sandbox ends up running in exactly one container, or gone without a trace.

use super::world::{World, sandbox};
use plimsoll_engine::Wait;
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, LedgerFaults, Mishap, When, host::Moment};
use plimsoll_types::{Generation, Phase};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const CREATE: [HostOp; 3] = [HostOp::EnsureImage, HostOp::CreateContainer, HostOp::StartContainer];
const TERMINATE: [HostOp; 3] = [HostOp::ListContainers, HostOp::RemoveContainer, HostOp::RemoveWorkspace];
const SIZES: [HostSize; 2] = [HostSize::Cpx31, HostSize::Cpx41];

/// The next such moment on any host kills the leader, once.
pub(crate) fn kill_leader_at(world: &World, op: HostOp, moment: Moment) {
    let done = Arc::new(AtomicBool::new(false));
    for host in world.fleet.hosts() {
        let (world, done) = (world.clone(), Arc::clone(&done));
        host.hook(op, moment, move || {
            if !done.swap(true, Ordering::SeqCst) {
                world.kill_leader();
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_around_each_step_of_create() {
    for op in CREATE {
        for moment in [Moment::Before, Moment::After] {
            let world = World::new(1, 3, &SIZES).await;
            kill_leader_at(&world, op, moment);
            let asked = usize::from(world.follower() != plimsoll_types::NodeId(1));
            let made =
                world.ensure(asked, sandbox("a")).await.unwrap_or_else(|error| panic!("{op:?} {moment:?}: {error}"));
            assert_eq!(made.sandbox.generation, Generation::FIRST, "{op:?} {moment:?}");
            assert_eq!((world.starts(), world.effects(HostOp::CreateContainer)), (1, 1), "{op:?} {moment:?}");
            world.settle().await;
            assert_eq!(world.in_phase(Phase::Running).len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_around_each_step_of_terminate() {
    for op in TERMINATE {
        for moment in [Moment::Before, Moment::After] {
            let world = World::new(2, 3, &SIZES).await;
            let made = world.ensure(1, sandbox("a")).await.expect("it runs");
            kill_leader_at(&world, op, moment);
            let wait = Wait::Upto(Duration::from_secs(120));
            world
                .terminate(1, made.sandbox.id, wait)
                .await
                .unwrap_or_else(|error| panic!("{op:?} {moment:?}: {error}"));
            world.settle().await;
            assert_eq!(world.in_phase(Phase::Terminated).len(), 1);
            assert!(world.fleet.hosts().iter().all(|host| host.containers().is_empty() && host.volumes().is_empty()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_done_twice_is_done_once() {
    for mishap in [Mishap::Twice, Mishap::FailAfter] {
        for op in CREATE.into_iter().chain(TERMINATE) {
            let world = World::new(3, 3, &SIZES).await;
            for host in world.fleet.hosts() {
                host.fault(op, mishap, When::Next(1));
            }
            let made = world.ensure(1, sandbox("a")).await.unwrap_or_else(|error| panic!("{op:?} {mishap:?}: {error}"));
            assert_eq!((world.starts(), world.effects(HostOp::CreateContainer)), (1, 1), "{op:?} {mishap:?}");
            let wait = Wait::Upto(Duration::from_secs(120));
            world
                .terminate(1, made.sandbox.id, wait)
                .await
                .unwrap_or_else(|error| panic!("{op:?} {mishap:?}: {error}"));
            world.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_done_late_and_still_once() {
    for op in CREATE.into_iter().chain(TERMINATE) {
        let world = World::new(4, 3, &SIZES).await;
        for host in world.fleet.hosts() {
            host.fault(op, Mishap::Hang, When::Next(1));
        }
        // It may run late (a pull may take longer than this waits), elsewhere, or fail in time; what must not happen is a second
        // copy or a leak.
        let made = world.ensure(1, sandbox("a")).await;
        world.kill_leader();
        world.settle().await;
        if let Some(id) = made.map_or_else(|error| error.sandbox, |made| Some(made.sandbox.id)) {
            world.terminate(1, id, Wait::No).await.expect("accepted");
        }
        world.settle().await;
        assert!(world.in_phase(Phase::Running).is_empty(), "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_do_a_step_is_left_for_another() {
    for op in CREATE {
        let world = World::new(5, 3, &SIZES).await;
        // The larger machine is the less loaded one after placing, so it is tried first.
        world.host(1).fault(op, Mishap::FailBefore(HostFailure::ThisHost), When::Always);
        let made = world.ensure(1, sandbox("a")).await.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        assert_eq!(made.sandbox.generation, Generation(2), "{op:?}");
        assert_eq!(world.host(0).running(super::world::cluster_id()).len(), 1, "{op:?}");
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_look_lost_change_nothing_twice() {
    for seed in 0..20 {
        let world = World::new(seed, 3, &SIZES).await;
        let faults =
            LedgerFaults { answer_lost_permille: 250, late_permille: 100, lag_ms: 500, ..LedgerFaults::default() };
        world.cluster.set_faults(faults);
        let made = world.ensure(1, sandbox("a")).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(world.starts(), 1, "seed {seed}");
        world.terminate(1, made.sandbox.id, Wait::No).await.expect("accepted");
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_arrives_after_its_sandbox_is_gone_leaves_nothing() {
    let world = World::new(6, 3, &[HostSize::Cpx41]).await;
    world.host(0).fault(HostOp::CreateContainer, Mishap::Hang, When::Next(1));
    let made = world.create(1, sandbox("a"), Wait::No).await.expect("accepted");
    world.until("the host has the request", || world.host(0).calls(HostOp::CreateContainer) == 1).await;
    let wait = Wait::Upto(Duration::from_secs(170));
    world.terminate(1, made.sandbox.id, wait).await.expect("the host answers everything else");
    assert!(world.host(0).containers().is_empty(), "the request still hangs");
    world.settle().await;
    assert_eq!(world.effects(HostOp::CreateContainer), 1, "it was done in the end");
}

#[tokio::test(start_paused = true)]
async fn a_late_create_is_cleaned_up_even_if_the_leader_dies_in_the_middle_of_that() {
    for moment in [Moment::Before, Moment::After] {
        for op in [HostOp::RemoveContainer, HostOp::RemoveWorkspace] {
            let world = World::new(7, 3, &[HostSize::Cpx41]).await;
            world.host(0).fault(HostOp::CreateContainer, Mishap::Hang, When::Next(1));
            let made = world.create(1, sandbox("a"), Wait::No).await.expect("accepted");
            world.until("the host has the request", || world.host(0).calls(HostOp::CreateContainer) == 1).await;
            world.terminate(1, made.sandbox.id, Wait::Upto(Duration::from_secs(170))).await.expect("it is gone");
            world.host(0).heal();
            kill_leader_at(&world, op, moment);
            world
                .until("the leader died", || world.cluster.nodes().iter().any(|node| !world.cluster.is_alive(*node)))
                .await;
            world.settle().await;
        }
    }
}
