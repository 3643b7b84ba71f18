//! What a scrape shows is so: on every node what is in the state, on the leader alone what it measured.

use crate::world::{LONG, World};
use plimsoll_engine::ClusterOperations;
use plimsoll_testkit::{sim::HostSize, wait::wait_for};
use plimsoll_types::NodeId;

fn scrape(world: &World, node: u64) -> String {
    world.providers[&NodeId(node)].gauges()
}

async fn until(world: &World, node: u64, what: &str, condition: impl Fn(&str) -> bool) {
    let look = || async { condition(&scrape(world, node)) };
    wait_for(what, LONG, look).await.unwrap_or_else(|error| panic!("{error}: {}", scrape(world, node)));
}

const MEASURED: &str = "plimsoll_host_measured_cpu_cores{host=\"h0\"}";
const WAITING: &str = "plimsoll_placements_waiting 0";

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_shows_no_measurements_and_the_next_one_does() {
    let world = World::with_nodes(2, &[HostSize::Cpx31]).await;
    world.cluster.elect(NodeId(1));
    until(&world, 1, "measured", |text| text.contains(MEASURED) && text.contains(WAITING)).await;
    assert!(!scrape(&world, 2).contains("measured"));
    world.cluster.elect(NodeId(2));
    until(&world, 2, "the new leader's", |text| text.contains(MEASURED) && text.contains(WAITING)).await;
    let deposed = scrape(&world, 1);
    assert!(!deposed.contains("measured") && !deposed.contains("plimsoll_placements_waiting"), "{deposed}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_state_is_right_on_every_node_and_gone_with_its_host() {
    let world = World::with_nodes(2, &[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    let running = "plimsoll_sandboxes{phase=\"running\",host=\"h0\"}";
    for node in [1, 2] {
        until(&world, node, "one runs", |text| text.contains(&format!("{running} 1\n"))).await;
        let text = scrape(&world, node);
        for line in [
            "plimsoll_queue_sandboxes 0",
            "plimsoll_host_health{host=\"h0\",health=\"ready\"} 1",
            "plimsoll_host_capacity_cpu_cores{host=\"h0\"} 4.000",
            "plimsoll_host_reserved_cpu_cores{host=\"h0\"} 2.000",
            "plimsoll_host_reserved_memory_bytes{host=\"h0\"} 3221225472",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }
    world.terminate(made.sandbox.id).await;
    let host = world.provider().host("h0").await.expect("there").host.id;
    world.provider().remove_host(host).await.expect("removed");
    for node in [1, 2] {
        until(&world, node, "no series of it", |text| !text.contains("h0")).await;
        assert!(scrape(&world, node).contains("plimsoll_sandboxes{phase=\"terminated\",host=\"\"} 1\n"));
    }
}
