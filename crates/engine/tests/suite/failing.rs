//! Hosts fail: sandboxes move, wait or fail with a reason, and nothing is left behind.

use crate::world::{World, image, request};
use plimsoll_engine::{SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, Mishap, Moment, When};
use plimsoll_types::{Code, Generation, Health, Phase};

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_start_it_is_left_for_another() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx51]).await;
    world.host("h1").set_start_fails(Some(HostFailure::ThisHost));
    let made = world.ensure("s1").await.expect("elsewhere");
    assert_eq!(made.sandbox.generation, Generation(2));
    assert_eq!(world.host("h0").containers().len(), 1);
    let left = world.host("h1");
    assert!(left.containers().is_empty() && left.volumes().is_empty() && left.folders().is_empty());
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_keeps_failing_is_quarantined() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx51]).await;
    world.host("h1").set_start_fails(Some(HostFailure::ThisHost));
    for i in 0..2 {
        world.ensure(&format!("s{i}")).await.expect("elsewhere");
    }
    let refused = world.ensure("more").await.expect_err("no other host");
    assert!(matches!(refused.code, Code::StartFailed | Code::NoCapacity), "{refused}");
    world.until("a quarantine", |state| state.hosts.values().any(|host| host.quarantine.is_some())).await;
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_tried_again_on_the_same_host() {
    for op in [HostOp::EnsureImage, HostOp::CreateContainer, HostOp::StartContainer] {
        for mishap in
            [Mishap::FailBefore(HostFailure::Transient), Mishap::FailAfter, Mishap::Twice, Mishap::Unreachable]
        {
            let world = World::new(&[HostSize::Cpx31]).await;
            world.host("h0").fault(op, mishap, When::Next(2));
            let made = world.ensure("s1").await.unwrap_or_else(|error| panic!("{op:?} {mishap:?}: {error}"));
            assert_eq!(made.sandbox.generation, Generation::FIRST, "{op:?} {mishap:?}");
            assert_eq!(world.host("h0").effects(HostOp::StartContainer), 1, "{op:?} {mishap:?}");
            world.assert_settled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_everywhere_fails_with_its_own_code() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
    for host in ["h0", "h1"] {
        world.host(host).set_image_missing(&image());
    }
    let error = world.ensure("s1").await.expect_err("no image");
    assert_eq!(error.code, Code::ImageNotFound);
    assert!(error.message.contains("base:1"), "{error}");
    let failed = world.sandbox(error.sandbox.expect("its id"));
    assert_eq!((failed.phase, failed.assignment), (Phase::Failed, None));
    assert!(world.state().hosts.values().all(|host| host.sandboxes == 0), "its room is free");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_is_not_placed_on_until_it_is_back() {
    let world = World::new(&[HostSize::Cpx51, HostSize::Cpx31]).await;
    world.host("h0").disconnect();
    world.until("unreachable", |state| state.hosts.values().any(|host| host.health == Health::Unreachable)).await;
    for i in 0..2 {
        world.ensure(&format!("s{i}")).await.expect("on the other");
    }
    let refused = world.ensure("s2").await.expect_err("full");
    assert_eq!(refused.message, "no host fits 2 vCPU, 3 GiB: 1 unreachable, 1 lacks CPU");
    world.until("lost", |state| state.hosts.values().any(|host| host.health == Health::Lost)).await;
    world.host("h0").heal();
    world.until("ready", |state| state.hosts.values().all(|host| host.health == Health::Ready)).await;
    world.ensure("s2").await.expect("room again");
}

#[tokio::test(start_paused = true)]
async fn a_create_on_a_host_that_never_answers_again_fails_in_time_and_is_cleaned_up_later() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    let gone = host.clone();
    host.hook(HostOp::CreateContainer, Moment::After, move || gone.disconnect());
    let error = world.ensure("s1").await.expect_err("no answer");
    assert_eq!(error.code, Code::Timeout, "{error}");
    let id = error.sandbox.expect("its id");
    assert!(world.sandbox(id).assignment.is_some(), "who knows what is left there");
    host.heal();
    world.until("its room to be free", |state| state.sandboxes[&id].assignment.is_none()).await;
    assert_eq!(world.sandbox(id).phase, Phase::Failed);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_a_host_does_long_after_it_was_given_up_is_undone() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.fault(HostOp::CreateContainer, Mishap::Hang, When::Always);
    let error = world.ensure("s1").await.expect_err("no answer");
    assert_eq!(error.code, Code::Timeout, "{error}");
    host.heal();
    world.until("its room to be free", |state| state.hosts.values().all(|host| host.sandboxes == 0)).await;
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_the_code_of_its_cause_and_names_the_hosts() {
    let world = World::new(&[HostSize::Cpx31; 3]).await;
    // The container's name is taken by somebody else on each host.
    for host in ["h0", "h1", "h2"] {
        world.host(host).add_foreign("shadow-session-s1", None);
    }
    let error = world.ensure("s1").await.expect_err("taken everywhere");
    assert_eq!(error.code, Code::NameClash, "{error}");
    let (cause, others) = error.message.split_once("; ").expect("two parts");
    assert_eq!(cause, "shadow-session-s1 exists and is not this cluster's");
    let mut tried: Vec<_> = others.strip_prefix("also tried ").expect("the other hosts").split(", ").collect();
    tried.dedup();
    assert!(tried.len() == 2 && tried.iter().all(|host| host.starts_with('h')), "{error}");
    assert_eq!(world.state().hosts.values().filter(|host| host.quarantine.is_some()).count(), 0);
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_what_is_lacking_elsewhere() {
    let world = World::new(&[HostSize::Cpx51, HostSize::Cpx31]).await;
    world.host("h0").set_start_fails(Some(HostFailure::ThisHost));
    let mut large = request("s1");
    large.spec.resources.cpu = plimsoll_types::MilliCpu(8000);
    let error = world.create(large).await.expect_err("fits nowhere else");
    assert_eq!(error.code, Code::StartFailed);
    let expected = "the container ended at once with code 1; no host fits 8 vCPU, 3 GiB: 1 lacks CPU";
    assert_eq!(error.message, expected);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_runs_out_of_time_says_what_its_host_said() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    // Each try takes minutes and fails; three fit into the budgets, which is fewer than are made.
    host.fault(HostOp::EnsureImage, Mishap::Slow(std::time::Duration::from_secs(200)), When::Always);
    host.set_image_broken(&image());
    let error = world.ensure("s1").await.expect_err("no image");
    assert_eq!(error.code, Code::ImagePullFailed, "{error}");
    assert!(error.message.contains("could not be pulled") && error.message.contains("given up after"), "{error}");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn no_sandbox_takes_a_host_away_from_the_others() {
    type Break = fn(&plimsoll_testkit::sim::SimHost, &str);
    let breaks: [(&str, Break); 4] = [
        ("an image that nobody has", |host, _| host.set_image_missing(&image())),
        ("an image that cannot be pulled", |host, _| host.set_image_broken(&image())),
        ("a name that is taken", |host, session| drop(host.add_foreign(&format!("shadow-session-{session}"), None))),
        ("a process that ends at once", |host, _| host.set_start_fails(Some(HostFailure::Permanent))),
    ];
    for (what, break_it) in breaks {
        let world = World::new(&[HostSize::Cpx31, HostSize::Cpx31]).await;
        for i in 0..5 {
            let session = format!("bad{i}");
            for host in ["h0", "h1"] {
                break_it(&world.host(host), &session);
            }
            world.ensure(&session).await.expect_err(what);
        }
        assert!(world.state().hosts.values().all(|host| host.quarantine.is_none()), "{what}");
        world.fleet.heal();
        world.ensure("good").await.unwrap_or_else(|error| panic!("{what}: {error}"));
        world.assert_settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_sandbox_alone_quarantines_nothing_however_often_its_host_fails() {
    let world = World::new(&[HostSize::Cpx31]).await;
    world.host("h0").fault(HostOp::CreateContainer, Mishap::FailBefore(HostFailure::Transient), When::Next(5));
    world.ensure("s1").await.expect("in the end");
    assert!(world.state().hosts.values().all(|host| host.quarantine.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_a_late_create_left_without_a_container_goes() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let host = world.host("h0");
    host.fault(HostOp::CreateContainer, Mishap::Slow(std::time::Duration::from_secs(90)), When::Next(1));
    host.set_create_fails(Some(HostFailure::Permanent));
    let made = world.provider().create(request("s1"), Wait::No).await.expect("accepted");
    let asked = || async { host.calls(HostOp::CreateContainer) == 1 };
    plimsoll_testkit::wait::wait_for("the request", crate::world::LONG, asked).await.expect("sent");
    world.provider().terminate(&Scope::All, made.sandbox.id, Wait::Upto(crate::world::LONG)).await.expect("gone");
    assert!(host.volumes().is_empty(), "the request is still on its way");
    let left = || async { !host.volumes().is_empty() };
    plimsoll_testkit::wait::wait_for("the late request", crate::world::LONG, left).await.expect("done in the end");
    assert!(host.containers().is_empty() && host.folders().len() == 1);
    world.assert_settled().await;
    assert!(host.volumes().is_empty() && host.folders().is_empty());
}
