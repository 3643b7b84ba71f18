//! Held still and let go on; fenced.

use crate::common::{cluster, dial, error, lab, plan, run, target};
use plimsoll_lifecycle::{naming, ports::ContainerState};
use plimsoll_types::{Code, Generation};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_held_still_and_goes_on() {
    let Some(lab) = lab("a_container_is_held_still_and_goes_on").await else { return };
    let driver = dial(&target(lab.host(0)));
    let wanted = plan(1, 1);
    driver.create_container(&wanted).await.unwrap();
    let state = || async { driver.inspect(&wanted.name).await.unwrap().unwrap().state };

    driver.freeze(&wanted.name).await.unwrap();
    assert_eq!(state().await, ContainerState::Created, "one that does not run is as still as can be");
    run(driver.as_ref(), &wanted).await.unwrap();
    for _ in 0..2 {
        driver.freeze(&wanted.name).await.unwrap();
        assert_eq!(state().await, ContainerState::Paused);
    }
    for _ in 0..2 {
        driver.thaw(&wanted.name).await.unwrap();
        assert_eq!(state().await, ContainerState::Running);
    }
    for missing in [driver.freeze("none").await, driver.thaw("none").await] {
        assert_eq!(error(missing, "a missing container").code, Code::NotFound);
    }

    // One that is held still can be fenced all the same.
    driver.freeze(&wanted.name).await.unwrap();
    let id = driver.inspect(&wanted.name).await.unwrap().unwrap().id;
    let name = naming::fenced(&wanted.name, Generation(1));
    for _ in 0..2 {
        driver.fence(&id, &name).await.unwrap();
        let fenced = driver.inspect(&id).await.unwrap().unwrap();
        assert!(matches!(fenced.state, ContainerState::Exited(_)) && fenced.name == name, "{fenced:?}");
    }
    // The next one of the same name and generation is kept beside it.
    let second = run(driver.as_ref(), &wanted).await.unwrap();
    for _ in 0..2 {
        driver.fence(&second.id, &name).await.unwrap();
    }
    assert!(driver.inspect(&second.id).await.unwrap().unwrap().name.starts_with(&format!("{name}.")));
    driver.fence("none", &name).await.unwrap();
    assert_eq!(driver.list_containers(cluster()).await.unwrap().len(), 2);
    lab.stop().await.unwrap();
}
