//! What all tests share: a lab, a driver, a plan for a container.

use anyhow::{Context as _, Result};
use plimsoll_host::{Dialer, Keys, Options};
use plimsoll_lifecycle::ports::{
    ContainerPlan, ContainerSeen, Dial, DialTarget, HostDriver, HostError, Mount, NetworkPlan, PortPublish,
};
use plimsoll_testkit::lab::{LAB_IMAGE, Lab, LabHost, LabOptions};
use plimsoll_types::{Bytes, ClusterId, Generation, Identity, ImageRef, MilliCpu, OperationId, Runtime, SandboxId};
use std::{
    collections::BTreeMap,
    io::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Once},
};

/// A lab with one host, or `None` after saying loudly that there is none.
pub(crate) async fn lab(test: &str) -> Option<Lab> {
    lab_with(test, LabOptions::default()).await
}

/// The same, with these options.
pub(crate) async fn lab_with(test: &str, options: LabOptions) -> Option<Lab> {
    lab_of(1, test, options).await
}

/// The same, with so many hosts.
pub(crate) async fn lab_of(hosts: usize, test: &str, options: LabOptions) -> Option<Lab> {
    if let Err(why) = Lab::supported() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot be skipped in CI: {why}");
        static SAID: Once = Once::new();
        // Once for the suite, and past the harness, which keeps to itself what passing tests print.
        SAID.call_once(|| {
            let _ = writeln!(std::io::stderr(), "\n=== SKIPPED the real-host tests: {why} ===\n");
        });
        return None;
    }
    Some(Lab::start(LabOptions { hosts, prefix: "host-".into(), ..options }).await.expect("a lab"))
}

pub(crate) fn target(host: &LabHost) -> DialTarget {
    DialTarget {
        name: host.name().to_owned(),
        address: host.ssh_url().parse().expect("address"),
        identity: Identity::File(host.identity_file().to_owned()),
        host_key: Some(host.host_key().public),
    }
}

pub(crate) fn dial(target: &DialTarget) -> Arc<dyn HostDriver> {
    Dialer::new(Options { keys: Keys::default(), registry: None }).dial(target)
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId::from_parts(1, 1)
}

/// A sandbox's container. `session` makes name, workspace and sandbox id.
pub(crate) fn plan(session: u64, generation: u64) -> ContainerPlan {
    let name = format!("shadow-session-s{session}");
    ContainerPlan {
        cluster: cluster(),
        sandbox: SandboxId::from_parts(session, 7),
        generation: Generation(generation),
        operation: OperationId::from_parts(session, 7),
        labels: BTreeMap::from([("plimsoll.session".to_owned(), format!("s{session}"))]),
        image: ImageRef::new(LAB_IMAGE).expect("image"),
        from_snapshot: false,
        command: None,
        env: BTreeMap::from([("GREETING".to_owned(), "hello world".to_owned())]),
        cpu: MilliCpu(500),
        memory: Bytes::mib(64),
        pids_limit: 64,
        ports: PortPublish { address: Ipv4Addr::LOCALHOST.into(), ports: vec![4096] },
        workspace: Mount {
            source: format!("/var/shadow/sandboxes/s{session}"),
            target: "/workspace".to_owned(),
            volume: format!("{name}-workspace"),
        },
        network: NetworkPlan { name: "shadow-net-default".to_owned() },
        runtime: Runtime::Runc,
        hostname: format!("s{session}"),
        name,
    }
}

/// Creates and starts a sandbox's container.
pub(crate) async fn run(driver: &dyn HostDriver, plan: &ContainerPlan) -> Result<ContainerSeen> {
    driver.create_container(plan).await.context("create")?;
    driver.start_container(&plan.name).await.context("start")
}

/// The error of something that must fail.
pub(crate) fn error<T>(result: Result<T, HostError>, what: &str) -> HostError {
    match result {
        Ok(_) => panic!("{what} succeeded"),
        Err(error) => error,
    }
}
