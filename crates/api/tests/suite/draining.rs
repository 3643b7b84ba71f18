//! Emptying hosts and evening them out, over HTTP.

use crate::world::{LONG, World, code, problem};
use plimsoll_client::{Client, wire};
use plimsoll_types::Code;
use reqwest::Method;

/// The status of a drain once it looks like this.
async fn until(client: &Client, host: &str, wanted: fn(&wire::DrainStatus) -> bool) -> wire::DrainStatus {
    let look = async {
        loop {
            let status = client.drain_status(host).await.unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, look).await.expect("it comes to that")
}

#[tokio::test]
async fn a_host_is_emptied_and_used_again() {
    let world = World::new().await;
    let ids = [world.ensure("s1").await.sandbox.id, world.ensure("s2").await.sandbox.id];
    world.add_host("h1").await;
    let asked = wire::DrainHost { dry_run: true, ..wire::DrainHost::default() };
    let plan = world.operator.drain_host("h0", &asked).await.unwrap();
    assert!(plan.drain.is_none() && !plan.empty && plan.left.len() == 2, "{plan:?}");
    assert!(plan.left.iter().all(|left| left.to.as_ref().is_some_and(|to| to.as_str() == "h1")), "{plan:?}");
    assert!(world.operator.host("h0").await.unwrap().drain.is_none(), "a dry run does nothing");

    let wish = wire::DrainHost {
        parallel: Some(1),
        deadline_s: Some(1800),
        reason: "sold".into(),
        ..wire::DrainHost::default()
    };
    let begun = world.operator.drain_host("h0", &wish).await.unwrap().drain.expect("it is drained");
    assert_eq!((begun.parallel, begun.reason.as_str()), (1, "sold"));
    let ended = until(&world.operator, "h0", |status| status.empty).await;
    assert_eq!((ended.moved, ended.moving, ended.settled), (2, 0, true));
    for id in ids {
        let moved = world.operator.sandbox(id).await.unwrap();
        assert_eq!((moved.phase.as_str(), moved.host.unwrap().as_str()), ("running", "h1"));
    }
    assert_eq!(world.operator.host("h0").await.unwrap().drain, Some(begun), "it stays drained");
    assert_eq!(world.operator.undrain_host("h0").await.unwrap().drain, None);
    assert_eq!(code(world.operator.drain_status("h9").await), Code::HostNotFound);
}

#[tokio::test]
async fn what_cannot_move_is_named_with_the_reason() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    world.operator.drain_host("h0", &wire::DrainHost::default()).await.unwrap();
    let status = until(&world.operator, "h0", |status| status.settled).await;
    assert!(!status.empty && status.left.len() == 1, "{status:?}");
    assert_eq!((status.left[0].sandbox, &status.left[0].to), (id, &None));
    assert!(!status.left[0].why.is_empty());
}

#[tokio::test]
async fn uneven_hosts_are_evened_out() {
    let world = World::new().await;
    for n in 0..4 {
        world.ensure(&format!("s{n}")).await;
    }
    world.add_host("h1").await;
    let wanted = wire::RebalanceHosts { dry_run: true, spread_permille: Some(20) };
    let proposed = world.operator.rebalance(&wanted).await.unwrap();
    assert!(proposed.dry_run && !proposed.moves.is_empty(), "{proposed:?}");
    for item in &proposed.moves {
        assert_eq!((item.from.as_str(), item.to.as_str(), item.begun), ("h0", "h1", false));
    }
    assert_eq!(world.operator.host("h1").await.unwrap().sandboxes, 0, "a dry run does nothing");
}

#[tokio::test]
async fn wrong_wishes_are_named() {
    let world = World::new().await;
    for (path, body, pointer) in [
        ("/v1/hosts/h0/drain", r#"{"parallel": 0}"#, "/parallel"),
        ("/v1/hosts/h0/drain", r#"{"deadline_s": 0}"#, "/deadline_s"),
        ("/v1/hosts/h0/drain", r#"{"reason": "a\nb"}"#, "/reason"),
        ("/v1/hosts/h0/drain", r#"{"dryrun": true}"#, "/dryrun"),
        ("/v1/rebalance", r#"{"spread_permille": 1001}"#, "/spread_permille"),
    ] {
        let refused = problem(world.raw(Method::POST, path).body(body).send().await.unwrap()).await;
        assert_eq!((refused.code, refused.errors[0].pointer.as_str()), (Code::InvalidRequest, pointer), "{refused:?}");
    }
    assert!(world.operator.host("h0").await.unwrap().drain.is_none());
}
