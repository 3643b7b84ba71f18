//! Each step of snapshot, pause, resume and migration with each mishap: the leader dies before or after it, it is done twice, its
//! answer is lost, it fails, it hangs. Every time the operation is done in the end, or given up with the sandbox as it was; what was
//! written is there, and nothing is left over.

use super::{
    acts::secretive,
    steps::kill_leader_at,
    world::{World, cluster_id},
};
use plimsoll_engine::{Error, Wait};
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, RegistryOp, When, host::Moment};
use plimsoll_types::{Code, Generation, Phase, SandboxId};
use std::time::Duration;

const SIZES: [HostSize; 2] = [HostSize::Cpx41, HostSize::Cpx41];

#[derive(Clone, Copy, Debug)]
enum Flow {
    Snapshot,
    Pause,
    Resume,
    Migrate,
}

use Flow::{Migrate, Pause, Resume, Snapshot};

/// Every operation with the host steps it takes.
const FLOWS: [(Flow, &[HostOp]); 4] = [
    (Snapshot, &[HostOp::Freeze, HostOp::Commit, HostOp::Thaw, HostOp::Push]),
    (
        Pause,
        &[
            HostOp::Freeze,
            HostOp::Commit,
            HostOp::Push,
            HostOp::ListContainers,
            HostOp::RemoveContainer,
            HostOp::RemoveWorkspace,
        ],
    ),
    (Resume, &[HostOp::Pull, HostOp::CreateContainer, HostOp::StartContainer, HostOp::Files]),
    (
        Migrate,
        &[
            HostOp::Freeze,
            HostOp::Commit,
            HostOp::Push,
            HostOp::ListContainers,
            HostOp::Pull,
            HostOp::CreateContainer,
            HostOp::StartContainer,
            HostOp::Files,
            HostOp::RemoveContainer,
            HostOp::RemoveWorkspace,
        ],
    ),
];

fn steps() -> impl Iterator<Item = (Flow, HostOp)> {
    FLOWS.into_iter().flat_map(|(flow, ops)| ops.iter().map(move |op| (flow, *op)))
}

impl Flow {
    /// A sandbox with files, at the point where the operation can begin.
    async fn begin(self) -> (World, SandboxId) {
        let world = World::new(1, 3, &SIZES).await;
        let id = world.ensure(1, secretive("a")).await.expect("it runs").sandbox.id;
        world.write_both(id).await;
        if matches!(self, Resume) {
            world.pause(1, id).await.expect("paused");
            // On the other host, so that the image has to come from the registry.
            assert!(world.is_nowhere(id));
        }
        (world, id)
    }

    async fn ask(self, world: &World, id: SandboxId) -> Result<(), Error> {
        // Through a node that lives on.
        let first = usize::from(world.follower() != plimsoll_types::NodeId(1));
        match self {
            Snapshot => world.snapshot(first, id, Some("kept")).await.map(drop),
            Pause => world.pause(first, id).await,
            Resume => world.resume(first, id, Some(other(world, id))).await,
            Migrate => world.migrate(first, id, Some(other(world, id))).await,
        }
    }

    /// What is so once it is done.
    fn is_done(self, world: &World, id: SandboxId) -> bool {
        let record = world.record(id);
        let at = |phase, generation| record.phase == phase && record.generation == Generation(generation);
        match self {
            Snapshot => {
                let state = world.cluster.committed();
                let kept = state.snapshots.values().filter(|snapshot| snapshot.stored.is_some()).count();
                at(Phase::Running, 1) && kept == 1
            }
            Pause => at(Phase::Paused, 1) && world.is_nowhere(id),
            Resume | Migrate => at(Phase::Running, 2),
        }
    }

    /// What is so if it was given up.
    fn is_undone(self, world: &World, id: SandboxId) -> bool {
        let record = world.record(id);
        match self {
            Snapshot | Pause | Migrate => {
                record.phase == Phase::Running && record.generation == Generation(1) && record.trouble.is_some()
            }
            Resume => record.phase == Phase::Paused && world.is_nowhere(id),
        }
    }
}

/// The host that the sandbox is not on, or was not on.
fn other(world: &World, id: SandboxId) -> &'static str {
    let record = world.record(id);
    let state = world.cluster.committed();
    let stored = record.base.and_then(|base| state.snapshots.get(&base)?.stored.as_ref().map(|stored| stored.host));
    let home = record.assignment.map(|assignment| assignment.host).or(stored).expect("it is or was somewhere");
    if state.hosts[&home].name.as_str() == "h1" { "h2" } else { "h1" }
}

/// Waits for what was begun and judges it; then again once the sandbox is gone, which must leave nothing.
async fn finish(flow: Flow, world: &World, id: SandboxId, what: &str) {
    world.until(what, || flow.is_done(world, id) && world.record(id).work.is_none()).await;
    // The source of a move goes right after the answer.
    world.until(what, || world.oracle.judge_now().is_empty() && world.copies(id) <= 1).await;
    world.oracle.assert_now();
    let running: usize = world.fleet.hosts().iter().map(|host| host.running(cluster_id()).len()).sum();
    assert_eq!(running, usize::from(!matches!(flow, Pause)), "{what}");
    world.terminate(1, id, Wait::No).await.expect("accepted");
    world.settle().await;
    assert!(world.is_nowhere(id), "{what}");
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_around_each_step() {
    for (flow, op) in steps() {
        for moment in [Moment::Before, Moment::After] {
            let what = format!("{flow:?} {op:?} {moment:?}");
            let (world, id) = flow.begin().await;
            kill_leader_at(&world, op, moment);
            let answer = flow.ask(&world, id).await;
            // The caller's first try may have done it.
            let again = answer.as_ref().err().map(|error| error.code);
            let known = [Code::SameHost, Code::SnapshotExists, Code::OperationUnderWay, Code::WrongPhase];
            assert!(again.is_none_or(|code| known.contains(&code)), "{what}: {answer:?}");
            // What comes after the answer has its step a little later.
            let died = || world.cluster.nodes().iter().any(|node| !world.cluster.is_alive(*node));
            world.until(&format!("{what}: the leader dies"), died).await;
            finish(flow, &world, id, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_done_twice_or_unheard_is_done_once() {
    for mishap in [Mishap::Twice, Mishap::FailAfter] {
        for (flow, op) in steps() {
            let what = format!("{flow:?} {op:?} {mishap:?}");
            let (world, id) = flow.begin().await;
            for host in world.fleet.hosts() {
                host.fault(op, mishap, When::Next(1));
            }
            flow.ask(&world, id).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            finish(flow, &world, id, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_for_good_leaves_the_sandbox_as_it_was() {
    for (flow, op) in steps() {
        // Listing and removing are tried for as long as it takes.
        if matches!(op, HostOp::ListContainers | HostOp::RemoveContainer | HostOp::RemoveWorkspace) {
            continue;
        }
        let what = format!("{flow:?} {op:?}");
        let (world, id) = flow.begin().await;
        for host in world.fleet.hosts() {
            host.fault(op, Mishap::FailBefore(HostFailure::ThisHost), When::Always);
        }
        let answer = flow.ask(&world, id).await;
        // A host that cannot let it go on cannot give it up either.
        if op != HostOp::Thaw {
            let error = answer.expect_err(&what);
            assert_eq!(error.code, Code::PortClash, "{what}: {error}");
            world.until(&what, || flow.is_undone(&world, id)).await;
        }
        world.settle().await;
        let ended = flow.is_undone(&world, id) || (op == HostOp::Thaw && flow.is_done(&world, id));
        assert!(ended, "{what}: {:?}", world.record(id));
        if flow.is_undone(&world, id) {
            flow.ask(&world, id).await.unwrap_or_else(|error| panic!("{what} again: {error}"));
            world.settle().await;
            let record = world.record(id);
            let ends = if matches!(flow, Pause) { Phase::Paused } else { Phase::Running };
            assert_eq!(record.phase, ends, "{what}: {record:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_while_an_operation_is_undone() {
    let cases: [(Flow, HostOp, &[HostOp]); 3] = [
        (Snapshot, HostOp::Commit, &[HostOp::Thaw]),
        (Pause, HostOp::Push, &[HostOp::Thaw]),
        (Migrate, HostOp::StartContainer, &[HostOp::RemoveContainer, HostOp::RemoveWorkspace, HostOp::Thaw]),
    ];
    for (flow, fails, undone) in cases {
        for op in undone {
            for moment in [Moment::Before, Moment::After] {
                let what = format!("{flow:?} given up at {fails:?}, leader killed {moment:?} {op:?}");
                let (world, id) = flow.begin().await;
                for host in world.fleet.hosts() {
                    host.fault(fails, Mishap::FailBefore(HostFailure::ThisHost), When::Always);
                }
                kill_leader_at(&world, *op, moment);
                let _given_up = flow.ask(&world, id).await;
                let died = || world.cluster.nodes().iter().any(|node| !world.cluster.is_alive(*node));
                world.until(&format!("{what}: the leader dies"), died).await;
                world.until(&what, || flow.is_undone(&world, id) && world.record(id).work.is_none()).await;
                world.settle().await;
                world.oracle.assert_now();
                let running: usize = world.fleet.hosts().iter().map(|host| host.running(cluster_id()).len()).sum();
                assert_eq!(running, 1, "{what}");
                world.write_both(id).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_harms_nothing() {
    for (flow, op) in steps() {
        let what = format!("{flow:?} {op:?}");
        let (world, id) = flow.begin().await;
        for host in world.fleet.hosts() {
            host.fault(op, Mishap::Hang, When::Next(1));
        }
        let answer = flow.ask(&world, id).await;
        world.kill_leader();
        world.settle().await;
        let ended = flow.is_done(&world, id) || flow.is_undone(&world, id);
        assert!(ended, "{what}: {answer:?} {:?}", world.record(id));
        world.terminate(1, id, Wait::No).await.expect("accepted");
        world.settle().await;
        assert!(world.is_nowhere(id), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_while_a_snapshot_is_deleted() {
    for moment in [Moment::Before, Moment::After] {
        let (world, id) = Snapshot.begin().await;
        let kept = world.snapshot(1, id, None).await.expect("taken").id;
        let dying = world.clone();
        world.fleet.registry().hook(RegistryOp::Delete, moment, move || {
            dying.kill_leader();
        });
        let scope = plimsoll_engine::Scope::All;
        let delete =
            world.call(1, async |it| plimsoll_engine::SandboxProvider::delete_snapshot(&*it, &scope, kept).await);
        delete.await.expect("accepted");
        world.until("it is gone", || !world.cluster.committed().snapshots.contains_key(&kept)).await;
        world.settle().await;
        assert!(world.fleet.registry().tags().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_is_paused_and_resumed_three_hundred_times() {
    let (world, id) = Pause.begin().await;
    for nth in 0..300 {
        world.pause(1, id).await.unwrap_or_else(|error| panic!("pause {nth}: {error}"));
        world.resume(1, id, None).await.unwrap_or_else(|error| panic!("resume {nth}: {error}"));
        world.oracle.assert_now();
    }
    world.write_both(id).await;
    world.settle().await;
    assert_eq!(world.record(id).generation, Generation(301));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_sandbox_keeps_its_memory_and_is_thawed_by_whoever_needs_it() {
    let (world, id) = Snapshot.begin().await;
    world.freeze(1, id, true).await.expect("frozen");
    world.until("it stands still", || world.home(id).running(cluster_id()).is_empty()).await;
    world.kill_leader();
    world.settle().await;
    assert_eq!(world.fleet.journal(|journal| journal.freezes(id)), 1, "once is enough");
    world.snapshot(1, id, None).await.expect("taken");
    world.settle().await;
    assert!(world.record(id).frozen_since.is_some(), "a snapshot leaves it as it was");
    world.write_both(id).await;
    assert!(world.record(id).frozen_since.is_none());
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn two_operations_at_once_are_one_and_a_refusal() {
    let (world, id) = Migrate.begin().await;
    let (one, two) = tokio::join!(world.migrate(1, id, None), async {
        world.until("it moves", || world.record(id).phase == Phase::Migrating).await;
        world.snapshot(2, id, None).await
    });
    one.expect("moved");
    let refused = two.expect_err("it moves");
    assert!(matches!(refused.code, Code::OperationUnderWay | Code::WrongPhase), "{refused}");
    world.settle().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.record(id).generation, Generation(2));
}
