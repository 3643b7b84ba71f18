//! A cluster on hold looks and does not touch; what it is told to settle, and only that, is settled.

use crate::world::{World, request};
use plimsoll_engine::{ClusterOperations, DriftReport, DriftWish, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::planner::Verdict;
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, Generation, HostId, Phase, SandboxId};
use std::time::Duration;

fn counts(report: &DriftReport) -> Vec<(Verdict, usize)> {
    let count = |verdict| report.lines.iter().filter(|line| line.finding.verdict == verdict).count();
    Verdict::ALL.map(|verdict| (verdict, count(verdict))).into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(start_paused = true)]
async fn on_hold_nothing_happens_however_long_it_takes() {
    let world = World::new(&[HostSize::Cpx41]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    let provider = world.provider();
    let backup = provider.backup().await.expect("a backup");
    assert_eq!((backup.header.sandboxes, backup.state.sandboxes.len()), (1, 1));
    provider.hold_cluster("we look").await.expect("on hold");
    let cluster = world.state().cluster.expect("a cluster");
    let stray = (cluster, SandboxId::from_parts(1, 99), Generation::FIRST);
    world.host("h0").add_foreign("stray", Some(stray));

    // Its deadline passes, and the reconciler would have had a hundred chances.
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert_eq!((world.sandbox(id).phase, world.running()), (Phase::Running, 2));
    for code in [
        provider.ensure(request("s2"), Wait::No).await.expect_err("held").code,
        provider.terminate(&Scope::All, id, Wait::No).await.expect_err("held").code,
        provider.freeze(&Scope::All, id, true).await.expect_err("held").code,
        provider.remove_host(HostId(0)).await.expect_err("held").code,
    ] {
        assert_eq!(code, Code::OnHold);
    }
    assert!(!provider.health().await.expect("an answer"));
    let report = provider.drift().await.expect("a comparison");
    assert_eq!(counts(&report), [(Verdict::Orphan, 1), (Verdict::Same, 1)]);
    let wish = DriftWish { remove_orphans: true, ..DriftWish::default() };
    for settled in [1, 0] {
        let report = provider.settle(wish).await.expect("settles");
        assert_eq!((report.settled.len(), counts(&report)), (settled, vec![(Verdict::Same, 1)]));
    }

    provider.resume_cluster(false).await.expect("nothing is left");
    tokio::time::sleep(Duration::from_secs(1500)).await;
    assert_eq!(world.sandbox(id).phase, Phase::Running, "it could not be extended in time");
    world.until_phase(id, Phase::Terminated).await;
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_blocks_the_resume_until_it_is_settled_or_forced() {
    let world = World::new(&[HostSize::Cpx41, HostSize::Cpx41]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    let provider = world.provider();
    assert_eq!(provider.settle(DriftWish::default()).await.expect_err("not on hold").code, Code::Conflict);
    provider.hold_cluster("we look").await.expect("on hold");
    let sandbox = world.sandbox(id);
    let host = &world.state().hosts[&sandbox.assignment.expect("a host").host];
    let container = sandbox.container.clone().expect("a container");
    let (here, other) = if host.name.as_str() == "h0" { ("h0", "h1") } else { ("h1", "h0") };
    world.host(here).lose_container(&container);

    world.host(other).disconnect();
    let report = provider.drift().await.expect("a comparison");
    assert_eq!((counts(&report), report.silent.len()), (vec![(Verdict::Unknown, 1)], 1), "{report:?}");
    world.host(other).heal();
    let report = provider.drift().await.expect("a comparison");
    assert_eq!(counts(&report), [(Verdict::Lost, 1)]);
    let refused = provider.resume_cluster(false).await.expect_err("something is lost");
    assert!(refused.code == Code::Conflict && refused.message.contains("1 lost"), "{refused}");
    let wish = DriftWish { mark_lost: true, ..DriftWish::default() };
    assert!(counts(&provider.settle(wish).await.expect("settles")).is_empty());
    assert_eq!(world.sandbox(id).phase, Phase::Failed);
    provider.resume_cluster(false).await.expect("nothing is left");
    assert_ne!(world.ensure("s1").await.expect("its session is free").sandbox.id, id);
    world.assert_settled().await;
}
