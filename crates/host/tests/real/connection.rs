//! Reaching hosts: keys, pins, failures and coming back.

use crate::common::{cluster, dial, error, lab, plan, run, target};
use plimsoll_host::{Dialer, Keys, Options, SecretText};
use plimsoll_lifecycle::ports::{Dial, DialTarget, HostFailure};
use plimsoll_testkit::{lab::generate_key, wait::wait_for};
use plimsoll_types::{Code, HostAddress, Identity, ImageRef};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_surveyed_and_measured() {
    let Some(lab) = lab("a_host_is_surveyed_and_measured").await else { return };
    let host = lab.host(0);
    let ours = host.host_key();
    let (line, fingerprint) =
        Dialer::default().host_key(&host.ssh_url().parse().unwrap()).await.unwrap().expect("an SSH host has a key");
    assert_eq!((line, fingerprint), (ours.public, ours.fingerprint));

    let driver = dial(&target(host));
    let image = ImageRef::new(plimsoll_testkit::lab::LAB_IMAGE).unwrap();
    let report = driver.survey(Some(&image)).await.unwrap();
    println!("{report:#?}");
    assert!(report.base_image_present && report.facts.hostname == host.name());
    assert!(
        report.facts.totals.cpu.0 >= 1000 && report.facts.totals.memory.0 > 1 << 28 && report.facts.totals.disk.0 > 0
    );
    assert_eq!((report.max_sessions, report.max_startups.as_deref()), (Some(10), Some("10:30:100")));
    assert!(report.clock_skew_ms.abs() < 1000 && report.inodes_free > 0 && report.disk_free.0 > 0);
    assert!(report.facts.runtimes.contains(&"runc".to_owned()));
    let absent = ImageRef::new("no/such:1").unwrap();
    assert!(!driver.survey(Some(&absent)).await.unwrap().base_image_present);

    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    let (facts, load) = driver.measure().await.unwrap();
    assert_eq!(facts.machine_id, report.facts.machine_id);
    assert!(load.memory.0 > 0 && load.disk.0 > 0 && load.sandboxes == 1, "{load:?}");

    let started = Instant::now();
    for _ in 0..20 {
        driver.measure().await.unwrap();
    }
    println!("a poll takes {:?}", started.elapsed() / 20);

    // The same machine through its socket.
    let address = HostAddress::Unix { path: host.docker_socket().unwrap() };
    let mut local = target(host);
    local.address = address;
    let (facts, _) = dial(&local).measure().await.unwrap();
    assert_eq!(facts.docker_version, report.facts.docker_version);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_checked_on_both_sides() {
    let Some(lab) = lab("keys_are_checked_on_both_sides").await else { return };
    let host = lab.host(0);
    let pinned = target(host);
    let driver = dial(&pinned);
    driver.list_containers(cluster()).await.unwrap();

    let mut unpinned = pinned.clone();
    unpinned.host_key = None;
    let refused = error(dial(&unpinned).list_containers(cluster()).await, "an unpinned key");
    assert_eq!(refused.code, Code::HostKeyUnknown);
    assert!(refused.message.contains(&host.host_key().fingerprint), "{refused}");

    let other = lab.folder().join("other");
    generate_key(&other).await.unwrap();
    let mut stranger = pinned.clone();
    stranger.identity = Identity::File(other.clone());
    let refused = error(dial(&stranger).list_containers(cluster()).await, "a stranger's key");
    assert_eq!(refused.code, Code::SshDenied);

    // The node's default key, as text, with its line breaks lost on the way.
    let text = std::fs::read_to_string(host.identity_file()).unwrap().replace('\n', "\\n");
    let mut default = pinned.clone();
    default.identity = Identity::NodeDefault;
    let keys = Keys { default_file: None, default_text: Some(SecretText::new(&text)) };
    Dialer::new(Options { keys, registry: None }).dial(&default).list_containers(cluster()).await.unwrap();

    // A reinstalled machine, or somebody in between.
    let old = host.host_key();
    let new = host.change_host_key().await.unwrap();
    assert_ne!(old, new);
    let refused = error(dial(&pinned).list_containers(cluster()).await, "a changed host key");
    assert_eq!(refused.code, Code::HostKeyChanged);
    assert!(refused.message.contains(&old.fingerprint) && refused.message.contains(&new.fingerprint), "{refused}");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_host_says_how_and_comes_back() {
    let Some(lab) = lab("a_lost_host_says_how_and_comes_back").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    driver.measure().await.unwrap();

    host.stop_dockerd().await.unwrap();
    let lost = error(driver.measure().await, "measuring without Docker");
    assert_eq!((lost.code, lost.failure), (Code::DockerUnreachable, HostFailure::Unreachable), "{lost}");
    host.start_dockerd().await.unwrap();
    wait_for("Docker is back", SOON, || driver.measure()).await.unwrap();

    // The connection itself ends with the daemon's restart, and comes back by itself.
    host.restart_sshd().await.unwrap();
    wait_for("sshd is back", SOON, || driver.measure()).await.unwrap();

    host.stop_sshd().await.unwrap();
    let fresh = dial(&target(host));
    let lost = error(fresh.measure().await, "measuring without sshd");
    assert_eq!((lost.code, lost.failure), (Code::SshUnreachable, HostFailure::Unreachable), "{lost}");
    host.start_sshd().await.unwrap();
    wait_for("sshd is back", SOON, || fresh.measure()).await.unwrap();

    // A partition is noticed within a poll's deadline.
    host.partition().await.unwrap();
    let started = Instant::now();
    let lost = error(driver.measure().await, "measuring through a partition");
    assert_eq!(lost.failure, HostFailure::Unreachable, "{lost}");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    host.heal().await.unwrap();
    wait_for("the partition is healed", SOON, || driver.measure()).await.unwrap();
    lab.stop().await.unwrap();
}

/// The agent is found through the environment, which belongs to the whole process: so the login runs in a child of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_logs_in() {
    const HOST: &str = "PLIMSOLL_TEST_AGENT_HOST";
    if let Ok(host) = std::env::var(HOST) {
        let (address, key) = host.split_once(' ').unwrap();
        let target = DialTarget {
            name: "agent".to_owned(),
            address: address.parse().unwrap(),
            identity: Identity::Agent,
            host_key: Some(key.to_owned()),
        };
        dial(&target).list_containers(cluster()).await.unwrap();
        return;
    }
    let Some(lab) = lab("an_agent_logs_in").await else { return };
    let socket = lab.folder().join("agent");
    let mut agent =
        tokio::process::Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).kill_on_drop(true).spawn().unwrap();
    let add = || tokio::process::Command::new("ssh-add").arg(lab.client_key()).env("SSH_AUTH_SOCK", &socket).status();
    wait_for("the agent has the key", SOON, || async { add().await.is_ok_and(|status| status.success()) })
        .await
        .unwrap();
    let host = lab.host(0);
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "connection::an_agent_logs_in", "--nocapture"])
        .env("SSH_AUTH_SOCK", &socket)
        .env(HOST, format!("{} {}", host.ssh_url(), host.host_key().public))
        .status();
    assert!(child.await.unwrap().success());
    agent.kill().await.unwrap();
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn an_old_docker_is_refused_by_name() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let old = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET /version "), "no version is in the path");
            let body = "{\"ApiVersion\":\"1.40\"}";
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut target = DialTarget {
        name: "old".to_owned(),
        address: HostAddress::Unix { path },
        identity: Identity::NodeDefault,
        host_key: None,
    };
    let refused = error(dial(&target).list_containers(cluster()).await, "an old Docker");
    assert_eq!((refused.code, refused.failure), (Code::DockerTooOld, HostFailure::ThisHost), "{refused}");
    old.abort();

    target.address = HostAddress::Unix { path: folder.path().join("absent") };
    let refused = error(dial(&target).list_containers(cluster()).await, "no Docker");
    assert_eq!((refused.code, refused.failure), (Code::DockerUnreachable, HostFailure::Unreachable), "{refused}");
}
