//! Snapshots when something is missing, full, forbidden or unknown.

use crate::{
    common::{cluster, dial, error, lab_of, plan, run, target},
    registry::{Registry, commit, image},
};
use plimsoll_host::{Dialer, Keys, Options, RegistryOptions};
use plimsoll_lifecycle::ports::{ContainerState, Dial, HostFailure, StoredSeen};
use plimsoll_testkit::lab::LabOptions;
use plimsoll_types::{Bytes, Code, Digest, SandboxId, SnapshotId};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_is_said_so() {
    let Some(lab) = lab_of(1, "a_registry_that_is_gone_is_said_so", LabOptions::default()).await else { return };
    let mut registry = Registry::start(&lab, true).await;
    let driver = registry.dial(&lab, 0);
    let wanted = plan(1, 1);
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    let plan = commit(&wanted, &seen, 1);
    driver.freeze(&seen.id).await.unwrap();
    driver.commit(&plan).await.unwrap();
    let without = dial(&target(lab.host(0)));
    let missing = error(without.push(&plan).await, "a push without a registry");
    assert_eq!((missing.code, missing.failure), (Code::RegistryMissing, HostFailure::Permanent));

    registry.go_away();
    let gone = error(driver.push(&plan).await, "a push to nowhere");
    assert_eq!((gone.code, gone.failure), (Code::RegistryUnreachable, HostFailure::Transient), "{gone}");
    assert_eq!(error(registry.dialer().registry().unwrap().check().await, "a check").code, Code::RegistryUnreachable);
    driver.thaw(&seen.id).await.unwrap();
    assert_eq!(driver.inspect(&seen.id).await.unwrap().unwrap().state, ContainerState::Running);

    registry.come_back().await.unwrap();
    let pushed = driver.push(&plan).await.unwrap();
    let unknown = error(driver.pull(&image(&plan, Digest([7; 32]))).await, "a pull of nothing");
    assert_eq!((unknown.code, unknown.failure), (Code::SnapshotNotFound, HostFailure::Permanent), "{unknown}");

    // The registry as the control plane sees it.
    let client = registry.dialer().registry().unwrap();
    client.check().await.unwrap();
    let stored = StoredSeen {
        repository: plan.repository.clone(),
        tag: plan.snapshot.to_string(),
        snapshot: Some(plan.snapshot),
    };
    assert_eq!(client.list(cluster()).await.unwrap(), [stored]);
    assert_eq!(client.list(plimsoll_types::ClusterId::from_parts(9, 9)).await.unwrap(), []);
    assert!(client.contains(&plan.repository, &pushed.digest).await.unwrap());
    assert!(!client.contains(&plan.repository, &Digest([7; 32])).await.unwrap());
    for _ in 0..2 {
        client.delete(&plan.repository, plan.snapshot).await.unwrap();
    }
    client.delete(&plan.repository, SnapshotId::from_parts(8, 8)).await.unwrap();
    assert!(!client.contains(&plan.repository, &pushed.digest).await.unwrap());
    assert_eq!(client.list(cluster()).await.unwrap(), []);

    // Whoever is not the sandbox's own is not committed, nor what is not there.
    let mut other = plan.clone();
    other.sandbox = SandboxId::from_parts(77, 7);
    driver.freeze(&seen.id).await.unwrap();
    assert_eq!(error(driver.commit(&other).await, "another sandbox's").code, Code::Conflict);
    other.container = "none".to_owned();
    assert_eq!(error(driver.commit(&other).await, "a missing one").code, Code::NotFound);
    // The lab cannot end what the kernel holds still.
    driver.thaw(&seen.id).await.unwrap();
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_forbids_it_is_named() {
    let options = LabOptions { sshd: vec!["AllowTcpForwarding local".to_owned()], ..LabOptions::default() };
    let Some(lab) = lab_of(1, "what_forbids_it_is_named", options).await else { return };
    let registry = Registry::start(&lab, true).await;
    let wanted = plan(1, 1);
    let driver = registry.dial(&lab, 0);
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    let plan = commit(&wanted, &seen, 1);
    driver.freeze(&seen.id).await.unwrap();
    driver.commit(&plan).await.unwrap();
    let refused = error(driver.push(&plan).await, "a forward");
    assert_eq!((refused.code, refused.failure), (Code::SshDenied, HostFailure::ThisHost), "{refused}");
    assert!(refused.message.contains("AllowTcpForwarding"), "{refused}");

    let https = RegistryOptions::open("https://registry.example");
    assert_eq!(error(https.check(), "https").code, Code::InvalidRequest);
    let dialer = Dialer::new(Options { keys: Keys::default(), registry: Some(https) });
    assert_eq!(error(dialer.registry().unwrap().check().await, "https").code, Code::InvalidRequest);
    // The lab cannot end what the kernel holds still.
    driver.thaw(&seen.id).await.unwrap();
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_so() {
    let options = LabOptions { disk: Some(400 << 20), ..LabOptions::default() };
    let Some(lab) = lab_of(1, "a_full_disk_is_said_so", options).await else { return };
    let registry = Registry::start(&lab, true).await;
    let driver = registry.dial(&lab, 0);
    let wanted = plan(1, 1);
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    let fill = "head -c 220000000 /dev/urandom > \"$1/x\"";
    lab.host(0).sh(&["sh", "-c", fill, "sh", &wanted.workspace.source]).await.unwrap();
    let plan = commit(&wanted, &seen, 1);
    driver.freeze(&seen.id).await.unwrap();
    let full = error(driver.commit(&plan).await, "a commit on a full disk");
    assert_eq!((full.code, full.failure), (Code::HostFull, HostFailure::ThisHost), "{full}");
    driver.thaw(&seen.id).await.unwrap();
    // Room again: the next try replaces what was left.
    lab.host(0).sh(&["sh", "-c", "echo small > \"$1/x\"", "sh", &wanted.workspace.source]).await.unwrap();
    driver.freeze(&seen.id).await.unwrap();
    driver.commit(&plan).await.unwrap();
    assert!(driver.push(&plan).await.unwrap().size < Bytes::mib(50));
    // The lab cannot end what the kernel holds still.
    driver.thaw(&seen.id).await.unwrap();
    lab.stop().await.unwrap();
}
