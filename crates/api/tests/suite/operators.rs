//! Hosts, keys, the control plane, health and metrics.

use crate::world::{World, code, new_host};
use plimsoll_client::{Wait, wire};
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::Code;
use reqwest::Method;

#[tokio::test]
async fn hosts_are_checked_added_cordoned_labelled_and_removed() {
    let world = World::new().await;
    let machine = world.fleet.add("h1", HostSize::Cpx31);
    let mut new = new_host(&world, &machine).await;
    let fingerprint = new.fingerprint.take();
    assert_eq!(code(world.operator.add_host(&new).await), Code::HostKeyUnknown);
    new.fingerprint = fingerprint;
    let added = world.operator.add_host(&new).await.unwrap();
    assert_eq!((added.name.as_str(), added.address.to_string()), ("h1", machine.address().to_string()));
    assert_eq!(code(world.operator.add_host(&new).await), Code::HostExists);
    let wrong = wire::NewHost { fingerprint: Some("MD5:12:34".into()), ..new };
    assert_eq!(code(world.operator.check_host(&wrong).await), Code::InvalidRequest);

    let cordoned = world.operator.cordon_host("h1", "maintenance").await.unwrap();
    assert_eq!(cordoned.cordon.unwrap().reason, "maintenance");
    assert!(world.operator.uncordon_host("h1").await.unwrap().cordon.is_none());
    let change = wire::LabelHost { set: [("gpu".into(), "yes".into())].into(), remove: vec!["zone".into()] };
    let labels = world.operator.label_host("h1", &change).await.unwrap().labels;
    assert_eq!(labels, [("gpu".into(), "yes".into())].into());
    world.operator.remove_host("h1").await.unwrap();
    assert_eq!(code(world.operator.host("h1").await), Code::HostNotFound);
    let id = world.ensure("s1").await.sandbox.id;
    assert_eq!(code(world.operator.remove_host("h0").await), Code::HostBusy);
    world.operator.terminate(id, Wait::Default).await.unwrap();
    assert_eq!(world.operator.hosts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_control_plane_tells_of_itself() {
    let world = World::new().await;
    world.ensure("s1").await;
    let status = world.operator.cluster().await.unwrap();
    assert_eq!((status.node, status.leader, status.nodes.len()), (1, Some(1), 1));
    assert_eq!((status.hosts["ready"], status.sandboxes["running"]), (1, 1));
    assert_eq!(code(world.operator.remove_node(9).await), Code::NodeNotFound);
    assert_eq!(code(world.operator.remove_node(1).await), Code::Conflict);
    assert_eq!(code(world.operator.transfer_leadership(9).await), Code::NodeNotFound);
    assert!(world.operator.health().await.unwrap());
}

#[tokio::test]
async fn readiness_needs_a_quorum_and_liveness_does_not() {
    let world = World::new().await;
    assert_eq!(world.raw(Method::GET, "/readyz").send().await.unwrap().status().as_u16(), 200);
    world.cluster.set_elections(false);
    world.cluster.depose();
    let unready = world.raw(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!(crate::world::problem(unready).await.code, Code::NoQuorum);
    assert_eq!(world.raw(Method::GET, "/healthz").send().await.unwrap().status().as_u16(), 200);
    let stale = world.raw(Method::GET, "/v1/sandboxes?consistency=stale").send().await.unwrap();
    assert_eq!(stale.status().as_u16(), 200, "stale reads need no quorum");
    assert_eq!(world.operator.cluster().await.unwrap().leader, None);
}

#[tokio::test]
async fn requests_carry_an_id_and_metrics_are_text() {
    let world = World::new().await;
    let given = world.raw(Method::GET, "/v1/hosts").header("x-request-id", "trace-7").send().await.unwrap();
    assert_eq!(given.headers()["x-request-id"], "trace-7");
    let made = world.raw(Method::GET, "/v1/hosts").header("x-request-id", "no good\t").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 16);
    let metrics = world.raw(Method::GET, "/metrics").send().await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(metrics.text().await.unwrap(), "plimsoll_up 1\n");
}
