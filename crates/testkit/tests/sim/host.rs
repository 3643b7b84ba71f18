//! The in-memory Docker: names as the compare-and-swap, mishaps at every point, exec and files.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::ports::{
    ByteStream, ContainerPlan, ContainerState, Dial, DialTarget, ExecEvent, ExecRequest, HostDriver, HostFailure,
    Mount, NetworkPlan, PortPublish, WriteOptions,
};
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, SimClock, SimFleet, SimHost, When, host::Moment};
use plimsoll_types::{
    Bytes as ByteCount, ClusterId, Code, Generation, Identity, ImageRef, MilliCpu, OperationId, Runtime, SandboxId,
};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(super) fn plan(cluster: u128, sandbox: u64, generation: u64) -> ContainerPlan {
    ContainerPlan {
        name: "shadow-session-a".into(),
        cluster: ClusterId::from_parts(1, cluster),
        sandbox: SandboxId::from_parts(sandbox, 1),
        generation: Generation(generation),
        operation: OperationId::from_parts(1, 1),
        labels: BTreeMap::new(),
        image: ImageRef::new("agent:1").expect("an image"),
        from_snapshot: false,
        command: None,
        env: BTreeMap::new(),
        cpu: MilliCpu(2000),
        memory: ByteCount::gib(3),
        pids_limit: 100,
        ports: PortPublish { address: Ipv4Addr::LOCALHOST.into(), ports: vec![4096, 20000] },
        workspace: Mount {
            source: "/data/a".into(),
            target: "/workspace".into(),
            volume: "shadow-session-a-workspace".into(),
        },
        network: NetworkPlan { name: "shadow-net-default".into() },
        runtime: Runtime::Runc,
        hostname: "a".into(),
    }
}

pub(super) fn target(host: &SimHost) -> DialTarget {
    DialTarget {
        name: host.name().into(),
        address: host.address().clone(),
        identity: Identity::NodeDefault,
        host_key: Some(host.key()),
    }
}

async fn ready() -> (SimHost, Arc<dyn HostDriver>) {
    let fleet = SimFleet::new(1, SimClock::new());
    let host = fleet.add("h1", HostSize::Cpx31);
    let driver = fleet.any_dialer().dial(&target(&host));
    driver.ensure_image(&plan(1, 1, 1).image).await.expect("an image");
    (host, driver)
}

#[tokio::test(start_paused = true)]
async fn of_many_creators_one_makes_and_the_others_find() {
    let (host, driver) = ready().await;
    let plans: Vec<_> = (0..20).map(|_| plan(1, 1, 1)).collect();
    let made = futures_util::future::join_all(plans.iter().map(|plan| driver.create_container(plan))).await;
    let first = made[0].as_ref().expect("created").id.clone();
    assert!(made.iter().all(|seen| seen.as_ref().is_ok_and(|seen| seen.id == first)));
    assert_eq!(first.len(), 64);
    assert_eq!(host.effects(HostOp::CreateContainer), 1);
    let (one, two) = tokio::join!(driver.start_container(&first), driver.start_container(&first));
    assert_eq!(one.expect("runs").ports, two.expect("runs").ports, "started twice is started once");
    assert_eq!(host.effects(HostOp::StartContainer), 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_generation_is_fenced_and_a_newer_one_refused() {
    let (host, driver) = ready().await;
    let old = driver.create_container(&plan(1, 1, 1)).await.expect("created");
    driver.start_container(&old.id).await.expect("runs");
    let new = driver.create_container(&plan(1, 1, 2)).await.expect("created");
    let kept = driver.inspect(&old.id).await.expect("an answer").expect("it is kept");
    assert_eq!(kept.state, ContainerState::Exited(137));
    assert_ne!(kept.name, new.name);
    let refused = driver.create_container(&plan(1, 1, 1)).await.expect_err("a newer one is there");
    assert_eq!((refused.code, refused.failure), (Code::Conflict, HostFailure::Permanent));
    assert_eq!(host.containers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_strangers_name_is_a_clash_and_stays_untouched() {
    let (host, driver) = ready().await;
    let stranger = host.add_foreign("shadow-session-a", None);
    let refused = driver.create_container(&plan(1, 1, 1)).await.expect_err("a clash");
    assert_eq!(refused.code, Code::NameClash);
    host.lose_container(&stranger);
    driver.create_container(&plan(2, 1, 1)).await.expect("another cluster's");
    let refused = driver.create_container(&plan(1, 1, 1)).await.expect_err("a clash");
    assert_eq!(refused.code, Code::NameClash);
}

#[tokio::test(start_paused = true)]
async fn mishaps_happen_before_or_after_the_effect_as_scripted() {
    let (host, driver) = ready().await;
    host.fault(HostOp::CreateContainer, Mishap::FailBefore(HostFailure::ThisHost), When::Next(1));
    host.fault(HostOp::CreateContainer, Mishap::FailAfter, When::Next(1));
    host.fault(HostOp::StartContainer, Mishap::Twice, When::Next(1));
    let plan = plan(1, 1, 1);
    assert_eq!(driver.create_container(&plan).await.expect_err("before").failure, HostFailure::ThisHost);
    assert_eq!(host.effects(HostOp::CreateContainer), 0);
    assert_eq!(driver.create_container(&plan).await.expect_err("after").failure, HostFailure::Unreachable);
    assert_eq!(host.effects(HostOp::CreateContainer), 1);
    let seen = driver.create_container(&plan).await.expect("found");
    driver.start_container(&seen.id).await.expect("runs");
    assert_eq!((host.effects(HostOp::CreateContainer), host.effects(HostOp::StartContainer)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_host_does_what_it_was_told_once_it_thaws() {
    let (host, driver) = ready().await;
    host.fault(None, Mishap::Hang, When::Always);
    let error = driver.create_container(&plan(1, 1, 1)).await.expect_err("no answer");
    assert_eq!((error.failure, error.code), (HostFailure::Unreachable, Code::Timeout));
    assert!(host.containers().is_empty());
    host.heal();
    while host.containers().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_run_right_before_and_after_the_effect() {
    let (host, driver) = ready().await;
    let (before, after) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (set_before, set_after, look) = (Arc::clone(&before), Arc::clone(&after), host.clone());
    let look_after = host.clone();
    host.hook(HostOp::CreateContainer, Moment::Before, move || {
        set_before.store(look.containers().is_empty(), Ordering::SeqCst)
    });
    host.hook(HostOp::CreateContainer, Moment::After, move || {
        set_after.store(!look_after.containers().is_empty(), Ordering::SeqCst)
    });
    driver.create_container(&plan(1, 1, 1)).await.expect("created");
    assert!(before.load(Ordering::SeqCst) && after.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_switched_off_comes_back_with_ended_containers() {
    let (host, driver) = ready().await;
    let seen = driver.create_container(&plan(1, 1, 1)).await.expect("created");
    driver.start_container(&seen.id).await.expect("runs");
    host.power_off();
    assert_eq!(driver.measure().await.expect_err("off").failure, HostFailure::Unreachable);
    host.heal();
    let seen = driver.inspect(&seen.id).await.expect("on").expect("still there");
    assert_eq!(seen.state, ContainerState::Exited(137));
}

#[tokio::test(start_paused = true)]
async fn full_disks_missing_images_and_changed_keys_have_their_codes() {
    let (host, driver) = ready().await;
    host.set_disk_full(true);
    assert_eq!(driver.create_container(&plan(1, 1, 1)).await.expect_err("full").code, Code::HostFull);
    let (facts, load) = driver.measure().await.expect("it still answers");
    assert_eq!(load.disk, facts.totals.disk);
    let other = ImageRef::new("other:1").expect("an image");
    host.set_image_missing(&other);
    assert_eq!(driver.ensure_image(&other).await.expect_err("missing").code, Code::ImageNotFound);
    host.set_key("ssh-ed25519 AAAAother");
    assert_eq!(driver.measure().await.expect_err("another key").code, Code::HostKeyChanged);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_in_use_stays_and_goes_with_its_last_container() {
    let (host, driver) = ready().await;
    let plan = plan(1, 1, 1);
    let seen = driver.create_container(&plan).await.expect("created");
    assert_eq!(
        driver.remove_workspace(&plan.workspace, plan.cluster).await.expect_err("in use").failure,
        HostFailure::Transient
    );
    driver.remove_container(&seen.id).await.expect("removed");
    driver.remove_container(&seen.id).await.expect("missing is success");
    driver.remove_workspace(&plan.workspace, plan.cluster).await.expect("removed");
    driver.remove_idle_networks(plan.cluster).await.expect("removed");
    assert!(host.volumes().is_empty() && host.folders().is_empty() && host.networks().is_empty());
}

async fn run(driver: &dyn HostDriver, container: &str, request: ExecRequest, stdin: &[&str]) -> (String, i64, bool) {
    let mut session = driver.exec(container, request).await.expect("a process");
    for piece in stdin {
        session.control.write(Bytes::copy_from_slice(piece.as_bytes())).await.expect("it reads");
    }
    session.control.close_stdin().await.expect("closed");
    let mut output = String::new();
    while let Some(event) = session.events.next().await {
        match event.expect("an event") {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => output.push_str(&String::from_utf8_lossy(&bytes)),
            ExecEvent::Exit { code, timed_out } => return (output, code, timed_out),
        }
    }
    panic!("no exit");
}

fn argv(words: &[&str]) -> ExecRequest {
    ExecRequest { argv: words.iter().map(ToString::to_string).collect(), stdin: true, ..ExecRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn processes_talk_end_and_are_killed_in_time() {
    let (_host, driver) = ready().await;
    let seen = driver.create_container(&plan(1, 1, 1)).await.expect("created");
    assert_eq!(driver.exec(&seen.id, argv(&["true"])).await.err().expect("it does not run").code, Code::WrongPhase);
    driver.start_container(&seen.id).await.expect("runs");
    assert_eq!(run(&*driver, &seen.id, argv(&["echo", "a", "b"]), &[]).await, ("a b\n".into(), 0, false));
    assert_eq!(run(&*driver, &seen.id, argv(&["exit", "7"]), &[]).await, (String::new(), 7, false));
    assert_eq!(run(&*driver, &seen.id, argv(&["cat"]), &["x", "y"]).await, ("xy".into(), 0, false));
    let limited = ExecRequest { time_limit: Some(Duration::from_secs(2)), ..argv(&["sleep", "60"]) };
    assert_eq!(run(&*driver, &seen.id, limited, &[]).await, (String::new(), 137, true));
    assert_eq!(driver.exec(&seen.id, argv(&["rm"])).await.err().expect("no program").code, Code::ExecFailed);
}

#[tokio::test(start_paused = true)]
async fn files_are_written_listed_moved_and_packed() {
    let (_host, driver) = ready().await;
    let seen = driver.create_container(&plan(1, 1, 1)).await.expect("created");
    driver.start_container(&seen.id).await.expect("runs");
    let (files, id) = (driver.files(), seen.id.as_str());
    let body = |text: &'static str| -> ByteStream { Box::pin(stream::iter([Ok(Bytes::from_static(text.as_bytes()))])) };
    files.write(id, "/w/a/b.txt", WriteOptions::default(), body("hello")).await.expect("written");
    let names = |entries: Vec<plimsoll_lifecycle::ports::FileEntry>| -> Vec<String> {
        entries.into_iter().map(|e| e.path).collect()
    };
    assert_eq!(names(files.list(id, "/w", false, 10).await.expect("listed")), ["/w/a"]);
    assert_eq!(names(files.list(id, "/w", true, 10).await.expect("listed")), ["/w/a", "/w/a/b.txt"]);
    let tar = files.export_tar(id, "/w").await.expect("packed");
    files.import_tar(id, "/copy", tar).await.expect("unpacked");
    files.rename(id, "/copy/a", "/c").await.expect("moved");
    assert_eq!(files.stat(id, "/c/../c/b.txt").await.expect("there").size, 5);
    assert!(files.remove(id, "/w", false).await.is_err(), "not empty");
    files.remove(id, "/w", true).await.expect("removed");
    assert_eq!(files.read(id, "/w/a/b.txt").await.err().expect("gone").code, Code::FileNotFound);
}
