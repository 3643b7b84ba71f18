//! Hosts are checked before they are added, and only let go when empty.

use crate::world::{World, new_host};
use plimsoll_engine::ClusterOperations;
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, When};
use plimsoll_types::{Code, Generation, HostName, Labels};

#[tokio::test(start_paused = true)]
async fn a_host_is_added_only_with_its_key_confirmed() {
    let world = World::new(&[]).await;
    let machine = world.fleet.add("h0", HostSize::Cpx31);
    let mut host = new_host(&machine);
    host.fingerprint = None;
    let shown = world.provider().check_host(&host).await.expect("shows the key");
    assert!(shown.report.is_none() && shown.host_key.is_some());
    let error = world.provider().add_host(host.clone()).await.expect_err("unconfirmed");
    assert_eq!(error.code, Code::HostKeyUnknown);
    assert!(error.message.contains("SHA256:sim-h0"), "{error}");
    host.fingerprint = Some("SHA256:other".into());
    let error = world.provider().add_host(host).await.expect_err("another key");
    assert_eq!(error.code, Code::HostKeyChanged);
    assert!(error.message.contains("SHA256:sim-h0") && error.message.contains("SHA256:other"), "{error}");
    assert!(world.state().hosts.is_empty());
    let (status, check) = world.provider().add_host(new_host(&machine)).await.expect("adds");
    assert_eq!(status.host.host_key, Some(machine.key()));
    assert!(check.warnings.iter().any(|warning| warning.contains("runsc")), "{:?}", check.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_second_name_for_a_machine_is_refused() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let error = world.add(&world.host("h0")).await.expect_err("it is there");
    assert_eq!(error.code, Code::HostExists);
    let twin = world.fleet.add("twin", HostSize::Cpx31);
    twin.set_facts(world.host("h0").facts());
    let error = world.add(&twin).await.expect_err("the same machine");
    assert_eq!(error.code, Code::SameMachine);
    assert!(error.message.contains("h0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_host_with_an_old_docker_is_refused() {
    let world = World::new(&[]).await;
    let old = world.fleet.add("old", HostSize::Cpx31);
    let mut facts = old.facts();
    facts.api_version = "1.40".into();
    old.set_facts(facts);
    assert_eq!(world.add(&old).await.expect_err("too old").code, Code::DockerTooOld);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_removed_only_when_empty_and_found_by_name_or_id() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let made = world.ensure("s1").await.expect("a sandbox");
    let provider = world.provider();
    let status = provider.host("h0").await.expect("by name");
    let id = status.host.id;
    assert_eq!(provider.host(&id.to_string()).await.expect("by id").host.id, id);
    assert_eq!(provider.host("nowhere").await.expect_err("unknown").code, Code::HostNotFound);
    let busy = provider.remove_host(id).await.expect_err("it holds one");
    assert_eq!(busy.code, Code::HostBusy);
    let set = Labels::from([("zone".into(), "eu".into())]);
    provider.label_host(id, set, Vec::new()).await.expect("labels");
    assert_eq!(provider.host("h0").await.expect("there").host.labels.len(), 1);
    world.terminate(made.sandbox.id).await;
    provider.remove_host(id).await.expect("empty now");
    assert!(provider.hosts().await.expect("lists").is_empty());
    let again = HostName::new("h0").expect("a name");
    assert!(world.state().host_named(&again).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_host_is_cleared_before_it_is_forgotten() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    // The takedown leaves the network and the reconciler does not come by before the host is removed.
    host.fault(HostOp::RemoveIdleNetworks, Mishap::FailBefore(HostFailure::Transient), When::Next(1));
    let made = world.ensure("s1").await.expect("a sandbox");
    world.terminate(made.sandbox.id).await;
    let cluster = world.state().cluster.expect("a cluster");
    host.add_foreign("left-behind", Some((cluster, made.sandbox.id, Generation::FIRST)));
    host.add_foreign("somebody-elses", None);
    assert!(!host.networks().is_empty() && host.containers().len() == 2, "there is something to clear");
    let id = world.provider().host("h0").await.expect("there").host.id;
    let warnings = world.provider().remove_host(id).await.expect("removed");
    assert_eq!(warnings, [""; 0]);
    assert!(host.networks().is_empty() && host.volumes().is_empty() && host.folders().is_empty());
    let names: Vec<String> = host.containers().into_iter().map(|found| found.seen.name).collect();
    assert_eq!(names, ["somebody-elses"]);
    assert!(world.state().hosts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn removing_a_host_that_is_away_or_fails_says_what_may_be_left() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    let id = |name: &str| world.state().host_named(&HostName::new(name).expect("a name")).expect("there").id;
    world.host("h0").disconnect();
    let warnings = world.provider().remove_host(id("h0")).await.expect("removed all the same");
    assert!(warnings.len() == 1 && warnings[0].contains("h0") && warnings[0].contains("may be left"), "{warnings:?}");

    let host = world.host("h1");
    let cluster = world.state().cluster.expect("a cluster");
    host.fault(HostOp::RemoveContainer, Mishap::FailBefore(HostFailure::Transient), When::Always);
    host.add_foreign("stuck", Some((cluster, plimsoll_types::SandboxId::from_parts(1, 1), Generation::FIRST)));
    let warnings = world.provider().remove_host(id("h1")).await.expect("removed all the same");
    assert!(warnings.len() == 1 && warnings[0].contains("container stuck"), "{warnings:?}");
    assert!(world.state().hosts.is_empty());
    assert_eq!(
        world.provider().remove_host(plimsoll_types::HostId(9)).await.expect_err("unknown").code,
        Code::HostNotFound
    );
}
