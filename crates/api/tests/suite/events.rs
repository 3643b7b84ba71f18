//! Events: in order, without gaps, resumable, each tenant's own.

use crate::world::{LONG, World, code, request};
use plimsoll_client::{EventStream, Heard, Wait, wire};
use plimsoll_types::{Code, Phase, SandboxId};
use std::time::Duration;

async fn until(stream: &mut EventStream, id: SandboxId, wanted: Phase) -> Vec<wire::Event> {
    let mut seen = Vec::new();
    let read = async {
        loop {
            let event = stream.next().await.expect("an event").expect("the stream goes on");
            let done = matches!(&event.kind, wire::EventKind::Sandbox { sandbox, phase, .. } if *sandbox == id && *phase == wanted);
            seen.push(event);
            if done {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, read).await.expect("it comes");
    seen
}

#[tokio::test]
async fn events_come_in_order_and_resume_after_the_last_one_seen() {
    let world = World::new().await;
    let mut live = world.operator.events(None).await.unwrap();
    let id = world.ensure("s1").await.sandbox.id;
    let seen = until(&mut live, id, Phase::Running).await;
    assert!(seen.windows(2).all(|pair| pair[0].id() < pair[1].id()), "{seen:?}");
    drop(live);
    world.operator.terminate(id, Wait::Default).await.unwrap();
    for (at, last) in seen.iter().enumerate() {
        let mut resumed = world.operator.events(Some(last.id())).await.unwrap();
        let rest = until(&mut resumed, id, Phase::Terminated).await;
        assert_eq!(seen[at + 1..], rest[..seen.len() - at - 1], "nothing twice, nothing left out");
    }
    let response = world
        .raw(reqwest::Method::GET, "/v1/events")
        .header("last-event-id", seen[0].id().to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
}

#[tokio::test]
async fn a_tenant_sees_its_own_events_only() {
    let world = World::new().await;
    let (one, _) = world.platform("one").await;
    let mut live = one.events(Some(wire::EventId::default())).await.unwrap();
    world.ensure("operators").await;
    let id = one.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    for event in until(&mut live, id, Phase::Running).await {
        assert!(
            matches!(&event.kind, wire::EventKind::Sandbox { tenant, .. } if tenant.as_str() == "one"),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn events_that_are_gone_are_a_clear_refusal() {
    let world = World::new().await;
    let beginning = wire::EventId::default();
    world.operator.events(Some(beginning)).await.expect("nothing was dropped yet");
    let look = || async { world.cluster.committed().events.len() >= 200 };
    let mut n = 0;
    while !look().await {
        world.operator.cordon_host("h0", &format!("{n}")).await.unwrap();
        world.operator.uncordon_host("h0").await.unwrap();
        n += 1;
        assert!(n < 300, "events are kept without bound");
    }
    world.operator.cordon_host("h0", "one more").await.unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(5), world.operator.events(Some(beginning))).await.unwrap();
    assert_eq!(code(refused.map(drop)), Code::EventsGone);
    // Who asks for what is kept gets just that.
    let mut kept = world.operator.events_kept().await.unwrap();
    let mut seen = Vec::new();
    while let Some(Heard::Event(event)) = tokio::time::timeout(LONG, kept.heard()).await.unwrap().unwrap() {
        seen.push((event.index, event.seq));
    }
    let now: Vec<_> = world.cluster.committed().events.iter().map(|event| (event.index, event.seq)).collect();
    assert_eq!(seen, now);
}

#[tokio::test]
async fn a_stream_that_has_caught_up_says_where_it_is() {
    let world = World::new().await;
    let (one, _) = world.platform("one").await;
    let id = world.ensure("operators").await.sandbox.id;
    let mut live = one.events(Some(wire::EventId::default())).await.unwrap();
    let heard = tokio::time::timeout(LONG, live.heard()).await.unwrap().unwrap();
    let Some(Heard::Position(here)) = heard else { panic!("another tenant's events are not its own: {heard:?}") };
    let last = world.cluster.committed().events.back().map(|event| event.index).unwrap();
    assert!(here.index >= last, "{here} is before {last}");
    // What comes later is told from there on, and nothing of it is missing.
    let own = one.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    let mut resumed = one.events(Some(here)).await.unwrap();
    let (live, resumed) = (until(&mut live, own, Phase::Running).await, until(&mut resumed, own, Phase::Running).await);
    assert!(live == resumed && !live.is_empty(), "{live:?} {resumed:?}");
    // An operator's stream tells the events first, then that these were all.
    let mut all = world.operator.events(Some(wire::EventId::default())).await.unwrap();
    let mut seen = Vec::new();
    while let Some(Heard::Event(event)) = all.heard().await.unwrap() {
        seen.push(event);
    }
    assert!(seen.iter().any(|event| matches!(&event.kind, wire::EventKind::Sandbox { sandbox, .. } if *sandbox == id)));
}
