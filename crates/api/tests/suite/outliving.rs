//! Sandboxes that are put away, brought back, held still and moved, over HTTP.

use crate::{
    snapshots::ended,
    world::{LONG, World, code, request},
};
use plimsoll_client::{Accepted, Wait, wire};
use plimsoll_types::{Code, Phase};

#[tokio::test]
async fn a_sandbox_is_paused_and_comes_back_on_another_host() {
    let world = World::new().await;
    let made = world.ensure("s1").await.sandbox;
    let paused = world.operator.pause(made.id, Wait::Default).await.unwrap().done().expect("it waited");
    assert_eq!((paused.sandbox.phase, &paused.sandbox.host), (Phase::Paused, &None));
    assert!(paused.snapshot_id.is_some() && paused.snapshot_id == paused.sandbox.base);
    assert_eq!(world.operator.host("h0").await.unwrap().sandboxes, 0, "its place is free");
    let again = world.operator.pause(made.id, Wait::Default).await.unwrap().done().expect("twice is once");
    assert_eq!(again.snapshot_id, paused.snapshot_id);
    assert_eq!(code(world.operator.migrate(made.id, None, Wait::Default).await), Code::WrongPhase);
    assert_eq!(code(world.operator.freeze(made.id).await), Code::WrongPhase);

    world.add_host("h1").await;
    let how = wire::ResumeSandbox { host: Some("h1".into()), lifetime_s: Some(0) };
    let back = world.operator.resume(made.id, &how, Wait::Default).await.unwrap();
    assert!(back.recovered && !back.created);
    assert_eq!((back.sandbox.id, back.sandbox.phase, back.sandbox.deadline), (made.id, Phase::Running, None));
    assert_eq!(back.sandbox.host.as_ref().map(|host| host.as_str()), Some("h1"));
    assert_eq!(back.sandbox.generation, made.generation + 1);
    let running = world.operator.resume(made.id, &wire::ResumeSandbox::default(), Wait::Default).await.unwrap();
    assert!(!running.recovered, "one that runs is left as it is");
    let nowhere = wire::ResumeSandbox { host: Some("nowhere".into()), lifetime_s: None };
    assert_eq!(code(world.operator.resume(made.id, &nowhere, Wait::Default).await), Code::HostNotFound);
    world.operator.terminate(made.id, Wait::Default).await.unwrap();
    let how = wire::ResumeSandbox::default();
    assert_eq!(code(world.operator.resume(made.id, &how, Wait::Default).await), Code::WrongPhase);
}

#[tokio::test]
async fn a_sandbox_moves_and_says_what_it_cost() {
    let world = World::new().await;
    world.add_host("h1").await;
    let made = world.ensure("s1").await.sandbox;
    let here = made.host.clone().unwrap();
    let there = if here.as_str() == "h0" { "h1" } else { "h0" };
    assert_eq!(code(world.operator.migrate(made.id, Some(here.as_str()), Wait::Default).await), Code::SameHost);
    assert_eq!(code(world.operator.migrate(made.id, Some("nowhere"), Wait::Default).await), Code::HostNotFound);
    world.operator.cordon_host(there, "").await.unwrap();
    let refused = world.operator.migrate(made.id, Some(there), Wait::Default).await.expect_err("it is cordoned");
    assert_eq!(refused.code(), Code::NoCapacity);
    assert!(refused.to_string().contains("cordoned"), "{refused}");
    world.operator.uncordon_host(there).await.unwrap();
    let before = world.operator.sandbox(made.id).await.unwrap();
    assert_eq!((before.phase, before.container), (Phase::Running, made.container), "it was left alone");

    let moved = world.operator.migrate(made.id, Some(there), Wait::Default).await.unwrap().done().expect("it waited");
    assert_eq!((moved.phase, moved.host.as_ref().map(|host| host.as_str())), (Phase::Running, Some(there)));
    let cost = moved.moved.expect("it says");
    assert_eq!((cost.from.as_str(), cost.to.as_str()), (here.as_str(), there));
    let told = ended(&world.operator, cost.operation).await;
    assert_eq!((told.state, told.moved), (wire::OperationState::Done, Some(cost)));
    let begun = world.operator.migrate(made.id, None, Wait::No).await.unwrap();
    let Accepted::UnderWay(operation) = begun else { panic!("{begun:?}") };
    assert_eq!(ended(&world.operator, operation.id).await.state, wire::OperationState::Done);
}

#[tokio::test]
async fn a_tenant_moves_its_own_but_chooses_no_host() {
    let world = World::new().await;
    world.add_host("h1").await;
    let (one, _) = world.platform("one").await;
    let (two, _) = world.platform("two").await;
    let id = one.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    assert_eq!(code(one.migrate(id, Some("h1"), Wait::Default).await), Code::Forbidden);
    one.migrate(id, None, Wait::Default).await.expect("anywhere else");
    let on = wire::ResumeSandbox { host: Some("h1".into()), lifetime_s: None };
    assert_eq!(code(one.resume(id, &on, Wait::Default).await), Code::Forbidden);
    assert_eq!(code(one.drain_host("h0", &wire::DrainHost::default()).await), Code::Forbidden);
    assert_eq!(code(one.drain_status("h0").await), Code::Forbidden);
    assert_eq!(code(one.undrain_host("h0").await), Code::Forbidden);
    assert_eq!(code(one.rebalance(&wire::RebalanceHosts::default()).await), Code::Forbidden);
    let anywhere = wire::ResumeSandbox::default();
    assert_eq!(code(two.pause(id, Wait::Default).await), Code::SandboxNotFound);
    assert_eq!(code(two.resume(id, &anywhere, Wait::Default).await), Code::SandboxNotFound);
    assert_eq!(code(two.migrate(id, None, Wait::Default).await), Code::SandboxNotFound);
    assert_eq!(code(two.freeze(id).await), Code::SandboxNotFound);
    assert_eq!(code(two.thaw(id).await), Code::SandboxNotFound);
    assert_eq!(code(two.awake(id).await), Code::SandboxNotFound);
}

#[tokio::test]
async fn a_frozen_sandbox_shows_since_when_and_goes_on() {
    let world = World::new().await;
    let wish = wire::CreateSandbox { idle_timeout_s: Some(600), checkpoint_every_s: Some(0), ..request("s1") };
    let made = world.operator.ensure(&wish, Wait::Default).await.unwrap().sandbox;
    assert_eq!((made.idle_timeout_s, made.checkpoint_every_s), (Some(600), None));
    let frozen = world.operator.freeze(made.id).await.unwrap();
    assert!(frozen.frozen_since.is_some() && frozen.phase == Phase::Running);
    assert_eq!(world.operator.freeze(made.id).await.unwrap().frozen_since, frozen.frozen_since, "twice is once");
    assert_eq!(world.operator.thaw(made.id).await.unwrap().frozen_since, None);
    assert_eq!(world.operator.awake(made.id).await.unwrap().idle_timeout_s, Some(600));
}

#[tokio::test]
async fn what_is_done_to_a_sandbox_is_told_in_order() {
    let world = World::new().await;
    let made = world.ensure("s1").await.sandbox;
    let mut events = world.operator.events(None).await.unwrap();
    world.operator.freeze(made.id).await.unwrap();
    world.operator.thaw(made.id).await.unwrap();
    world.operator.pause(made.id, Wait::Default).await.unwrap();
    let mut told = Vec::new();
    let read = async {
        while told.last().map(String::as_str) != Some("paused") {
            told.push(match events.next().await.unwrap().expect("the stream goes on").kind {
                wire::EventKind::Frozen { frozen, .. } => format!("frozen {frozen}"),
                wire::EventKind::Work { kind, change, .. } => format!("{kind} {change}"),
                wire::EventKind::Snapshot { phase, .. } => format!("snapshot {}", phase.unwrap()),
                wire::EventKind::Sandbox { phase, .. } => phase.to_string(),
                other => format!("{other:?}"),
            });
        }
    };
    tokio::time::timeout(LONG, read).await.expect("they come");
    let wanted = ["frozen true", "frozen false", "snapshot taking", "pause began", "pausing", "snapshot available"];
    assert_eq!(told[..6], wanted, "{told:?}");
    assert!(told.iter().any(|it| it == "pause taken"), "{told:?}");
}
