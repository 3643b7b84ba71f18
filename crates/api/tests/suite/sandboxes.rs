//! A sandbox's life over HTTP, in the platform's words.

use crate::world::{World, code, request};
use plimsoll_client::{SandboxFilter, Wait, wire};
use plimsoll_engine::ClusterOperations;
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, When};
use plimsoll_types::{Code, NodeId, Phase};
use reqwest::Method;
use std::time::Duration;

#[tokio::test]
async fn a_sandbox_is_made_found_extended_and_taken_down() {
    let world = World::new().await;
    let made = world.ensure("s1").await;
    assert!(made.created && !made.recovered && made.sandbox.phase == Phase::Running);
    assert!(made.sandbox.tunnel_url.as_deref().is_some_and(|url| url.starts_with("http://")), "{made:?}");
    assert_eq!((made.sandbox.host.unwrap().as_str(), made.sandbox.image.as_str()), ("h0", "base:1"));
    let id = made.sandbox.id;
    assert!(!world.ensure("s1").await.created);
    assert_eq!(code(world.operator.create(&request("s1"), Wait::Default, None).await), Code::SessionLive);
    let found = world.operator.sandbox(id).await.unwrap();
    assert_eq!(world.operator.tunnels(id).await.unwrap().tunnel_url, found.tunnel_url);
    assert_eq!(world.operator.check(&[id]).await.unwrap(), [id]);
    world.operator.stats(id).await.expect("stats");
    world.operator.write_env(id, [("TOKEN".to_owned(), "x".to_owned())].into()).await.expect("written");

    let until = wire::ExtendSandbox { lifetime_s: Some(7200), deadline: None };
    let longer = world.operator.extend(id, &until).await.unwrap();
    assert!(longer.deadline > found.deadline);
    assert_eq!(code(world.operator.extend(id, &wire::ExtendSandbox::default()).await), Code::InvalidRequest);
    let forever =
        world.operator.extend(id, &wire::ExtendSandbox { lifetime_s: Some(0), deadline: None }).await.unwrap();
    assert_eq!(forever.deadline, None);

    world.operator.terminate(id, Wait::Default).await.unwrap();
    world.operator.terminate(id, Wait::Default).await.expect("twice is once");
    assert_eq!(world.operator.check(&[id]).await.unwrap(), []);
    assert_eq!(world.operator.sandbox(id).await.unwrap().phase, Phase::Terminated);
    assert_eq!(code(world.operator.tunnels(id).await), Code::WrongPhase);
}

#[tokio::test]
async fn waiting_is_the_callers_choice() {
    let world = World::new().await;
    let made = world.operator.ensure(&request("s1"), Wait::No).await.unwrap();
    assert!(made.created);
    let body = serde_json::to_vec(&request("s2")).unwrap();
    let response =
        world.raw(Method::POST, "/v1/sandboxes").header("prefer", "respond-async").body(body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 202);
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let sandbox: wire::Sandbox = response.json().await.unwrap();
    assert_eq!(place, format!("/v1/sandboxes/{}", sandbox.id));
    let ready = world.operator.ensure(&request("s2"), Wait::Upto(Duration::from_secs(20))).await.unwrap();
    assert_eq!((ready.sandbox.id, ready.sandbox.phase), (sandbox.id, Phase::Running));
}

#[tokio::test]
async fn lists_filter_and_page() {
    let world = World::new().await;
    for n in 0..5 {
        let labels = [("n".into(), n.to_string().into()), ("all".into(), "yes".into())].into();
        world
            .operator
            .ensure(&wire::CreateSandbox { labels, ..request(&format!("s{n}")) }, Wait::Default)
            .await
            .unwrap();
    }
    let list = async |filter: SandboxFilter| world.operator.sandboxes(&filter).await.unwrap();
    let sessions =
        |page: &wire::Page<wire::Sandbox>| page.items.iter().map(|it| it.session.to_string()).collect::<Vec<_>>();
    let first = list(SandboxFilter { limit: Some(2), labels: vec!["all=yes".into()], ..Default::default() }).await;
    assert_eq!(sessions(&first), ["s0", "s1"]);
    let rest = list(SandboxFilter { limit: Some(3), after: first.next, ..Default::default() }).await;
    assert_eq!((sessions(&rest), &rest.next), (vec!["s2".to_owned(), "s3".into(), "s4".into()], &None));
    assert_eq!(sessions(&list(SandboxFilter { labels: vec!["n=3".into()], ..Default::default() }).await), ["s3"]);
    assert_eq!(
        sessions(&list(SandboxFilter { session: Some("s4".into()), stale: true, ..Default::default() }).await),
        ["s4"]
    );
    assert_eq!(list(SandboxFilter { host: Some("h0".into()), ..Default::default() }).await.items.len(), 5);
    world.operator.terminate(rest.items[0].id, Wait::Default).await.unwrap();
    assert_eq!(list(SandboxFilter::default()).await.items.len(), 4);
    assert_eq!(list(SandboxFilter { all: true, ..Default::default() }).await.items.len(), 5);
    let gone = list(SandboxFilter { phases: vec![Phase::Terminated], ..Default::default() }).await;
    assert_eq!(sessions(&gone), ["s2"]);
    let metadata: wire::Page<wire::Sandbox> =
        world.raw(Method::GET, "/v1/sandboxes?metadata=n%3D1").send().await.unwrap().json().await.unwrap();
    assert_eq!(sessions(&metadata), ["s1"]);
    assert_eq!(
        code(world.operator.sandboxes(&SandboxFilter { host: Some("h9".into()), ..Default::default() }).await),
        Code::HostNotFound
    );
}

#[tokio::test]
async fn no_room_explains_itself_and_a_dry_run_places_nothing() {
    let world = World::new().await;
    let huge = wire::CreateSandbox { memory: Some("999GiB".parse().unwrap()), ..request("big") };
    let refused = world.operator.ensure(&huge, Wait::Default).await.expect_err("no room");
    assert_eq!(refused.code(), Code::NoCapacity);
    assert!(refused.to_string().starts_with("no host fits"), "{refused}");
    let explained = world.operator.explain(&huge).await.unwrap();
    assert_eq!((explained.chosen, explained.sentence), (None, refused.to_string()));
    assert!(explained.hosts[0].rejection.is_some());
    let fits = world.operator.explain(&request("small")).await.unwrap();
    assert_eq!(fits.chosen.unwrap().as_str(), "h0");
    assert!(fits.hosts[0].score_ppm.is_some());
    assert!(world.cluster.committed().sandboxes.is_empty());
}

#[tokio::test]
async fn a_terminal_says_where_to_log_in() {
    let world = World::new().await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here";
    let body = serde_json::json!({"session": "t1", "ssh_keys": [key], "git_token": "hunter2"});
    let terminal = world.operator.create_terminal(&serde_json::from_value(body).unwrap(), Wait::Default).await.unwrap();
    let sandbox = &terminal.provided.sandbox;
    assert_eq!((terminal.ssh_host.as_str(), terminal.ssh_port), ("gateway.example", 2222));
    assert_eq!(terminal.ssh_user, sandbox.id.to_string());
    assert!(sandbox.preview_url.is_some() && !format!("{sandbox:?}").contains("hunter2"));
    let without = World::with(|options| options.gateway = None).await;
    let body = serde_json::json!({"session": "t1", "ssh_keys": [key]});
    assert_eq!(
        code(without.operator.create_terminal(&serde_json::from_value(body).unwrap(), Wait::Default).await),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_takedown_that_takes_long_is_accepted_and_goes_on() {
    let world = World::with(|options| options.default_wait = Duration::from_millis(300)).await;
    let made = world.operator.ensure(&request("s1"), Wait::Upto(Duration::from_secs(20))).await.unwrap();
    let id = made.sandbox.id;
    let host = world.fleet.hosts()[0].clone();
    host.fault(HostOp::RemoveContainer, Mishap::Unreachable, When::Always);
    let accepted = world.raw(Method::DELETE, &format!("/v1/sandboxes/{id}")).send().await.unwrap();
    assert_eq!(accepted.status().as_u16(), 202);
    assert_eq!(accepted.headers()["location"], format!("/v1/sandboxes/{id}"));
    assert_eq!(accepted.json::<wire::Sandbox>().await.unwrap().phase, Phase::Terminating);
    let wait = Wait::Upto(Duration::from_secs(1));
    assert_eq!(code(world.operator.terminate(id, wait).await), Code::Timeout, "a typed caller who waits is told");
    world.operator.terminate(id, Wait::No).await.expect("accepted is enough");
    host.heal();
    world.operator.terminate(id, Wait::Upto(crate::world::LONG)).await.expect("gone");
    let gone = world.raw(Method::DELETE, &format!("/v1/sandboxes/{id}")).header("prefer", "respond-async");
    assert_eq!(gone.send().await.unwrap().status().as_u16(), 204, "there is nothing left to wait for");
}

#[tokio::test]
async fn a_node_that_lags_knows_new_keys_and_lists_by_new_hosts() {
    let world = World::serving(3, |_| {}).await;
    world.cluster.set_lag(NodeId(3), Duration::from_millis(500));
    let key = crate::world::key(&world.leader, plimsoll_state::Role::Operator, "default").await;
    let operator = crate::world::client(world.address, Some(&key));
    operator.hosts().await.expect("a key made elsewhere a moment ago is known");

    let machine = world.fleet.add("h1", HostSize::Cpx31);
    let new = plimsoll_engine::NewHost {
        name: plimsoll_types::HostName::new("h1").unwrap(),
        address: machine.address().clone(),
        identity: plimsoll_types::Identity::NodeDefault,
        fingerprint: Some("SHA256:sim-h1".into()),
        labels: plimsoll_types::Labels::new(),
        price_milli_per_hour: 0,
        publish: plimsoll_types::PublishAddress::default(),
        advertise: None,
    };
    world.leader.add_host(new).await.expect("a host");
    let on = SandboxFilter { host: Some("h1".into()), ..Default::default() };
    assert!(operator.sandboxes(&on).await.expect("there is such a host").items.is_empty());
    let nowhere = SandboxFilter { host: Some("nowhere".into()), ..Default::default() };
    assert_eq!(code(operator.sandboxes(&nowhere).await), Code::HostNotFound);
}

fn batch(sessions: &[&str]) -> wire::BatchPlacements {
    wire::BatchPlacements { sandboxes: sessions.iter().map(|session| request(session)).collect() }
}

/// The sandboxes and the codes of a batch, in order.
fn results(placed: &wire::BatchPlaced) -> Vec<Result<&wire::Provided, Code>> {
    let each = placed.results.iter();
    each.map(|result| match result {
        wire::BatchResult::Provided(provided) => Ok(provided.as_ref()),
        wire::BatchResult::Problem(problem) => Err(problem.code),
    })
    .collect()
}

#[tokio::test]
async fn a_batch_is_placed_together_and_each_gets_its_own_answer() {
    let world = World::new().await;
    let live = world.ensure("s1").await.sandbox.id;
    let asked = batch(&["s0", "s1", "s2", "s0"]);
    let placed = world.operator.create_many(&asked, Wait::Default, Some("b-1")).await.unwrap();
    let [Ok(first), Err(Code::SessionLive), Ok(third), Err(Code::SessionLive)] = results(&placed)[..] else {
        panic!("{placed:?}")
    };
    for (made, session) in [(first, "s0"), (third, "s2")] {
        assert!(made.created && made.sandbox.phase == Phase::Running, "{made:?}");
        assert_eq!(made.sandbox.session.as_str(), session);
    }
    let wire::BatchResult::Problem(problem) = &placed.results[1] else { unreachable!() };
    assert_eq!(problem.sandbox_id, Some(live));
    assert!(!problem.instance.is_empty(), "the request's id is in each problem");

    let again = world.operator.create_many(&asked, Wait::Default, Some("b-1")).await.unwrap();
    let [Ok(one), Err(_), Ok(three), Err(_)] = results(&again)[..] else { panic!("{again:?}") };
    assert_eq!((one.sandbox.id, three.sandbox.id), (first.sandbox.id, third.sandbox.id), "the key made no others");
    assert!(!one.created && !three.created);

    let early = world.operator.create_many(&batch(&["s3"]), Wait::No, None).await.unwrap();
    assert!(results(&early)[0].is_ok_and(|made| made.created), "{early:?}");
}

#[tokio::test]
async fn a_batch_with_a_wrong_field_makes_nothing() {
    let world = World::new().await;
    let mut asked = batch(&["s0", "s1", "s2"]);
    asked.sandboxes[1].pids = Some(0);
    asked.sandboxes[2].constraints = vec!["=".to_owned()];
    let error = world.operator.create_many(&asked, Wait::No, None).await.unwrap_err();
    let said = error.to_string();
    assert_eq!(code(Err::<(), _>(error)), Code::InvalidRequest);
    assert!(said.contains("/sandboxes/1/pids") && said.contains("/sandboxes/2/constraints/0"), "{said}");
    for size in [0, 257] {
        let asked = wire::BatchPlacements { sandboxes: vec![request("x"); size] };
        assert_eq!(code(world.operator.create_many(&asked, Wait::No, None).await), Code::InvalidRequest, "{size}");
    }
    let long = "k".repeat(254);
    assert_eq!(code(world.operator.create_many(&batch(&["a"]), Wait::No, Some(&long)).await), Code::InvalidRequest);
    let all = world.operator.sandboxes(&SandboxFilter::default()).await.unwrap();
    assert!(all.items.is_empty(), "{all:?}");
}
