//! Room is found, waited for, or its lack explained.

use crate::world::{LONG, World, request};
use plimsoll_engine::{ClusterOperations, SandboxProvider, Wait};
use plimsoll_testkit::sim::HostSize;
use plimsoll_types::{Code, ImageRef, Millis, Phase};

#[tokio::test(start_paused = true)]
async fn the_sizes_that_are_rented_take_two_four_and_eight() {
    for (size, count) in [(HostSize::Cpx31, 2), (HostSize::Cpx41, 4), (HostSize::Cpx51, 8)] {
        let world = World::new(&[size]).await;
        for i in 0..count {
            world.ensure(&format!("s{i}")).await.unwrap_or_else(|error| panic!("{size:?} {i}: {error}"));
        }
        let refused = world.ensure("more").await.expect_err("full");
        assert_eq!(refused.code, Code::NoCapacity, "{size:?}");
        assert!(refused.message.starts_with("no host fits 2 vCPU, 3 GiB: 1 lack"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_fills_the_hosts_exactly_and_evenly() {
    let world = World::with_nodes(3, &[HostSize::Cpx31, HostSize::Cpx41, HostSize::Cpx51]).await;
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..30 {
        let provider = world.provider();
        asking.spawn(async move { provider.ensure(request(&format!("s{i}")), Wait::Upto(LONG)).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = asking.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len(), world.running()), (14, 16, 14));
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn of_equally_loaded_hosts_the_one_with_the_image_is_chosen() {
    let world = World::new(&[HostSize::Cpx51, HostSize::Cpx51]).await;
    let of = |session: &str, image: &str| {
        let mut request = request(session);
        request.spec.image = ImageRef::new(image).expect("an image");
        request
    };
    world.create(of("a", "first:1")).await.expect("on one host");
    let second = world.create(of("b", "second:1")).await.expect("on the other");
    // Whoever decides now sees two hosts that differ in nothing but what they run.
    for image in ["second:1", "first:1"] {
        let dry = world.provider().explain(&of("c", image)).await.expect("a dry run");
        let on_second = dry.hosts[0].host == second.sandbox.assignment.expect("assigned").host;
        assert_eq!(on_second, image == "second:1", "{image}: {}", dry.sentence);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_placed_first_come_first_served() {
    let world = World::new(&[HostSize::Cpx31]).await;
    let first = world.ensure("a").await.expect("room");
    world.ensure("b").await.expect("room");
    let queued = |session: &str| {
        let mut request = request(session);
        request.queue_timeout = Some(Millis::secs(300));
        let provider = world.provider();
        tokio::spawn(async move { provider.create(request, Wait::Upto(LONG)).await })
    };
    let earlier = queued("c");
    world.until("c pending", |state| state.pending_count() == 1).await;
    let later = queued("d");
    world.until("d pending", |state| state.pending_count() == 2).await;
    world.terminate(first.sandbox.id).await;
    let placed = earlier.await.expect("no panic").expect("room appeared");
    assert_eq!(placed.sandbox.phase, Phase::Running);
    let timed_out = later.await.expect("no panic").expect_err("no more room");
    assert_eq!(timed_out.code, Code::QueueTimeout);
    assert!(timed_out.message.contains("no host fits 2 vCPU, 3 GiB: 1 lacks CPU"), "{timed_out}");
    world.assert_settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_names_the_choice_and_the_others_and_places_nothing() {
    let world = World::new(&[HostSize::Cpx31, HostSize::Cpx51]).await;
    let explained = world.provider().explain(&request("x")).await.expect("explains");
    assert_eq!(explained.chosen.as_ref().map(|name| name.as_str()), Some("h1"));
    assert_eq!(explained.hosts.len(), 2);
    assert!(explained.hosts[0].score_ppm < explained.hosts[1].score_ppm, "{explained:?}");
    let id = explained.hosts[0].host;
    world.provider().cordon(id, Some("maintenance")).await.expect("cordons");
    let explained = world.provider().explain(&request("x")).await.expect("explains");
    assert_eq!(explained.chosen.as_ref().map(|name| name.as_str()), Some("h0"));
    assert_eq!(explained.hosts[1].rejection.as_deref(), Some("cordoned"));
    assert!(world.state().sandboxes.is_empty());
}
