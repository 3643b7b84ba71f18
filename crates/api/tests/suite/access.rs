//! Who may do what, and who is nobody.

use crate::world::{World, client, code, key, problem, request};
use plimsoll_client::{ExecEvent, Wait, wire};
use plimsoll_state::Role;
use plimsoll_types::Code;
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn a_missing_or_wrong_key_is_refused_everywhere() {
    let world = World::new().await;
    for key in [None, Some("plm_wrong".to_owned()), Some(format!("{}0", world.operator_key))] {
        let nobody = client(world.address, key.as_ref());
        assert_eq!(code(nobody.ensure(&request("s1"), Wait::Default).await), Code::Unauthorized);
        assert_eq!(code(nobody.hosts().await), Code::Unauthorized);
        assert_eq!(code(nobody.events(None).await.map(drop)), Code::Unauthorized);
        assert_eq!(code(nobody.metrics().await.map(drop)), Code::Unauthorized);
    }
    let open = reqwest::get(world.url("/healthz")).await.unwrap();
    assert_eq!(open.status(), StatusCode::OK, "health needs no key");
    let refused = reqwest::get(world.url("/v1/sandboxes")).await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    problem(refused).await;
}

#[tokio::test]
async fn a_revoked_key_is_nobody() {
    let world = World::new().await;
    let made = world
        .operator
        .create_key(&wire::CreateKey { name: "p".into(), role: wire::Role::Platform, tenant: None })
        .await
        .unwrap();
    let platform = client(world.address, Some(&made.secret.0));
    platform.sandboxes(&plimsoll_client::SandboxFilter::default()).await.expect("it works");
    world.operator.revoke_key(made.key.id).await.unwrap();
    assert_eq!(code(platform.sandbox(world.ensure("s").await.sandbox.id).await), Code::Unauthorized);
    assert!(!format!("{made:?}").contains(&made.secret.0), "secrets do not print");
}

#[tokio::test]
async fn another_tenants_sandbox_is_not_there() {
    let world = World::new().await;
    let (one, _) = world.platform("one").await;
    let (two, _) = world.platform("two").await;
    let id = one.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    assert_eq!(code(two.sandbox(id).await), Code::SandboxNotFound);
    assert_eq!(code(two.stats(id).await), Code::SandboxNotFound);
    assert_eq!(
        code(two.exec(id, &wire::ExecRequest { argv: vec!["true".into()], ..Default::default() }).await),
        Code::SandboxNotFound
    );
    assert_eq!(code(two.read_file(id, "/etc/passwd").await.map(drop)), Code::SandboxNotFound);
    let stream = two.exec_stream(id, &wire::ExecRequest { argv: vec!["true".into()], ..Default::default() }).await;
    assert_eq!(code(stream.map(drop)), Code::SandboxNotFound, "before the WebSocket opens");
    assert_eq!(two.check(&[id]).await.unwrap(), []);
    assert!(two.sandboxes(&Default::default()).await.unwrap().items.is_empty());
    two.terminate(id, Wait::Default).await.expect("unknown is success");
    assert_eq!(one.check(&[id]).await.unwrap(), [id], "and nothing happened");
    let own = two.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox;
    assert_ne!(own.id, id, "sessions are each tenant's own");
    let foreign = wire::CreateSandbox { tenant: Some(one.sandbox(id).await.unwrap().tenant), ..request("s2") };
    assert_eq!(code(two.ensure(&foreign, Wait::Default).await), Code::Forbidden);
}

#[tokio::test]
async fn roles_bound_what_a_key_may_do() {
    let world = World::new().await;
    let (platform, _) = world.platform("one").await;
    assert_eq!(code(platform.hosts().await), Code::Forbidden);
    assert_eq!(code(platform.keys().await), Code::Forbidden);
    assert_eq!(code(platform.cluster().await), Code::Forbidden);
    let metrics = client(world.address, Some(&key(&world.provider, Role::Metrics, "one").await));
    drop(metrics.metrics().await.expect("metrics are what it is for"));
    assert_eq!(code(metrics.sandboxes(&Default::default()).await), Code::Forbidden);
    assert_eq!(code(metrics.hosts().await), Code::Forbidden);
}

#[tokio::test]
async fn metrics_need_a_key_unless_they_are_public() {
    for (public, expected) in [(false, StatusCode::UNAUTHORIZED), (true, StatusCode::OK)] {
        let world = World::with(|options| options.metrics_public = public).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(http.get(world.url("/metrics")).send().await.unwrap().status(), expected);
        let other = http.get(world.url("/v1/sandboxes")).send().await.unwrap();
        assert_eq!(other.status(), StatusCode::UNAUTHORIZED, "only metrics are public");
    }
}

#[tokio::test]
async fn overload_is_a_typed_refusal_and_health_still_answers() {
    let world = World::with(|options| (options.max_requests, options.max_streams) = (64, 1)).await;
    let id = world.ensure("s1").await.sandbox.id;
    let cat = wire::ExecRequest { argv: vec!["cat".into()], interactive: true, ..Default::default() };
    let (mut input, mut output) = world.operator.exec_stream(id, &cat).await.expect("the only stream");
    assert_eq!(code(world.operator.exec_stream(id, &cat).await.map(drop)), Code::Overloaded);
    input.close_stdin().await.unwrap();
    assert_eq!(output.next().await.unwrap(), Some(ExecEvent::Exit { code: 0, timed_out: false }));
    drop((input, output));

    assert!(world.operator.health().await.unwrap());
    let full = World::with(|options| options.max_connections = 64).await;
    assert_eq!(full.raw(Method::GET, "/readyz").send().await.unwrap().status(), StatusCode::OK);
}
