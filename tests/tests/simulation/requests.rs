//! What callers are promised: one sandbox a session, one answer a key, an explained refusal, a bounded wait.

use super::world::{BUDGET, World, keyed, queued, sandbox};
use futures_util::future::join_all;
use plimsoll_engine::{SandboxProvider, Wait};
use plimsoll_state::command::Idempotency;
use plimsoll_testkit::sim::{HostOp, HostSize};
use plimsoll_types::{Code, NodeId, Phase};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn fifty_concurrent_ensures_give_one_container() {
    let world = World::new(1, 3, &[HostSize::Cpx31, HostSize::Cpx41, HostSize::Cpx51]).await;
    let answers = join_all((0..50).map(|nth| world.ensure(nth, sandbox("a")))).await;
    let first = answers[0].as_ref().expect("it runs").sandbox.id;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.sandbox.id == first)));
    assert_eq!(answers.iter().flatten().filter(|it| it.created).count(), 1, "one of them made it");
    assert_eq!((world.starts(), world.effects(HostOp::CreateContainer)), (1, 1));
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn fifty_ensures_survive_their_leader() {
    let world = World::new(2, 3, &[HostSize::Cpx41; 3]).await;
    let storm = join_all((0..50).map(|nth| world.ensure(nth, sandbox("a"))));
    let killing = async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        world.kill_leader();
    };
    let (answers, ()) = tokio::join!(storm, killing);
    let first = answers[0].as_ref().expect("it runs").sandbox.id;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.sandbox.id == first)));
    assert_eq!(world.starts(), 1);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_is_answered_with_what_it_made() {
    let world = World::new(3, 3, &[HostSize::Cpx41]).await;
    let made = world.create(0, keyed("a", "k"), Wait::Upto(BUDGET)).await.expect("it runs");
    assert!(made.created);
    world.kill_leader();
    let again = world.create(1, keyed("a", "k"), Wait::Upto(BUDGET)).await.expect("the same");
    assert_eq!((again.sandbox.id, again.created), (made.sandbox.id, false));

    let mut other = keyed("b", "k");
    other.idempotency = Some(Idempotency { key: "k".into(), request_hash: [2; 32] });
    assert_eq!(world.create(0, other, Wait::No).await.expect_err("another request").code, Code::IdempotencyMismatch);
    let error = world.create(0, keyed("a", "other"), Wait::No).await.expect_err("the session is live");
    assert_eq!((error.code, error.sandbox), (Code::SessionLive, Some(made.sandbox.id)));

    world.terminate(0, made.sandbox.id, Wait::Upto(BUDGET)).await.expect("gone");
    let late = world.create(0, keyed("a", "k"), Wait::Upto(BUDGET)).await.expect("remembered");
    assert_eq!((late.sandbox.id, late.sandbox.phase), (made.sandbox.id, Phase::Terminated));
    world.settle().await;
    assert_eq!(world.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_anew_once_its_sandbox_is_terminated() {
    let world = World::new(4, 3, &[HostSize::Cpx41]).await;
    let first = world.ensure(0, sandbox("a")).await.expect("it runs");
    // Not waited for: the next one has the same names on the same host.
    world.terminate(1, first.sandbox.id, Wait::No).await.expect("accepted");
    let second = world.ensure(2, sandbox("a")).await.expect("it runs");
    assert_ne!(second.sandbox.id, first.sandbox.id);
    world.settle().await;
    assert_eq!((world.starts(), world.in_phase(Phase::Running).len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_known_sizes_take_the_known_numbers_and_the_next_is_told_why_not() {
    for (size, number) in [(HostSize::Cpx31, 2), (HostSize::Cpx41, 4), (HostSize::Cpx51, 8)] {
        let world = World::new(5, 3, &[size]).await;
        let names: Vec<_> = (0..number).map(|nth| format!("s{nth}")).collect();
        let answers = join_all(names.iter().enumerate().map(|(nth, name)| world.ensure(nth, sandbox(name)))).await;
        assert!(answers.iter().all(Result::is_ok), "{size:?}: {answers:?}");
        let error = world.ensure(0, sandbox("one-more")).await.expect_err("no room");
        assert_eq!(error.code, Code::NoCapacity);
        assert!(error.message.starts_with("no host fits 2 vCPU, 3 GiB: 1 "), "{error}");
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_waits_for_room_and_no_longer_than_asked() {
    let world = World::new(6, 3, &[HostSize::Cpx31]).await;
    let first = world.ensure(0, sandbox("a")).await.expect("it runs");
    world.ensure(1, sandbox("b")).await.expect("it runs");
    assert_eq!(world.ensure(2, sandbox("c")).await.expect_err("no room").code, Code::NoCapacity);

    let error = world.ensure(0, queued("c", 5)).await.expect_err("no room in time");
    assert_eq!(error.code, Code::QueueTimeout);

    let waiting = world.ensure(1, queued("d", 120));
    let freeing = async {
        world.until("it waits", || world.in_phase(Phase::Pending).len() == 1).await;
        world.kill_leader();
        world.terminate(2, first.sandbox.id, Wait::Upto(BUDGET)).await.expect("gone");
    };
    let (waited, ()) = tokio::join!(waiting, freeing);
    assert_eq!(waited.expect("it runs").sandbox.phase, Phase::Running);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_sandbox_and_an_extension_wins() {
    let world = World::new(7, 3, &[HostSize::Cpx41]).await;
    let mut short = sandbox("short");
    short.lifetime = Some(plimsoll_types::Millis::secs(60));
    let (kept, lost) = (world.ensure(0, short.clone()).await, {
        let other = plimsoll_types::SessionId::new("other").expect("a session");
        world.ensure(1, plimsoll_engine::NewSandbox { session: Some(other), ..short }).await
    });
    let (kept, lost) = (kept.expect("it runs").sandbox, lost.expect("it runs").sandbox);
    let scope = plimsoll_engine::Scope::All;
    world.provider(NodeId(2)).extend(&scope, kept.id, None).await.expect("extended");
    world.until("the other is gone", || world.record(lost.id).phase == Phase::Terminated).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.record(kept.id).phase, Phase::Running);
    world.settle().await;
}
