//! Backups, the hold and drift over HTTP.

use crate::world::{World, code};
use futures_util::StreamExt as _;
use plimsoll_client::{Wait, wire};
use plimsoll_state::backup;
use plimsoll_types::Code;
use std::io::Cursor;

#[tokio::test]
async fn a_backup_holds_what_was_acknowledged_and_only_operators_get_it() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let mut pieces = world.operator.backup().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let (header, state) = backup::read(&mut Cursor::new(bytes)).unwrap();
    assert!(state.sandboxes.contains_key(&id) && header.sandboxes == 1 && header.keys >= 1, "{header:?}");

    let (platform, _) = world.platform("one").await;
    assert_eq!(code(platform.backup().await.map(drop)), Code::Forbidden);
    assert_eq!(code(platform.drift().await), Code::Forbidden);
    assert_eq!(code(platform.settle_drift(wire::SettleDrift::default()).await), Code::Forbidden);
    assert_eq!(code(platform.hold_cluster("mine").await), Code::Forbidden);
    assert_eq!(code(platform.resume_cluster(true).await), Code::Forbidden);
}

#[tokio::test]
async fn a_hold_is_shown_refuses_and_ends() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    assert_eq!(code(world.operator.settle_drift(wire::SettleDrift::default()).await), Code::Conflict);
    assert_eq!(code(world.operator.hold_cluster("").await), Code::InvalidRequest);
    world.operator.hold_cluster("we look").await.unwrap();
    assert_eq!(world.operator.cluster().await.unwrap().hold.unwrap().reason, "we look");
    let health = world.operator.health_report().await.unwrap();
    assert!(!health.healthy && health.reason.unwrap().contains("we look"));
    assert_eq!(code(world.operator.terminate(id, Wait::Default).await), Code::OnHold);
    let drift = world.operator.drift().await.unwrap();
    assert_eq!((drift.hosts, drift.counts["same"], drift.lines.len()), (1, 1, 1), "{drift:?}");
    assert_eq!(drift.lines[0].verdict, wire::DriftVerdict::Same);
    world.operator.resume_cluster(false).await.unwrap();
    assert_eq!(world.operator.cluster().await.unwrap().hold, None);
    world.operator.terminate(id, Wait::Default).await.unwrap();
}
