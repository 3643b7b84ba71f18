//! Hosts that are emptied: everything moves, files and all, whoever leads; what cannot move is named and stays.

use super::{acts::secretive, world::World};
use plimsoll_engine::{ClusterOperations, DrainWish};
use plimsoll_testkit::sim::{HostOp, HostSize, host::Moment};
use plimsoll_types::{NodeId, Phase};

fn wish() -> DrainWish {
    DrainWish { parallel: None, deadline: None, reason: "maintenance".into() }
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_is_empty_and_can_be_taken_away() {
    for kill in [None, Some(HostOp::Commit), Some(HostOp::Pull), Some(HostOp::RemoveContainer)] {
        let world = World::new(1, 3, &[HostSize::Cpx41, HostSize::Cpx51]).await;
        let mut ids = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let id = world.ensure(1, secretive(name)).await.expect("it runs").sandbox.id;
            world.write_both(id).await;
            ids.push(id);
        }
        let host = world.host_id(&world.host(0)).await;
        if let Some(op) = kill {
            super::steps::kill_leader_at(&world, op, Moment::After);
        }
        world.provider(world.follower()).drain_host(host, wish()).await.expect("drained");
        world.until("it is empty", || world.cluster.committed().on_host(host).count() == 0).await;
        world.settle().await;
        assert!(ids.iter().all(|id| world.record(*id).phase == Phase::Running));
        let status = world.provider(NodeId(2)).drain_status(host).await.expect("an answer");
        assert!(status.draining && status.is_empty(), "{status:?}");
        world.provider(NodeId(2)).remove_host(host).await.expect("nothing is on it");
    }
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_stays_and_is_named() {
    let world = World::new(2, 3, &[HostSize::Cpx31, HostSize::Cpx31]).await;
    for name in ["a", "b", "c"] {
        let id = world.ensure(1, secretive(name)).await.expect("it runs").sandbox.id;
        world.write_both(id).await;
    }
    let machine = world.fleet.hosts().into_iter().find(|host| host.running(super::world::cluster_id()).len() == 2);
    let host = world.host_id(&machine.expect("one has two")).await;
    let provider = world.provider(world.follower());
    provider.drain_host(host, wish()).await.expect("drained");
    world.until("one has moved", || world.cluster.committed().on_host(host).count() == 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    let status = provider.drain_status(host).await.expect("an answer");
    assert_eq!(status.left.len(), 1, "{status:?}");
    provider.undrain_host(host).await.expect("undrained");
    world.settle().await;
    assert_eq!(world.in_phase(Phase::Running).len(), 3);
}
