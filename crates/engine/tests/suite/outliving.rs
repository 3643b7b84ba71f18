//! Sandboxes outlive their containers: paused, resumed, moved, frozen and copied, with their files, under their id.

use crate::world::{LONG, World, request};
use bytes::Bytes;
use futures_util::TryStreamExt;
use plimsoll_engine::{ClusterOperations, Error, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::{ByteStream, Clock, ExecRequest, WriteOptions};
use plimsoll_state::{SnapshotKind, SnapshotPhase};
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, Millis, Phase, SandboxId, SnapshotName, TenantId};

pub const NOTE: &str = "/workspace/note";
const WAIT: Wait = Wait::Upto(LONG);

pub async fn write(world: &World, id: SandboxId, text: &str) {
    let bytes = Bytes::from(text.to_owned());
    let body: ByteStream = Box::pin(futures_util::stream::once(std::future::ready(Ok(bytes))));
    let written = world.provider().write_file(&Scope::All, id, NOTE, WriteOptions::default(), body).await;
    written.expect("writes");
}

pub async fn read(world: &World, id: SandboxId) -> String {
    let body = world.provider().read_file(&Scope::All, id, NOTE).await.expect("reads");
    let all: Vec<Bytes> = body.try_collect().await.expect("reads on");
    String::from_utf8(all.concat()).expect("text")
}

async fn pause(world: &World, id: SandboxId) {
    let paused = world.provider().pause(&Scope::All, id, WAIT).await.expect("pauses");
    assert_eq!(paused.phase, Phase::Paused);
}

fn code<T>(answer: Result<T, Error>) -> Code {
    answer.err().expect("refused").code
}

#[tokio::test(start_paused = true)]
async fn a_pause_frees_its_host_and_whoever_asks_for_a_file_resumes_it() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    write(&world, id, "kept").await;
    pause(&world, id).await;
    pause(&world, id).await;
    assert!(world.fleet.hosts().iter().all(|host| host.containers().is_empty() && host.volumes().is_empty()));
    assert!(world.state().hosts.values().all(|host| host.sandboxes == 0));
    let refused = world.provider().snapshot(&Scope::All, id, None, WAIT).await.expect_err("it is paused");
    assert!(refused.code == Code::WrongPhase && refused.message.contains("while it is running"), "{refused}");
    assert_eq!(code(world.provider().stats(&Scope::All, id).await), Code::WrongPhase, "a look resumes nothing");
    assert_eq!(read(&world, id).await, "kept");
    let back = world.sandbox(id);
    assert_eq!((back.phase, back.generation.0), (Phase::Running, 2));
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn ensure_resumes_with_a_new_lease_and_a_named_host_is_obeyed() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    pause(&world, id).await;
    tokio::time::sleep(std::time::Duration::from_secs(7200)).await;
    let back = world.ensure("s1").await.expect("resumed");
    assert!(back.recovered && !back.created && back.sandbox.id == id && back.sandbox.phase == Phase::Running);
    assert!(back.sandbox.deadline > Some(world.clock.now()), "{:?}", back.sandbox.deadline);
    let again = world.ensure("s1").await.expect("the same");
    assert!(!again.recovered && !again.created);
    let here = back.sandbox.assignment.expect("a host").host;
    let other = world.state().hosts.values().find(|host| host.id != here).expect("another").clone();
    pause(&world, id).await;
    let lifetime = Some(Millis::secs(60));
    let there =
        world.provider().resume(&Scope::All, id, Some(other.name.as_str()), lifetime, WAIT).await.expect("resumes");
    assert!(there.recovered);
    assert_eq!(there.sandbox.assignment.map(|at| at.host), Some(other.id));
    assert!(there.sandbox.deadline.is_some_and(|deadline| deadline <= world.clock.now().plus(Millis::secs(60))));
    let nowhere = world.provider().resume(&Scope::All, id, Some("h9"), None, WAIT).await;
    assert_eq!(code(nowhere.map(drop)), Code::HostNotFound);
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_resume_it_once() {
    let world = World::with_nodes(3, &[HostSize::Cpx31]).await;
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    pause(&world, id).await;
    let mut asking = tokio::task::JoinSet::new();
    for provider in world.providers.values().cycle().take(20) {
        let provider = std::sync::Arc::clone(provider);
        asking.spawn(async move { provider.tunnels(&Scope::All, id).await });
    }
    for answer in asking.join_all().await {
        assert_eq!(answer.expect("tunnels").len(), 1);
    }
    assert_eq!((world.sandbox(id).generation.0, world.running()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_named_listed_started_from_and_deleted() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let provider = world.provider();
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    write(&world, id, "first").await;
    let name = SnapshotName::new("golden").expect("a name");
    let taken = provider.snapshot(&Scope::All, id, Some(name.clone()), WAIT).await.expect("a snapshot");
    assert_eq!((taken.kind, taken.phase), (SnapshotKind::Kept, SnapshotPhase::Available));
    assert_eq!(world.sandbox(id).phase, Phase::Running);
    assert_eq!(code(provider.snapshot(&Scope::All, id, Some(name), WAIT).await), Code::SnapshotExists);
    write(&world, id, "later").await;

    let own = Scope::Tenant(TenantId::default_tenant());
    let stranger = Scope::Tenant(TenantId::new("other").expect("a tenant"));
    assert_eq!(provider.get_snapshot(&own, "golden").await.expect("by name").id, taken.id);
    assert_eq!(provider.get_snapshot(&Scope::All, "golden").await.expect("by name").id, taken.id);
    assert_eq!(code(provider.get_snapshot(&stranger, &taken.id.to_string()).await), Code::SnapshotNotFound);
    assert_eq!(code(provider.delete_snapshot(&stranger, taken.id).await), Code::SnapshotNotFound);
    let (page, next) = provider.snapshots(&own, Some(id), None, 10).await.expect("a list");
    assert_eq!((page.len(), next), (1, None));
    assert!(provider.snapshots(&stranger, None, None, 10).await.expect("a list").0.is_empty());

    let mut from = request("s2");
    from.spec.snapshot = Some(taken.id);
    let copy = world.create(from.clone()).await.expect("a copy").sandbox;
    assert_eq!(read(&world, copy.id).await, "first");
    assert_eq!(code(provider.delete_snapshot(&own, taken.id).await), Code::SnapshotInUse);
    world.terminate(copy.id).await;
    provider.delete_snapshot(&own, taken.id).await.expect("deletes");
    world.until("the record to go", |state| state.snapshots.is_empty()).await;
    assert!(world.fleet.registry().tags().is_empty());
    assert_eq!(code(world.create(from).await), Code::SnapshotNotFound);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_move_keeps_files_and_says_what_it_cannot_do() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let provider = world.provider();
    let made = world.ensure("s1").await.expect("a sandbox").sandbox;
    write(&world, made.id, "moved").await;
    let here = made.assignment.expect("a host").host;
    let name = |id| world.state().hosts[&id].name.to_string();
    assert_eq!(code(provider.migrate(&Scope::All, made.id, Some(&name(here)), WAIT).await), Code::SameHost);
    assert_eq!(code(provider.migrate(&Scope::All, made.id, Some("h9"), WAIT).await), Code::HostNotFound);
    let there = provider.migrate(&Scope::All, made.id, None, WAIT).await.expect("moves");
    assert_eq!((there.phase, there.generation.0), (Phase::Running, 2));
    assert!(there.assignment.is_some_and(|at| at.host != here) && there.moved.is_some());
    assert_eq!(read(&world, made.id).await, "moved");
    provider.cordon(here, Some("full")).await.expect("cordons");
    let refused = provider.migrate(&Scope::All, made.id, Some(&name(here)), WAIT).await.expect_err("cordoned");
    assert!(refused.code == Code::NoCapacity && refused.message.contains("cordoned"), "{refused}");
    pause(&world, made.id).await;
    assert_eq!(code(provider.migrate(&Scope::All, made.id, None, WAIT).await), Code::WrongPhase);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_frozen_stands_still_until_it_is_needed() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let provider = world.provider();
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    let frozen = provider.freeze(&Scope::All, id, true).await.expect("freezes");
    assert!(frozen.frozen_since.is_some() && frozen.phase == Phase::Running);
    assert!(provider.freeze(&Scope::All, id, true).await.expect("again").frozen_since.is_some());
    let request = ExecRequest { argv: vec!["true".to_owned()], ..ExecRequest::default() };
    drop(provider.exec(&Scope::All, id, request).await.expect("thaws and starts"));
    assert!(world.sandbox(id).frozen_since.is_none());
    provider.freeze(&Scope::All, id, true).await.expect("freezes");
    let back = provider.resume(&Scope::All, id, None, None, WAIT).await.expect("thaws");
    assert!(!back.recovered && back.sandbox.frozen_since.is_none());
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_leaves_the_sandbox_as_it_was_and_says_why() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let provider = world.provider();
    let id = world.ensure("s1").await.expect("a sandbox").sandbox.id;
    world.fleet.registry().set_full(true);
    let refused = provider.snapshot(&Scope::All, id, None, WAIT).await.expect_err("full");
    assert_eq!(refused.code, Code::RegistryFull, "{refused}");
    let refused = provider.pause(&Scope::All, id, WAIT).await.expect_err("full");
    assert_eq!(refused.code, Code::RegistryFull, "{refused}");
    let after = world.sandbox(id);
    assert_eq!((after.phase, after.generation.0), (Phase::Running, 1));
    assert!(after.trouble.is_some());
    world.fleet.registry().set_full(false);
    pause(&world, id).await;
    assert!(world.sandbox(id).trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_pauses_what_asks_for_it() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let mut brief = request("brief");
    brief.lifetime = Some(Millis::secs(60));
    brief.spec.on_expiry = plimsoll_types::ExpiryAction::Pause;
    let id = world.create(brief.clone()).await.expect("a sandbox").sandbox.id;
    world.until_phase(id, Phase::Paused).await;
    let back = world.provider().resume(&Scope::All, id, None, None, WAIT).await.expect("resumes").sandbox;
    assert!(back.deadline > Some(world.clock.now().plus(Millis::secs(50))), "its own lifetime again");
    // While it cannot be paused it runs on, and is tried again.
    world.fleet.registry().set_down(true);
    world.until("trouble", |state| state.sandboxes[&id].trouble.is_some()).await;
    assert_eq!(world.sandbox(id).phase, Phase::Running);
    world.fleet.registry().set_down(false);
    world.until_phase(id, Phase::Paused).await;
    world.assert_settled().await;
}
