//! Sandboxes come up once, whoever asks and however often.

use crate::world::{LONG, World, request};
use plimsoll_engine::{ClusterOperations, SandboxProvider, Scope, Wait};
use plimsoll_state::command::Idempotency;
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, Phase};

#[tokio::test(start_paused = true)]
async fn a_created_sandbox_runs_and_says_where() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    assert!(made.created && !made.recovered);
    assert_eq!(made.sandbox.phase, Phase::Running);
    assert!(made.tunnel_url().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{:?}", made.sandbox.endpoints);
    let containers = world.host("h0").containers();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0].seen.name, "shadow-session-s1");
    assert_eq!(Some(containers[0].seen.id.as_str()), made.sandbox.container.as_deref());
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn ensure_finds_what_is_there_and_create_refuses_it() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let first = world.ensure("s1").await.expect("a sandbox");
    let again = world.ensure("s1").await.expect("the same");
    assert!(!again.created && again.sandbox.id == first.sandbox.id);
    let refused = world.create(request("s1")).await.expect_err("it is live");
    assert_eq!((refused.code, refused.sandbox), (Code::SessionLive, Some(first.sandbox.id)));
}

#[tokio::test(start_paused = true)]
async fn fifty_concurrent_ensures_give_one_sandbox() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    let providers: Vec<_> = world.providers.values().cloned().collect();
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..50 {
        let provider = providers[i % providers.len()].clone();
        asking.spawn(async move { provider.ensure(request("storm"), Wait::Upto(LONG)).await });
    }
    let answers = asking.join_all().await;
    let made: Vec<_> = answers.into_iter().map(|answer| answer.expect("a sandbox")).collect();
    let ids: std::collections::BTreeSet<_> = made.iter().map(|made| made.sandbox.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(made.iter().filter(|made| made.created).count(), 1);
    assert_eq!((world.state().sandboxes.len(), world.running()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_makes_one_sandbox_and_refuses_another_request() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let keyed = |hash: u8| {
        let mut request = request("unused");
        request.session = None;
        request.idempotency = Some(Idempotency { key: "k1".into(), request_hash: [hash; 32] });
        request
    };
    let first = world.create(keyed(1)).await.expect("a sandbox");
    assert_eq!(first.sandbox.session.as_str(), first.sandbox.id.to_string(), "no session: the id is one");
    let again = world.create(keyed(1)).await.expect("the same");
    assert!(first.created && !again.created && again.sandbox.id == first.sandbox.id);
    let other = world.create(keyed(2)).await.expect_err("another request");
    assert_eq!(other.code, Code::IdempotencyMismatch);
    world.terminate(first.sandbox.id).await;
    let after = world.create(keyed(1)).await.expect("what it was");
    assert_eq!((after.created, after.sandbox.phase), (false, Phase::Terminated));
}

#[tokio::test(start_paused = true)]
async fn calls_into_a_sandbox_need_it_running_and_visible() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    let (provider, id) = (world.provider(), made.sandbox.id);
    assert_eq!(provider.check(&Scope::All, &[id]).await.expect("checks"), [id]);
    let stranger = Scope::Tenant(plimsoll_types::TenantId::new("other").expect("a tenant"));
    assert_eq!(provider.get(&stranger, id).await.expect_err("hidden").code, Code::SandboxNotFound);
    assert!(provider.check(&stranger, &[id]).await.expect("checks").is_empty());
    provider.terminate(&stranger, id, Wait::Upto(LONG)).await.expect("unknown is success");
    assert_eq!(world.sandbox(id).phase, Phase::Running, "another tenant's wish is none");
    world.terminate(id).await;
    let error = provider.stats(&Scope::All, id).await.expect_err("it is gone");
    assert_eq!(error.code, Code::WrongPhase);
    assert!(error.message.contains("is terminated") && error.message.contains("while it is running"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_a_rule_says_where() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let broken = |change: fn(&mut plimsoll_engine::NewSandbox)| {
        let mut request = request("s1");
        change(&mut request);
        request
    };
    for (field, request) in [
        ("resources.cpu", broken(|it| it.spec.resources.cpu.0 = 0)),
        ("resources.memory", broken(|it| it.spec.resources.memory.0 = u64::MAX)),
        ("ports", broken(|it| it.spec.ports = [0].into())),
        ("ports", broken(|it| it.spec.ports = (1..100).collect())),
        ("env", broken(|it| drop(it.spec.env.insert("1X".into(), String::new())))),
        ("env", broken(|it| drop(it.spec.env.insert("X".into(), "x".repeat(200_000))))),
        ("command", broken(|it| it.spec.command = Some(Vec::new()))),
        ("ssh_keys[0]", broken(|it| it.spec.ssh_keys = vec!["rsa".into()])),
        ("lifetime", broken(|it| it.lifetime = Some(plimsoll_types::Millis::ZERO))),
        ("sealed_env", broken(|it| it.spec.sealed_env = Some(Vec::new()))),
    ] {
        let error = world.create(request).await.expect_err(field);
        assert_eq!(error.code, Code::InvalidRequest, "{error}");
        assert!(error.message.starts_with(&format!("{field}: ")), "{error}");
    }
    assert!(world.state().sandboxes.is_empty());
}

/// The leader's loops follow events; where state keeps too few of them, they look at everything instead.
#[tokio::test(start_paused = true)]
async fn everything_starts_and_ends_where_hardly_any_events_are_kept() {
    let world = World::new(&[HostSize::Cpx51, HostSize::Cpx51]).await;
    let policy = world.provider().policy().await.expect("a policy");
    let few = plimsoll_state::Policy { events_kept: 1, ..policy };
    world.provider().set_policy(few, None).await.expect("few events are kept");
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..12 {
        let provider = world.provider();
        asking.spawn(async move { provider.ensure(request(&format!("s{i}")), Wait::Upto(LONG)).await });
    }
    let made: Vec<_> = asking.join_all().await.into_iter().map(|made| made.expect("a sandbox")).collect();
    assert_eq!(world.running(), 12);
    for made in &made {
        world.provider().terminate(&Scope::All, made.sandbox.id, Wait::No).await.expect("is wanted gone");
    }
    for made in &made {
        world.until_phase(made.sandbox.id, Phase::Terminated).await;
    }
    world.assert_settled().await;
    assert_eq!(world.running(), 0);
}
