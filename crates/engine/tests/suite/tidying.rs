//! Hosts are emptied and evened out, idle sandboxes pause, and what nothing refers to goes.

use crate::{
    outliving::read,
    world::{LONG, World, request},
};
use plimsoll_engine::{ClusterOperations, DrainWish, NewSandbox, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::{
    naming,
    ports::{Clock, CommitPlan, Dial, DialTarget, ExecRequest},
};
use plimsoll_testkit::{sim::HostSize, wait::wait_for};
use plimsoll_types::{Code, HostId, Millis, Phase, SandboxId, SnapshotId};
use std::time::Duration;

const FIRST: HostId = HostId(0);

fn pauses(session: &str) -> NewSandbox {
    let mut request = request(session);
    request.spec.idle_timeout = Some(Millis::secs(60));
    request
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_is_empty_and_can_be_taken_away() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let ids: Vec<SandboxId> = {
        let mut ids = Vec::new();
        for session in ["s1", "s2"] {
            ids.push(world.ensure(session).await.expect("a sandbox").sandbox.id);
        }
        ids
    };
    let (provider, wish) = (world.provider(), DrainWish { reason: "goes back".into(), ..DrainWish::default() });
    let dry = provider.drain_status(FIRST).await.expect("a dry run");
    assert!(!dry.draining && dry.left.len() == 2 && dry.left.iter().all(|it| it.would_go.is_none()), "{dry:?}");
    provider.drain_host(FIRST, wish.clone()).await.expect("drains");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let stuck = provider.drain_status(FIRST).await.expect("a status");
    assert!(stuck.draining && stuck.left.len() == 2 && !stuck.left[0].why.is_empty(), "{stuck:?}");
    assert!(ids.iter().all(|id| world.sandbox(*id).phase == Phase::Running));
    let other = world.fleet.add("h1", HostSize::Cpx31);
    world.add(&other).await.expect("a host");
    world.until("the host to be empty", |state| state.hosts[&FIRST].sandboxes == 0).await;
    let done = provider.drain_status(FIRST).await.expect("a status");
    assert!(done.is_empty() && done.moved == 2 && done.moving == 0, "{done:?}");
    assert_eq!(world.running(), 2);
    world.assert_settled().await;
    provider.undrain_host(FIRST).await.expect("undrains");
    assert_eq!(provider.drain_host(HostId(9), wish).await.expect_err("unknown").code, Code::HostNotFound);
    provider.remove_host(FIRST).await.expect("removed");
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_moves_as_little_as_it_must() {
    let world = World::new(&[HostSize::Cpx41]).await;
    for session in ["s1", "s2", "s3", "s4"] {
        world.ensure(session).await.expect("a sandbox");
    }
    let other = world.fleet.add("h1", HostSize::Cpx41);
    world.add(&other).await.expect("a host");
    let provider = world.provider();
    let proposed = provider.rebalance(true, None).await.expect("a dry run");
    assert_eq!(proposed.len(), 2, "{proposed:?}");
    assert!(proposed.iter().all(|it| !it.begun && it.to.as_str() == "h1"));
    assert_eq!(world.state().hosts[&FIRST].sandboxes, 4);
    let begun = provider.rebalance(false, None).await.expect("moves");
    assert!(begun.iter().all(|it| it.begun), "{begun:?}");
    world.until("the hosts to be even", |state| state.hosts.values().all(|host| host.sandboxes == 2)).await;
    world.until("all to run", |state| state.in_phase(Phase::Running).count() == 4).await;
    assert!(provider.rebalance(false, None).await.expect("nothing").is_empty());
    assert_eq!(provider.rebalance(true, Some(0)).await.expect_err("no spread").code, Code::InvalidRequest);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_pauses_and_what_works_does_not() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let id = world.create(pauses("s1")).await.expect("a sandbox").sandbox.id;
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert_eq!(world.sandbox(id).phase, Phase::Running, "it uses CPU");
    let awake = world.provider().awake(&Scope::All, id).await.expect("says why");
    assert!(awake.idle_since.is_none() && awake.because[0].contains("CPU"), "{awake:?}");
    world.host("h0").set_quiet(true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let idle = world.provider().awake(&Scope::All, id).await.expect("says since when");
    assert!(idle.idle_since.is_some() && idle.pauses_at > Some(world.clock.now()), "{idle:?}");
    world.until_phase(id, Phase::Paused).await;
    let back = world.provider().ensure(request("s1"), Wait::Upto(LONG)).await.expect("resumes");
    assert!(back.recovered);
    world.until_phase(id, Phase::Paused).await;
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_process_on_any_node_keeps_a_sandbox_awake() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    world.host("h0").set_quiet(true);
    let id = world.create(pauses("s1")).await.expect("a sandbox").sandbox.id;
    let leader = world.cluster.leader().expect("a leader");
    let follower = world.providers.iter().find(|(node, _)| **node != leader).expect("a follower").1;
    let argv = vec!["cat".to_owned()];
    let process = follower.exec(&Scope::All, id, ExecRequest { argv, stdin: true, ..ExecRequest::default() });
    let process = process.await.expect("starts");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.sandbox(id).phase, Phase::Running);
    let awake = follower.awake(&Scope::All, id).await.expect("says why");
    assert!(awake.sessions == 1 && awake.because[0].contains("open"), "{awake:?}");
    drop(process);
    world.until_phase(id, Phase::Paused).await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_leave_the_registry_with_their_sandbox_and_copies_leave_the_hosts() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    crate::outliving::write(&world, id, "kept").await;
    world.provider().pause(&Scope::All, id, Wait::Upto(LONG)).await.expect("pauses");
    let copies = || world.fleet.hosts().iter().map(|host| host.snapshots().len()).sum::<usize>();
    assert_eq!(copies(), 1, "a resume is fast where it was");
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!((copies(), world.fleet.registry().tags().len()), (0, 1), "the registry has what it needs");
    assert_eq!(read(&world, id).await, "kept");
    world.terminate(id).await;
    world.until("the snapshots to go", |state| state.snapshots.is_empty()).await;
    assert!(world.fleet.registry().tags().is_empty());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(copies(), 0);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_record_tells_of_leaves_the_registry() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox").sandbox;
    let state = world.state();
    let (host, cluster) = (&state.hosts[&FIRST], state.cluster.expect("a cluster"));
    let target = DialTarget {
        name: host.name.to_string(),
        address: host.address.clone(),
        identity: host.identity.clone(),
        host_key: host.host_key.clone(),
    };
    // As an operation leaves it that was given up while its push went on.
    let stray = CommitPlan {
        container: made.container.clone().expect("a container").to_string(),
        cluster,
        sandbox: made.id,
        generation: made.generation,
        snapshot: SnapshotId::from_parts(1, 1),
        workspace: naming::workspace(&state.policy, &made.tenant, &made.session, made.generation),
        repository: naming::repository(cluster, &made.tenant, made.id),
    };
    let driver = world.fleet.any_dialer().dial(&target);
    driver.freeze(&stray.container).await.expect("freezes");
    driver.commit(&stray).await.expect("commits");
    driver.push(&stray).await.expect("pushes");
    let kept = world.provider().snapshot(&Scope::All, made.id, None, Wait::Upto(LONG)).await.expect("a snapshot");
    assert_eq!(world.fleet.registry().tags().len(), 2);
    let swept = || async { world.fleet.registry().tags().iter().all(|(_, id)| *id == kept.id) };
    wait_for("the stray to go", Duration::from_secs(400), swept).await.expect("swept");
    assert_eq!(world.fleet.registry().tags().len(), 1);
    let copies = || async { world.host("h0").snapshots().len() <= 1 };
    wait_for("its copy to go", Duration::from_secs(120), copies).await.expect("collected");
}
