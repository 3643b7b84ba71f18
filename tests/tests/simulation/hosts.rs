//! Hosts that go away, come back, fill up or keep failing, and strangers on them.

use super::world::{World, cluster_id, image, sandbox};
use plimsoll_engine::{ClusterOperations, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, SimHost, When};
use plimsoll_types::{Code, Health, NodeId, Phase, SandboxId};
use std::time::Duration;

fn health(world: &World, host: &SimHost) -> Health {
    let state = world.cluster.committed();
    let found = state.hosts.values().find(|known| known.address == *host.address()).map(|known| known.health);
    found.expect("a known host")
}

fn host_of(world: &World, id: SandboxId) -> SimHost {
    let record = world.record(id);
    let state = world.cluster.committed();
    let host = record.assignment.and_then(|assignment| state.hosts.get(&assignment.host).cloned()).expect("a host");
    world.fleet.at(&host.address).expect("a machine")
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_cut_off_keeps_its_sandboxes_and_gets_no_new_ones() {
    let world = World::new(1, 3, &[HostSize::Cpx31, HostSize::Cpx31]).await;
    let first = world.ensure(0, sandbox("a")).await.expect("it runs");
    let home = host_of(&world, first.sandbox.id);
    home.disconnect();
    world.until("unreachable", || health(&world, &home) == Health::Unreachable).await;
    for name in ["b", "c"] {
        let made = world.ensure(1, sandbox(name)).await.expect("the other has room");
        assert_ne!(host_of(&world, made.sandbox.id).name(), home.name());
    }
    let error = world.ensure(2, sandbox("d")).await.expect_err("the other is full");
    assert!(error.message.contains("1 unreachable"), "{error}");
    world.until("lost", || health(&world, &home) == Health::Lost).await;
    home.heal();
    world.until("ready", || health(&world, &home) == Health::Ready).await;
    world.until("it goes on", || world.record(first.sandbox.id).phase == Phase::Running).await;
    let same = world.record(first.sandbox.id);
    assert_eq!(
        (same.phase, same.generation, &same.container),
        (Phase::Running, first.sandbox.generation, &first.sandbox.container)
    );
    world.settle().await;
    assert_eq!(world.starts(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_switched_off_comes_back_and_its_sandboxes_with_it() {
    let world = World::new(2, 3, &[HostSize::Cpx41]).await;
    let made = world.ensure(0, sandbox("a")).await.expect("it runs");
    world.write_both(made.sandbox.id).await;
    let home = host_of(&world, made.sandbox.id);
    home.power_off();
    world.until("unreachable", || health(&world, &home) != Health::Ready).await;
    home.heal();
    world.until("started again", || world.starts() == 2).await;
    world.settle().await;
    let again = world.record(made.sandbox.id);
    assert_eq!((again.phase, &again.container), (Phase::Running, &made.sandbox.container));
}

#[tokio::test(start_paused = true)]
async fn terminating_waits_for_the_host_and_leaves_nothing() {
    let world = World::new(3, 3, &[HostSize::Cpx41]).await;
    let made = world.ensure(0, sandbox("a")).await.expect("it runs");
    world.host(0).disconnect();
    world.until("unreachable", || health(&world, &world.host(0)) != Health::Ready).await;
    let error =
        world.terminate(1, made.sandbox.id, Wait::Upto(Duration::from_secs(30))).await.expect_err("its host is away");
    assert_eq!(error.code, Code::Timeout);
    world.kill_leader();
    world.settle().await;
    assert_eq!(world.record(made.sandbox.id).phase, Phase::Terminated);
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_creates_keep_failing_is_quarantined_and_used_again() {
    let world = World::new(4, 3, &[HostSize::Cpx31, HostSize::Cpx51]).await;
    let bad = world.host(1);
    bad.set_start_fails(Some(HostFailure::ThisHost));
    for name in ["a", "b"] {
        world.ensure(0, sandbox(name)).await.expect("the other host takes it");
    }
    let error = world.ensure(0, sandbox("c")).await.expect_err("the other is full");
    assert_eq!(error.code, Code::StartFailed);
    let quarantined = || world.cluster.committed().hosts.values().any(|host| host.quarantine.is_some());
    world.until("quarantined", quarantined).await;
    let error = world.ensure(0, sandbox("d")).await.expect_err("nowhere");
    assert!(error.message.contains("quarantined"), "{error}");
    bad.heal();
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.ensure(0, sandbox("e")).await.expect("used again");
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_and_a_missing_image_have_their_names() {
    let world = World::new(5, 3, &[HostSize::Cpx41]).await;
    world.host(0).set_image_missing(&image());
    assert_eq!(world.ensure(0, sandbox("a")).await.expect_err("no such image").code, Code::ImageNotFound);
    world.host(0).heal();
    world.host(0).set_disk_full(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let error = world.ensure(0, sandbox("a")).await.expect_err("no disk");
    assert!(error.code == Code::NoCapacity && error.message.contains("disk"), "{error}");
    world.host(0).heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.ensure(0, sandbox("a")).await.expect("it runs");
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn strangers_are_left_alone() {
    let world = World::new(6, 3, &[HostSize::Cpx31, HostSize::Cpx31]).await;
    for host in world.fleet.hosts() {
        let other = plimsoll_types::ClusterId::from_parts(9, 9);
        let labels = (other, SandboxId::from_parts(1, 1), plimsoll_types::Generation::FIRST);
        world.oracle.foreign(&host, &host.add_foreign("shadow-session-a", None));
        world.oracle.foreign(&host, &host.add_foreign("shadow-session-b", Some(labels)));
    }
    for name in ["a", "b"] {
        let error = world.ensure(0, sandbox(name)).await.expect_err("the name is taken everywhere");
        assert!(matches!(error.code, Code::NameClash | Code::StartFailed), "{error}");
        assert!(error.message.contains("shadow-session-"), "{error}");
    }
    world.ensure(0, sandbox("c")).await.expect("it runs");
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_die_or_vanish_are_noticed() {
    let world = World::new(7, 3, &[HostSize::Cpx41]).await;
    let (one, two) = (world.ensure(0, sandbox("a")).await, world.ensure(1, sandbox("b")).await);
    let (one, two) = (one.expect("it runs").sandbox, two.expect("it runs").sandbox);
    world.host(0).crash_container(one.container.as_deref().expect("a container"));
    world.host(0).lose_container(two.container.as_deref().expect("a container"));
    world.until("what vanished failed", || world.record(two.id).phase == Phase::Failed).await;
    assert!(world.record(two.id).reason.contains("vanished"), "{}", world.record(two.id).reason);
    world.until("what was stopped was started again", || world.starts() == 3).await;
    world.settle().await;
    assert_eq!(world.record(one.id).container, one.container);
    assert_eq!(world.record(one.id).phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stale_leader_with_its_hosts_does_no_harm() {
    let world = World::new(8, 3, &[HostSize::Cpx41, HostSize::Cpx41]).await;
    let leader = world.cluster.leader().expect("a leader");
    world.host(0).fault(HostOp::CreateContainer, Mishap::Slow(Duration::from_secs(4)), When::Always);
    world.host(1).fault(HostOp::CreateContainer, Mishap::Slow(Duration::from_secs(4)), When::Always);
    let creating = world.ensure(1, sandbox("a"));
    let cutting = async {
        world.until("a create is under way", || !world.in_phase(Phase::Starting).is_empty()).await;
        world.cluster.isolate(leader);
    };
    let (made, ()) = tokio::join!(creating, cutting);
    made.expect("the new leader goes on");
    world.settle().await;
    assert_eq!(world.starts(), 1);
    let running: usize = world.fleet.hosts().iter().map(|host| host.running(cluster_id()).len()).sum();
    assert_eq!(running, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_host_gets_nothing_new_and_a_busy_one_is_not_removed() {
    let world = World::new(9, 3, &[HostSize::Cpx41]).await;
    let provider = world.provider(NodeId(2));
    let host = provider.host("h1").await.expect("known").host.id;
    world.ensure(0, sandbox("a")).await.expect("it runs");
    assert_eq!(provider.remove_host(host).await.expect_err("busy").code, Code::HostBusy);
    provider.cordon(host, Some("maintenance")).await.expect("cordoned");
    let error = world.ensure(0, sandbox("b")).await.expect_err("cordoned");
    assert!(error.message.contains("1 cordoned"), "{error}");
    provider.cordon(host, None).await.expect("uncordoned");
    let made = world.ensure(0, sandbox("b")).await.expect("it runs");
    let checked = provider.check(&Scope::All, &[made.sandbox.id]).await.expect("an answer");
    assert_eq!(checked, [made.sandbox.id]);
    world.settle().await;
}
