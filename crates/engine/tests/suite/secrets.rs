//! Secrets reach the sandbox and nothing else.

use crate::world::{World, request};
use futures_util::StreamExt;
use plimsoll_engine::{ClusterOperations, SandboxProvider, Scope, Secrets, VpsClusterProvider};
use plimsoll_lifecycle::{
    naming::{PLATFORM_ENV_FILE, SECRETS_FILE},
    ports::Clock,
};
use plimsoll_state::Role;
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, Millis, NodeId, TenantId};
use std::{collections::BTreeMap, time::Duration};

const SECRET: &str = "correct-horse-battery-staple";

async fn file(world: &World, id: plimsoll_types::SandboxId, path: &str) -> String {
    let mut body = world.provider().read_file(&Scope::All, id, path).await.expect("the file");
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await {
        text.extend_from_slice(&chunk.expect("a chunk"));
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test(start_paused = true)]
async fn secrets_are_in_the_sandboxes_memory_and_nowhere_else() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    let mut wish = request("s1");
    wish.secret_env = Secrets(BTreeMap::from([("TOKEN".to_owned(), SECRET.to_owned())]));
    assert!(!format!("{wish:?}").contains(SECRET));
    let made = world.create(wish).await.expect("a sandbox");
    let host = world.host("h0");
    assert_eq!(file(&world, made.sandbox.id, SECRETS_FILE).await, format!("TOKEN={SECRET}\n"));
    let plan = host.containers()[0].plan.clone().expect("a plan");
    assert!(!format!("{plan:?}").contains(SECRET), "{plan:?}");
    let state = world.state();
    let mut snapshot = Vec::new();
    state.write_snapshot(&mut snapshot).expect("a snapshot");
    assert!(!format!("{state:?}").contains(SECRET));
    assert!(!snapshot.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn the_platforms_environment_is_json_where_it_expects_it() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    let env = BTreeMap::from([("A".to_owned(), "1 \"x\"".to_owned())]);
    world.provider().write_env(&Scope::All, made.sandbox.id, env).await.expect("writes");
    assert_eq!(file(&world, made.sandbox.id, PLATFORM_ENV_FILE).await, r#"{"A":"1 \"x\""}"#);
}

#[tokio::test(start_paused = true)]
async fn api_keys_are_shown_once_and_known_by_their_hash() {
    let world = World::with_nodes(3, &[]).await;
    let provider = world.provider();
    let (key, secret) = provider.create_key("ci", Role::Platform, TenantId::default_tenant()).await.expect("a key");
    assert!(secret.starts_with("plm_") && secret.len() > 4 + 26 + 64);
    assert!(!format!("{:?}", world.state()).contains(&secret));
    world.until("the key everywhere", |state| state.keys.len() == 1).await;
    let known = provider.authenticate(&secret).await.expect("answers");
    assert_eq!(known.map(|known| known.id), Some(key.id));
    let mut wrong = secret.clone();
    wrong.pop();
    wrong.push(if secret.ends_with('0') { '1' } else { '0' });
    for bad in [wrong.as_str(), "", "plm_", "plm_x_y", &secret[..40], &format!("{secret}0")] {
        assert!(provider.authenticate(bad).await.expect("answers").is_none(), "{bad}");
    }
    provider.revoke_key(key.id).await.expect("revokes");
    assert!(provider.authenticate(&secret).await.expect("answers").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_key_made_on_one_node_is_known_on_another_at_once() {
    let world = World::with_nodes(3, &[]).await;
    world.cluster.set_lag(NodeId(2), Duration::from_millis(500));
    let tenant = TenantId::default_tenant();
    let (key, secret) = world.providers[&NodeId(1)].create_key("ci", Role::Platform, tenant).await.expect("a key");
    let behind = &world.providers[&NodeId(2)];
    let known = behind.authenticate(&secret).await.expect("answers");
    assert_eq!(known.map(|known| known.id), Some(key.id));
    behind.revoke_key(key.id).await.expect("revokes");
    let asked = world.clock.now();
    assert!(behind.authenticate(&secret).await.expect("answers").is_none(), "where it was revoked, at once");
    let asked_again = world.clock.now();
    assert!(behind.authenticate(&secret).await.expect("answers").is_none());
    assert_eq!(world.clock.now(), asked_again, "no is remembered");
    assert!(asked_again > asked);
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_known_keys_work_and_unknown_ones_are_no_lie() {
    let world = World::with_nodes(3, &[]).await;
    let tenant = TenantId::default_tenant();
    let (_, secret) = world.provider().create_key("ci", Role::Platform, tenant).await.expect("a key");
    world.cluster.set_elections(false);
    world.cluster.depose();
    assert!(world.provider().authenticate(&secret).await.expect("answers").is_some());
    let stranger = VpsClusterProvider::new_secret(world.clock.now()).expect("a secret");
    let before = world.clock.now();
    let error = world.provider().authenticate(&stranger).await.expect_err("nobody can tell");
    assert_eq!(error.code, Code::NoQuorum);
    assert!(world.clock.now().since(before) < Millis::secs(3));
}
