//! Hosts, keys, the control plane, health and metrics.

use crate::world::{World, code, new_host};
use plimsoll_client::{Wait, wire};
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::Code;
use reqwest::Method;
use std::time::{Duration, Instant};

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
    let change = wire::ChangeHost {
        set: [("gpu".into(), "yes".into())].into(),
        remove: vec!["zone".into()],
        price_milli_per_hour: None,
    };
    let before = world.operator.host("h1").await.unwrap().price_milli_per_hour;
    let changed = world.operator.change_host("h1", &change).await.unwrap();
    assert_eq!(changed.price_milli_per_hour, before);
    let labels = changed.labels;
    let price = |price| wire::ChangeHost { price_milli_per_hour: Some(price), ..Default::default() };
    let changed = world.operator.change_host("h1", &price(45)).await.unwrap();
    assert_eq!((changed.price_milli_per_hour, &changed.labels), (45, &labels));
    let absurd = world.operator.change_host("h1", &price(u64::MAX)).await.unwrap_err();
    assert_eq!(absurd.code(), Code::InvalidRequest, "{absurd}");
    assert_eq!(labels, [("gpu".into(), "yes".into())].into());
    assert_eq!(world.operator.remove_host("h1").await.unwrap(), wire::HostRemoved::default());
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
    let host = world.operator.host("h0").await.unwrap();
    assert_eq!((status.sandboxes_by_host.len(), status.sandboxes_by_host[&host.id]["running"]), (1, 1));
    assert_eq!(code(world.operator.remove_node(9).await), Code::NodeNotFound);
    assert_eq!(code(world.operator.remove_node(1).await), Code::Conflict);
    assert_eq!(code(world.operator.transfer_leadership(9).await), Code::NodeNotFound);
    assert_eq!(world.operator.health_report().await.unwrap(), wire::Healthy { healthy: true, reason: None });
}

#[tokio::test]
async fn health_says_why_not_within_the_platforms_budget() {
    let world = World::new().await;
    world.cluster.set_elections(false);
    world.cluster.depose();
    let before = Instant::now();
    let health = world.operator.health_report().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert!(!health.healthy && health.reason.unwrap().contains("no quorum"));
    let world = World::new().await;
    world.operator.remove_host("h0").await.unwrap();
    let health = world.operator.health_report().await.unwrap();
    assert!(!health.healthy && health.reason.unwrap().contains("no host was added"));
}

#[tokio::test]
async fn a_host_that_is_away_is_removed_with_a_warning() {
    let world = World::new().await;
    world.fleet.hosts()[0].disconnect();
    let removed = world.operator.remove_host("h0").await.unwrap();
    assert!(removed.warnings.len() == 1 && removed.warnings[0].contains("may be left"), "{removed:?}");
    assert!(world.operator.hosts().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_policy_is_read_changed_and_sent_back_whole() {
    let world = World::new().await;
    let mut policy = world.operator.cluster_policy().await.unwrap();
    let stale = policy.clone();
    assert_eq!(policy.base_image.as_ref().map(ToString::to_string).as_deref(), Some("base:1"));
    (policy.queue_limit, policy.memory_reserve) = (7, "2GiB".parse().unwrap());
    let set = world.operator.set_cluster_policy(&policy).await.unwrap();
    assert_ne!(set.revision, stale.revision);
    assert_eq!(world.operator.set_cluster_policy(&policy).await.unwrap(), set, "a retry is answered like the first");
    assert_eq!(world.operator.cluster_policy().await.unwrap(), set);
    let other = wire::Policy { queue_limit: 8, ..stale };
    assert_eq!(code(world.operator.set_cluster_policy(&other).await), Code::Conflict, "made from an older one");
    let forced = wire::Policy { revision: None, ..other };
    assert_eq!(world.operator.set_cluster_policy(&forced).await.unwrap().queue_limit, 8);
    let line = world.operator.host("h0").await.unwrap().line;
    assert_eq!(line.memory.0, plimsoll_types::Bytes::mib(31380 - 1024), "what was forced had the old reserve");

    world.ensure("s1").await;
    let renamed = wire::Policy { name_prefix: "other".into(), ..forced };
    assert_eq!(code(world.operator.set_cluster_policy(&renamed).await), Code::Conflict, "names are in use");
    let (platform, _) = world.platform("one").await;
    assert_eq!(code(platform.cluster_policy().await), Code::Forbidden);
    assert_eq!(code(platform.set_cluster_policy(&renamed).await), Code::Forbidden);
}

#[tokio::test]
async fn a_policys_faults_name_their_fields() {
    let world = World::new().await;
    let policy = serde_json::to_value(world.operator.cluster_policy().await.unwrap()).unwrap();
    for (field, value) in [
        ("queue_limits", serde_json::json!(5)),
        ("cpu_overcommit_permille", serde_json::json!(0)),
        ("io_pressure_max_centipercent", serde_json::json!(10_001)),
        ("events_kept", serde_json::json!("many")),
        ("memory_reserve", serde_json::json!("1 parsec")),
        ("retention_s", serde_json::json!(u64::MAX)),
        ("data_dir", serde_json::json!("/a/../..")),
        ("name_prefix", serde_json::json!("a/b")),
        ("base_image", serde_json::json!("Not An Image")),
    ] {
        let mut wrong = policy.clone();
        wrong[field] = value;
        let body = serde_json::to_vec(&wrong).unwrap();
        let refused = world.raw(Method::PUT, "/v1/cluster/policy").body(body).send().await.unwrap();
        let problem = crate::world::problem(refused).await;
        assert_eq!(
            (problem.code, problem.errors[0].pointer.as_str()),
            (Code::InvalidRequest, format!("/{field}").as_str())
        );
    }
    let mut lacking = policy;
    lacking.as_object_mut().unwrap().remove("queue_limit");
    let body = serde_json::to_vec(&lacking).unwrap();
    let refused = world.raw(Method::PUT, "/v1/cluster/policy").body(body).send().await.unwrap();
    assert!(crate::world::problem(refused).await.detail.contains("queue_limit"));
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
    let text = metrics.text().await.unwrap();
    assert!(text.starts_with("plimsoll_up 1\n") && text.contains("plimsoll_host_health{host=\"h0\""), "{text}");
}

/// A log that takes anything but "loud".
#[derive(Default)]
struct Kept(std::sync::Mutex<String>);

impl plimsoll_api::LogFilter for Kept {
    fn filter(&self) -> String {
        self.0.lock().unwrap().clone()
    }
    fn set_filter(&self, filter: &str) -> Result<(), String> {
        if filter == "loud" {
            return Err("loud is no level".to_owned());
        }
        filter.clone_into(&mut self.0.lock().unwrap());
        Ok(())
    }
}

#[tokio::test]
async fn operators_change_what_a_node_logs_and_nobody_else_does() {
    let world =
        World::with(|options| options.log_filter = Some(std::sync::Arc::new(Kept("info".to_owned().into())))).await;
    let shown = world.operator.log_level().await.unwrap();
    assert_eq!((shown.node, shown.filter.as_str()), (1, "info"));
    assert_eq!(world.operator.set_log_level(" debug ").await.unwrap().filter, "debug");
    let long = "a".repeat(2000);
    for wrong in ["loud", long.as_str()] {
        let refused = world.operator.set_log_level(wrong).await;
        assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("/filter")), "{refused:?}");
        assert_eq!(code(refused), Code::InvalidRequest);
    }
    assert_eq!(world.operator.log_level().await.unwrap().filter, "debug", "a refusal changes nothing");
    let (platform, _) = world.platform("one").await;
    assert_eq!(code(platform.set_log_level("trace").await), Code::Forbidden);
    assert_eq!(code(platform.log_level().await), Code::Forbidden);
    assert_eq!(code(World::new().await.operator.log_level().await), Code::Unsupported);
}
