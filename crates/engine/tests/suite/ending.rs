//! Sandboxes end once, wholly, and by the clock where they should.

use crate::world::{LONG, World, request, with_command};
use plimsoll_engine::{ClusterSecret, EngineOptions, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::{Clock, HostFailure};
use plimsoll_state::Policy;
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, Generation, Millis, Phase, SandboxId};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn terminate_leaves_nothing_and_is_idempotent() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    world.terminate(made.sandbox.id).await;
    world.terminate(made.sandbox.id).await;
    world.terminate(SandboxId::from_parts(1, 1)).await;
    let host = world.host("h0");
    assert!(host.containers().is_empty() && host.volumes().is_empty() && host.folders().is_empty());
    let state = world.state();
    assert_eq!(state.sandboxes[&made.sandbox.id].phase, Phase::Terminated);
    assert!(state.hosts.values().all(|host| host.sandboxes == 0));
    let next = world.ensure("s1").await.expect("the session is free");
    assert_ne!(next.sandbox.id, made.sandbox.id);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_begins_anew_waits_for_the_old_one_to_be_gone() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let old = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    world.provider().terminate(&Scope::All, old, Wait::No).await.expect("asks");
    let new = world.ensure("s1").await.expect("another");
    assert!(new.created && new.sandbox.id != old);
    assert_eq!(world.sandbox(old).phase, Phase::Terminated);
    assert_eq!(world.host("h0").volumes().len(), 1, "the new one's workspace was not removed with the old one's");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_sandbox_and_an_extension_wins() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let brief = |session: &str| {
        let mut request = request(session);
        request.lifetime = Some(Millis::secs(60));
        request
    };
    let kept = world.create(brief("kept")).await.expect("a sandbox").sandbox;
    let brief = world.create(brief("brief")).await.expect("a sandbox").sandbox;
    world.provider().extend(&Scope::All, kept.id, None).await.expect("extends");
    world.until("brief to end", |state| state.sandboxes[&brief.id].phase == Phase::Terminated).await;
    let record = world.sandbox(brief.id);
    assert!(record.ended_at >= record.deadline && record.reason.contains("deadline"), "{record:?}");
    assert_eq!(world.sandbox(kept.id).phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn records_are_forgotten_after_their_retention() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    world.terminate(made.sandbox.id).await;
    tokio::time::sleep(std::time::Duration::from_millis(Policy::default().retention.0)).await;
    world.until("the record to go", |state| state.sandboxes.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_owner_is_removed_and_what_is_not_ours_stays() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let kept = world.ensure("kept").await.expect("a sandbox");
    let cluster = world.state().cluster.expect("a cluster");
    let host = world.host("h0");
    let unknown = SandboxId::from_parts(5, 5);
    let orphan = host.add_foreign("shadow-session-orphan", Some((cluster, unknown, Generation::FIRST)));
    let stranger = host.add_foreign("postgres", None);
    let look = || async { host.containers().iter().all(|found| found.seen.id != orphan) };
    plimsoll_testkit::wait::wait_for("the orphan to go", LONG, look).await.expect("removed");
    let left: Vec<_> = host.containers().into_iter().map(|found| found.seen.id).collect();
    assert!(
        left.contains(&stranger) && left.contains(&kept.sandbox.container.clone().expect("a container").to_string())
    );
}

/// Sixteen hosts are looked at side by side; as soon as one is done the next has its turn, so that a large fleet is not looked at more
/// seldom than a small one.
#[tokio::test(start_paused = true)]
async fn a_large_fleet_is_swept_as_often_as_a_small_one() {
    let world = World::new(&[HostSize::Cpx31; 320]).await;
    let cluster = world.state().cluster.expect("a cluster");
    let plant = |round: u128| {
        for (index, host) in (0_u128..).zip(world.fleet.hosts()) {
            let unknown = SandboxId::from_parts(1, round << 32 | index);
            host.add_foreign(&format!("shadow-session-{round}-{index}"), Some((cluster, unknown, Generation::FIRST)));
        }
    };
    let swept = || async { world.fleet.hosts().iter().all(|host| host.containers().is_empty()) };
    plant(1);
    plimsoll_testkit::wait::wait_for("the first sweep", LONG, swept).await.expect("swept");
    plant(2);
    let began = tokio::time::Instant::now();
    plimsoll_testkit::wait::wait_for("the second sweep", LONG, swept).await.expect("swept");
    let (took, every) = (began.elapsed(), EngineOptions::new(ClusterSecret::new([0; 32])).reconcile);
    assert!(took < every + Duration::from_secs(4), "{took:?}, and it is to be every {every:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_container_ends_or_vanishes_fails_with_the_reason() {
    let world = World::new(&[HostSize::Cpx41]).await;
    let crashed = world.create(with_command("crashed")).await.expect("a sandbox").sandbox;
    let lost = world.ensure("lost").await.expect("a sandbox").sandbox;
    world.host("h0").crash_container(crashed.container.as_deref().expect("a container"));
    world.host("h0").lose_container(lost.container.as_deref().expect("a container"));
    world.until_phase(crashed.id, Phase::Failed).await;
    world.until_phase(lost.id, Phase::Failed).await;
    assert!(world.sandbox(crashed.id).reason.contains("exit code 137"), "{}", world.sandbox(crashed.id).reason);
    assert!(world.sandbox(lost.id).reason.contains("vanished"));
    let again = world.ensure("crashed").await.expect("the session goes on");
    assert_ne!(again.sandbox.id, crashed.id);
    world.until_phase(crashed.id, Phase::Terminated).await;
    // Nobody takes this one down; after a while it goes by itself.
    world.until_phase(lost.id, Phase::Terminated).await;
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_wait_gets_what_was_committed() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.provider().ensure(request("s1"), Wait::No).await.expect("a sandbox");
    assert!(made.created && !matches!(made.sandbox.phase, Phase::Failed));
    world.until_phase(made.sandbox.id, Phase::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_minute_after_its_last_sandbox_a_host_has_nothing_of_ours() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let ended = world.ensure("ended").await.expect("a sandbox").sandbox.id;
    let there = |name: &str| world.sandbox(ended).assignment.is_some() && world.host(name).networks().len() == 1;
    assert!(there("h0") || there("h1"));
    world.terminate(ended).await;
    let networks = |world: &World| world.fleet.hosts().iter().map(|host| host.networks().len()).sum::<usize>();
    assert_eq!(networks(&world), 0, "it goes with the tenant's last sandbox on the host");
    // What failed to start leaves one behind as well.
    for host in ["h0", "h1"] {
        world.host(host).set_start_fails(Some(HostFailure::Permanent));
    }
    world.ensure("failed").await.expect_err("ends at once");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let bare = |host: &plimsoll_testkit::sim::SimHost| {
        host.networks().is_empty()
            && host.volumes().is_empty()
            && host.folders().is_empty()
            && host.containers().is_empty()
    };
    assert!(world.fleet.hosts().iter().all(bare));
}

/// A full cluster whose session `s0` has a sandbox that failed after it ran, and the rest run.
async fn full_with_a_failed_one() -> (World, SandboxId) {
    let world = World::new(&[HostSize::Cpx31]).await;
    let failed = world.create(with_command("s0")).await.expect("a sandbox").sandbox;
    world.ensure("s1").await.expect("a sandbox");
    world.host("h0").crash_container(failed.container.as_deref().expect("a container"));
    world.until_phase(failed.id, Phase::Failed).await;
    let refused = world.ensure("s2").await.expect_err("its room is kept");
    assert_eq!(refused.code, Code::NoCapacity);
    (world, failed.id)
}

#[tokio::test(start_paused = true)]
async fn a_failed_sandbox_makes_room_for_its_session_at_once() {
    for wait in [Wait::No, Wait::Upto(LONG)] {
        let (world, failed) = full_with_a_failed_one().await;
        let began = world.clock.now();
        let next = world.provider().ensure(request("s0"), wait).await.expect("its own room");
        assert!(next.created && next.sandbox.id != failed);
        assert_eq!(world.sandbox(failed).phase, Phase::Terminated);
        world.until_phase(next.sandbox.id, Phase::Running).await;
        assert!(world.clock.now().since(began) < Millis::secs(10), "at once");
        world.assert_settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_sandbox_makes_room_for_its_session_in_the_queue() {
    let (world, failed) = full_with_a_failed_one().await;
    let mut patient = request("s0");
    patient.queue_timeout = Some(Millis::secs(30));
    let next = world.create(patient).await.expect("its own room");
    assert!(next.sandbox.phase == Phase::Running && next.sandbox.id != failed);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_a_failed_sandbox_frees_its_room_at_once() {
    let (world, failed) = full_with_a_failed_one().await;
    let began = world.clock.now();
    world.terminate(failed).await;
    world.ensure("s2").await.expect("room");
    assert!(world.clock.now().since(began) < Millis::secs(10), "at once");
    world.assert_settled().await;
}
