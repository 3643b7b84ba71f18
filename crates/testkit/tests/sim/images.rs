//! Snapshots between simulated hosts: what a commit captures, what a new container starts from, and what the registry may do to it.

use super::host::{plan, target};
use bytes::Bytes;
use futures_util::stream;
use plimsoll_lifecycle::{
    naming,
    ports::{
        ByteStream, CommitPlan, ContainerPlan, ContainerState, Dial, HostDriver, HostFailure, SnapshotImage,
        WriteOptions,
    },
};
use plimsoll_testkit::sim::{HostOp, HostSize, RegistryOp, SimClock, SimFleet, SimHost, host::Moment};
use plimsoll_types::{Bytes as ByteCount, Code, ImageRef, SnapshotId};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

const REPOSITORY: &str = "plimsoll/test";

/// Two hosts, of which the first runs a container with a file in its workspace and one elsewhere.
struct Pair {
    fleet: SimFleet,
    hosts: [SimHost; 2],
    drivers: [Arc<dyn HostDriver>; 2],
    container: String,
}

async fn write(driver: &dyn HostDriver, container: &str, path: &str, text: &'static str) {
    let body: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(text.as_bytes()))]));
    driver.files().write(container, path, WriteOptions::default(), body).await.expect("written");
}

async fn pair() -> Pair {
    let fleet = SimFleet::new(1, SimClock::new());
    let hosts = ["h1", "h2"].map(|name| fleet.add(name, HostSize::Cpx31));
    let drivers = hosts.clone().map(|host| fleet.any_dialer().dial(&target(&host)));
    let first = &drivers[0];
    first.ensure_image(&plan(1, 1, 1).image).await.expect("an image");
    let container = first.create_container(&plan(1, 1, 1)).await.expect("created").id;
    first.start_container(&container).await.expect("runs");
    write(&**first, &container, "/workspace/a", "one").await;
    write(&**first, &container, "/workspace/b", "two").await;
    write(&**first, &container, "/opt/c", "three").await;
    write(&**first, &container, naming::SECRETS_FILE, "TOKEN=secret").await;
    Pair { fleet, hosts, drivers, container }
}

fn snapshot() -> SnapshotId {
    SnapshotId::from_parts(1, 1)
}

fn commit_of(container: &str) -> CommitPlan {
    let plan = plan(1, 1, 1);
    CommitPlan {
        container: container.into(),
        cluster: plan.cluster,
        sandbox: plan.sandbox,
        generation: plan.generation,
        snapshot: snapshot(),
        workspace: plan.workspace,
        repository: REPOSITORY.into(),
    }
}

/// The next incarnation, from the snapshot, with a workspace of its own.
fn next() -> ContainerPlan {
    let plain = plan(1, 1, 2);
    let mut plan = ContainerPlan { from_snapshot: true, ..plain };
    plan.image = ImageRef::new(&naming::snapshot_image(plan.cluster, snapshot())).expect("an image");
    (plan.workspace.source, plan.workspace.volume) = ("/data/a..g2".into(), "a-g2".into());
    plan
}

impl Pair {
    async fn push(&self) -> SnapshotImage {
        let commit = commit_of(&self.container);
        self.drivers[0].freeze(&self.container).await.expect("still");
        self.drivers[0].commit(&commit).await.expect("an image");
        let pushed = self.drivers[0].push(&commit).await.expect("pushed");
        SnapshotImage {
            cluster: commit.cluster,
            snapshot: commit.snapshot,
            repository: REPOSITORY.into(),
            digest: pushed.digest,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn files_and_workspace_go_to_another_host_and_secrets_do_not() {
    let world = pair().await;
    let image = world.push().await;
    let there = &world.drivers[1];
    assert!(there.create_container(&next()).await.is_err(), "it has no such image yet");
    assert!(there.pull(&image).await.expect("pulled") > ByteCount::ZERO);
    assert_eq!(there.pull(&image).await.expect("it is there"), ByteCount::ZERO);
    let made = there.create_container(&next()).await.expect("created").id;
    let has = |path| world.hosts[1].file(&made, path);
    assert_eq!(
        (has("/workspace/a").as_deref(), has("/workspace/b").as_deref(), has("/opt/c").as_deref()),
        (Some("one"), Some("two"), Some("three"))
    );
    assert_eq!(has(naming::SECRETS_FILE), None);
    let busy = there.remove_snapshot(&naming::snapshot_image(image.cluster, image.snapshot)).await.expect_err("in use");
    assert_eq!(busy.code, Code::Conflict);
    assert_eq!(there.list_snapshots(image.cluster).await.expect("listed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_not_committed_and_said_so() {
    let world = pair().await;
    let (here, commit) = (&world.drivers[0], commit_of(&world.container));
    assert_eq!(here.commit(&commit).await.expect_err("it runs").failure, HostFailure::Transient);
    assert_eq!(world.fleet.journal(|journal| journal.unfrozen().len()), 1);
    here.freeze(&world.container).await.expect("still");
    here.freeze(&world.container).await.expect("twice is once");
    assert_eq!(world.hosts[0].effects(HostOp::Freeze), 1);
    assert!(here.exec(&world.container, plimsoll_lifecycle::ports::ExecRequest::default()).await.is_err());
    here.commit(&commit).await.expect("an image");
    here.thaw(&world.container).await.expect("goes on");
    let seen = here.inspect(&world.container).await.expect("an answer").expect("there");
    assert_eq!(seen.state, ContainerState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_half_filled_workspace_stays_half_filled_unless_it_is_removed_first() {
    let world = pair().await;
    let image = world.push().await;
    let (there, host) = (&world.drivers[1], &world.hosts[1]);
    there.pull(&image).await.expect("pulled");
    host.set_create_fails(Some(HostFailure::Transient));
    there.create_container(&next()).await.expect_err("refused in the middle");
    assert!(host.volumes().contains_key("a-g2"), "the volume is left");
    host.heal();
    let careless = ContainerPlan { from_snapshot: false, ..next() };
    let made = there.create_container(&careless).await.expect("created").id;
    assert_eq!((host.file(&made, "/workspace/a").is_some(), host.file(&made, "/workspace/b")), (true, None));
    there.remove_container(&made).await.expect("removed");
    let made = there.create_container(&next()).await.expect("created").id;
    assert_eq!(host.file(&made, "/workspace/b").as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn the_registry_fails_as_it_is_told() {
    let world = pair().await;
    let (here, commit, registry) = (&world.drivers[0], commit_of(&world.container), world.fleet.registry());
    here.freeze(&world.container).await.expect("still");
    here.commit(&commit).await.expect("an image");
    registry.set_down(true);
    assert_eq!(here.push(&commit).await.expect_err("down").code, Code::RegistryUnreachable);
    registry.heal();
    registry.set_full(true);
    assert_eq!(here.push(&commit).await.expect_err("full").code, Code::RegistryFull);
    registry.heal();
    registry.break_pushes(1);
    assert_eq!(here.push(&commit).await.expect_err("broken").code, Code::RegistryUnreachable);
    let pushed = here.push(&commit).await.expect("pushed");
    assert_eq!(here.push(&commit).await.expect("again").sent, ByteCount::ZERO);
    let port = world.fleet.any_dialer().registry().expect("a registry");
    assert!(port.contains(REPOSITORY, &pushed.digest).await.expect("an answer"));
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    registry.hook(RegistryOp::Delete, Moment::Before, move || tell.store(true, Ordering::SeqCst));
    port.delete(REPOSITORY, snapshot()).await.expect("deleted");
    port.delete(REPOSITORY, snapshot()).await.expect("missing is success");
    assert!(told.load(Ordering::SeqCst) && !registry.holds(REPOSITORY, &pushed.digest));
    here.push(&commit).await.expect("pushed");
    registry.lose(snapshot());
    let image = SnapshotImage {
        cluster: commit.cluster,
        snapshot: commit.snapshot,
        repository: REPOSITORY.into(),
        digest: pushed.digest,
    };
    assert_eq!(world.drivers[1].pull(&image).await.expect_err("gone").code, Code::ImageNotFound);
    assert!(registry.lost(&pushed.digest));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_container_stands_still_under_another_name() {
    let world = pair().await;
    let here = &world.drivers[0];
    here.fence(&world.container, "old").await.expect("fenced");
    here.fence(&world.container, "old").await.expect("twice is once");
    let seen = here.inspect("old").await.expect("an answer").expect("kept");
    assert_eq!((seen.id, seen.state), (world.container.clone(), ContainerState::Exited(137)));
    assert_eq!(world.hosts[0].effects(HostOp::Fence), 1);
    here.fence("nothing", "old").await.expect("missing is success");
}
