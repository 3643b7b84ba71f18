//! Snapshots over HTTP: taken, found, started from, deleted; each tenant's own.

use crate::world::{LONG, World, code, problem, request};
use plimsoll_client::{Accepted, Client, SnapshotFilter, Wait, wire};
use plimsoll_types::{Code, OperationId, SnapshotId, SnapshotName};
use reqwest::Method;

pub async fn taken(client: &Client, id: plimsoll_types::SandboxId, name: Option<&str>) -> wire::Snapshot {
    let name = name.map(|name| SnapshotName::new(name).unwrap());
    client.take_snapshot(id, name.as_ref(), Wait::Default).await.unwrap().done().expect("it waited")
}

/// How an operation ended.
pub async fn ended(client: &Client, id: OperationId) -> wire::Operation {
    let watch = async {
        loop {
            let now = client.operation(id).await.unwrap();
            if now.state != wire::OperationState::Running {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, watch).await.expect("it ends")
}

#[tokio::test]
async fn a_snapshot_is_taken_found_started_from_and_deleted() {
    let world = World::new().await;
    let of = world.ensure("s1").await.sandbox;
    let first = taken(&world.operator, of.id, Some("golden")).await;
    assert_eq!((first.phase, first.kind), (wire::SnapshotPhase::Available, wire::SnapshotKind::Kept));
    assert_eq!((first.sandbox, first.host.as_deref()), (of.id, Some("h0")));
    assert!(first.digest.is_some() && first.size.is_some() && first.taken_at.is_some(), "{first:?}");
    let refused = world.operator.take_snapshot(of.id, first.name.as_ref(), Wait::Default).await;
    assert_eq!(code(refused), Code::SnapshotExists);
    let second = taken(&world.operator, of.id, None).await;
    for which in ["golden", &first.id.to_string()] {
        assert_eq!(world.operator.snapshot(which).await.unwrap().id, first.id);
    }
    let page = |limit, after| SnapshotFilter { sandbox: Some(of.id), limit: Some(limit), after };
    let one = world.operator.snapshots(&page(1, None)).await.unwrap();
    let rest = world.operator.snapshots(&page(5, one.next.clone())).await.unwrap();
    assert_eq!((one.items[0].id, rest.items[0].id, rest.next), (first.id, second.id, None));
    let shown = world.operator.sandbox(of.id).await.unwrap();
    assert_eq!(shown.checkpoint.map(|it| it.snapshot), Some(second.id), "what it would be restored from");

    let from = wire::CreateSandbox { snapshot: Some("golden".into()), ..request("s2") };
    let made = world.operator.ensure(&from, Wait::Default).await.unwrap().sandbox;
    assert_eq!((made.base, &made.image), (Some(first.id), &of.image));
    let refused = world.operator.delete_snapshot("golden").await.expect_err("it is needed");
    assert_eq!(refused.code(), Code::SnapshotInUse);
    assert_eq!(world.operator.snapshot("golden").await.unwrap().used_by, Some(made.id));
    world.operator.terminate(made.id, Wait::Default).await.unwrap();
    world.operator.delete_snapshot("golden").await.unwrap();
    world.operator.delete_snapshot("golden").await.expect("twice is once");
    world.operator.delete_snapshot(&first.id.to_string()).await.expect("unknown is success");
    assert_eq!(code(world.operator.snapshot("golden").await), Code::SnapshotNotFound);
    let first_id = first.id.to_string();
    let forgotten = async {
        // Until the registry has nothing of it, its record says that it is being deleted.
        while world.operator.snapshot(&first_id).await.is_ok_and(|it| it.phase == wire::SnapshotPhase::Deleting) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, forgotten).await.expect("it is forgotten");
    for gone in ["golden", &first_id] {
        let from = wire::CreateSandbox { snapshot: Some(gone.to_owned()), ..request("s3") };
        assert_eq!(code(world.operator.create(&from, Wait::Default, None).await), Code::SnapshotNotFound, "{gone}");
    }
}

#[tokio::test]
async fn another_tenants_snapshot_is_not_there() {
    let world = World::new().await;
    let (one, _) = world.platform("one").await;
    let (two, _) = world.platform("two").await;
    let of = one.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    let snapshot = taken(&one, of, Some("golden")).await;
    let id = snapshot.id.to_string();
    assert_eq!(code(two.take_snapshot(of, None, Wait::Default).await), Code::SandboxNotFound);
    for which in ["golden", &id] {
        assert_eq!(code(two.snapshot(which).await), Code::SnapshotNotFound);
        two.delete_snapshot(which).await.expect("unknown is success");
        let from = wire::CreateSandbox { snapshot: Some(which.to_owned()), ..request("s2") };
        assert_eq!(code(two.ensure(&from, Wait::Default).await), Code::SnapshotNotFound);
    }
    assert!(two.snapshots(&SnapshotFilter::default()).await.unwrap().items.is_empty());
    assert_eq!(one.snapshot("golden").await.unwrap().phase, wire::SnapshotPhase::Available, "nothing happened");
    assert_eq!(world.operator.snapshot("golden").await.unwrap().id, snapshot.id, "operators see all");
    let own = two.ensure(&request("s1"), Wait::Default).await.unwrap().sandbox.id;
    assert_ne!(taken(&two, own, Some("golden")).await.id, snapshot.id, "names are each tenant's own");
}

#[tokio::test]
async fn who_does_not_wait_gets_an_operation() {
    let world = World::new().await;
    let of = world.ensure("s1").await.sandbox.id;
    let asked = world.raw(Method::POST, &format!("/v1/sandboxes/{of}/snapshots")).header("prefer", "respond-async");
    let response = asked.body(r#"{"name": "later"}"#).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 202);
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let operation: wire::Operation = response.json().await.unwrap();
    assert_eq!(place, format!("/v1/operations/{}", operation.id));
    assert_eq!((operation.kind, operation.sandbox), (wire::WorkKind::Snapshot, of));
    let done = ended(&world.operator, operation.id).await;
    assert_eq!((done.state, done.reason), (wire::OperationState::Done, None));
    assert!(done.began.is_some() && done.ended >= done.began);
    assert_eq!(done.snapshot, Some(world.operator.snapshot("later").await.unwrap().id));
    let (stranger, _) = world.platform("stranger").await;
    assert_eq!(code(stranger.operation(operation.id).await), Code::NotFound);
    assert_eq!(code(world.operator.operation(OperationId::from_parts(1, 1)).await), Code::NotFound);
}

#[tokio::test]
async fn a_registry_without_room_leaves_the_sandbox_as_it_was() {
    let world = World::new().await;
    let of = world.ensure("s1").await.sandbox.id;
    world.fleet.registry().set_full(true);
    assert_eq!(code(world.operator.take_snapshot(of, None, Wait::Default).await), Code::RegistryFull);
    assert_eq!(code(world.operator.pause(of, Wait::Default).await), Code::RegistryFull);
    let now = world.operator.sandbox(of).await.unwrap();
    let trouble = now.trouble.expect("it says why");
    assert_eq!((now.phase.as_str(), trouble.kind), ("running", wire::WorkKind::Pause));
    let told = ended(&world.operator, trouble.operation).await;
    assert_eq!(told.state, wire::OperationState::GivenUp);
    assert!(told.reason.is_some_and(|reason| reason.starts_with("registry_full: ")));
}

#[tokio::test]
async fn without_a_registry_nothing_is_snapshot_paused_or_moved() {
    let world = World::without_registry().await;
    world.add_host("h1").await;
    let of = world.ensure("s1").await.sandbox.id;
    assert_eq!(code(world.operator.take_snapshot(of, None, Wait::Default).await), Code::RegistryMissing);
    assert_eq!(code(world.operator.pause(of, Wait::Default).await), Code::RegistryMissing);
    assert_eq!(code(world.operator.migrate(of, None, Wait::Default).await), Code::RegistryMissing);
    let host = world.operator.sandbox(of).await.unwrap().host.unwrap();
    let refused = world.operator.drain_host(host.as_str(), &wire::DrainHost::default()).await;
    assert_eq!(code(refused), Code::RegistryMissing);
    assert_eq!(world.operator.freeze(of).await.unwrap().phase.as_str(), "running", "freezing needs none");
}

#[tokio::test]
async fn the_contracts_own_routes_do_the_same() {
    let world = World::new().await;
    let of = world.ensure("s1").await.sandbox.id;
    let post = |verb: &str| world.raw(Method::POST, &format!("/v1/sandboxes/{of}/{verb}")).send();
    let snapshot = post("snapshot").await.unwrap();
    assert_eq!(snapshot.status().as_u16(), 201);
    let place = snapshot.headers()["location"].to_str().unwrap().to_owned();
    let snapshot: wire::Snapshot = snapshot.json().await.unwrap();
    assert_eq!(place, format!("/v1/snapshots/{}", snapshot.id));
    let paused: wire::Paused = post("pause").await.unwrap().json().await.unwrap();
    assert!(paused.snapshot_id.is_some_and(|id| id != snapshot.id), "{paused:?}");
    let refused = problem(post("snapshot").await.unwrap()).await;
    assert_eq!((refused.code, refused.status), (Code::WrongPhase, 409));
    assert!(refused.detail.contains("paused") && refused.detail.contains("only while it is running"), "{refused:?}");
}

#[tokio::test]
async fn a_second_operation_is_refused_while_one_is_under_way() {
    let world = World::new().await;
    world.add_host("h1").await;
    let of = world.ensure("s1").await.sandbox.id;
    world.fleet.registry().set_slow(LONG);
    let begun = world.operator.take_snapshot(of, None, Wait::No).await.unwrap();
    let Accepted::UnderWay(operation) = begun else { panic!("{begun:?}") };
    assert_eq!(operation.state, wire::OperationState::Running);
    let work = world.operator.sandbox(of).await.unwrap().work.expect("it shows");
    assert_eq!((work.operation, work.kind, Some(work.snapshot)), (operation.id, operation.kind, operation.snapshot));
    assert_eq!(code(world.operator.pause(of, Wait::Default).await), Code::OperationUnderWay);
    assert_eq!(code(world.operator.migrate(of, None, Wait::Default).await), Code::OperationUnderWay);
    assert_eq!(code(world.operator.freeze(of).await), Code::OperationUnderWay);
    let taking = operation.snapshot.map(|id: SnapshotId| id.to_string()).unwrap();
    assert_eq!(code(world.operator.delete_snapshot(&taking).await), Code::SnapshotUnusable);
    let from = wire::CreateSandbox { snapshot: Some(taking), ..request("s2") };
    assert_eq!(code(world.operator.ensure(&from, Wait::Default).await), Code::SnapshotUnusable);
}
