//! A defect panics somewhere in the leader: what it was about is tried again, and nothing else stands still.

use crate::world::{LONG, World};
use plimsoll_engine::{SandboxProvider as _, Scope, Wait};
use plimsoll_state::Command;
use plimsoll_testkit::{
    sim::{HostOp, HostSize, Mishap, When},
    wait::wait_for,
};
use plimsoll_types::{Generation, Health, HostId, SandboxId};

/// Until the leader has asked a host for this so many times.
async fn until_asked(world: &World, op: HostOp, times: u64) {
    let host = world.host("h0");
    let asked = || async { host.calls(op) >= times };
    wait_for(&format!("{op:?} to be asked for"), LONG, asked).await.expect("asked");
}

#[tokio::test(start_paused = true)]
async fn a_host_is_compared_with_state_again_after_a_comparison_panicked() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let (host, cluster) = (world.host("h0"), world.state().cluster.expect("a cluster"));
    let before = host.calls(HostOp::ListContainers);
    host.fault(HostOp::ListContainers, Mishap::Panic, When::Next(2));
    until_asked(&world, HostOp::ListContainers, before + 2).await;
    host.add_foreign("left-behind", Some((cluster, SandboxId::from_parts(1, 1), Generation::FIRST)));
    let removed = || async { host.containers().is_empty() };
    wait_for("what has no owner to go", LONG, removed).await.expect("compared again");
}

#[tokio::test(start_paused = true)]
async fn a_host_is_measured_again_after_a_poll_panicked() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    let before = host.calls(HostOp::Measure);
    host.fault(HostOp::Measure, Mishap::Panic, When::Next(1));
    until_asked(&world, HostOp::Measure, before + 1).await;
    host.disconnect();
    world.until("it to be lost", |state| state.hosts[&HostId(0)].health == Health::Lost).await;
    host.heal();
    world.until("it to be ready", |state| state.hosts[&HostId(0)].health == Health::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_panicked_is_done_again() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    for op in [HostOp::EnsureImage, HostOp::CreateContainer, HostOp::StartContainer] {
        host.fault(op, Mishap::Panic, When::Next(1));
    }
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    host.fault(HostOp::Push, Mishap::Panic, When::Next(1));
    world.provider().pause(&Scope::All, id, Wait::Upto(LONG)).await.expect("pauses");
    world.ensure("s1").await.expect("resumes");
    host.fault(HostOp::RemoveContainer, Mishap::Panic, When::Next(1));
    world.terminate(id).await;
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panicked_begins_anew_and_the_others_go_on() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    let before = host.calls(HostOp::ListSnapshots);
    // The collector asks for it within its own loop.
    host.fault(HostOp::ListSnapshots, Mishap::Panic, When::Next(2));
    until_asked(&world, HostOp::ListSnapshots, before + 3).await;
    world.ensure("s1").await.expect("it places and executes");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_an_entry_that_panicked_is_answered_and_can_be_asked_again() {
    let world = World::new(&[HostSize::Cpx31]).await;
    // Each is asked again by itself when it is told that nothing is known of its entry.
    world.cluster.panic_at(|command| matches!(command, Command::Place(_)));
    let id = world.ensure("s1").await.expect("its session is free again").sandbox.id;
    world.provider().pause(&Scope::All, id, Wait::Upto(LONG)).await.expect("pauses");
    world.cluster.panic_at(|command| matches!(command, Command::Assign(_)));
    world.ensure("s1").await.expect("resumes");
    world.ensure("s2").await.expect("no room is taken twice: the host holds two");
    world.assert_settled().await;
}
