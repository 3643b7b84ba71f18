//! Hosts and nodes that go away, come back, or come back as somebody else.

use crate::world::{PATIENCE, World};
use anyhow::{Result, ensure};
use plimsoll_testkit::wait::wait_for;

async fn health(world: &World, name: &str) -> Result<(String, String)> {
    let host = world.cli().json(&["host", "inspect", name]).await?;
    let text = |key: &str| host[key].as_str().unwrap_or_default().to_owned();
    Ok((text("health"), text("health_reason")))
}

async fn until_health(world: &World, name: &str, wanted: &str) -> Result<String> {
    wait_for(format!("{name} to be {wanted}"), PATIENCE, || async {
        let (health, reason) = health(world, name).await?;
        ensure!(health == wanted, "it is {health} ({reason})");
        anyhow::Ok(reason)
    })
    .await
}

/// A host that is cut off gets nothing new and says why; when it is back it is used again, and what ran there still does.
pub async fn a_host_goes_and_comes_back(world: &mut World) -> Result<()> {
    let name = world.lab.host(0).name().to_owned();
    world.cli().run(&["host", "label", &name, "here=yes"]).await?;
    let id = world.create(&["--constraint", "here=yes"]).await?;
    world.lab.host(0).partition().await?;
    let reason = until_health(world, &name, "unreachable").await;
    let placed = world.create(&[]).await;
    let refused = world.cli().fails(5, &["create", "--constraint", "here=yes", "--cpu", "0.1"]).await;
    let exec = world.cli().output(&["exec", &id, "true"]).await;
    world.lab.host(0).heal().await?;
    ensure!(!reason?.is_empty(), "it does not say why it is unreachable");
    ensure!(world.cli().json(&["inspect", &placed?]).await?["host"] != name.as_str(), "placed on an unreachable host");
    ensure!(refused.as_ref().is_ok_and(|said| said.contains("1 unreachable")), "{refused:?}");
    ensure!(!exec?.status.success(), "exec on a host that is cut off");
    until_health(world, &name, "ready").await?;
    ensure!(world.cli().run(&["exec", &id, "echo", "still here"]).await? == "still here", "it was lost");
    ensure!(!world.create(&["--constraint", "here=yes"]).await?.is_empty(), "not used again");

    // Power off and on: the containers have stopped; state finds out and starts them again.
    world.lab.host(0).kill().await?;
    until_health(world, &name, "unreachable").await?;
    world.lab.host(0).start().await?;
    until_health(world, &name, "ready").await?;
    wait_for("the sandbox that stopped with its host to run again", PATIENCE, || async {
        let said = world.cli().run(&["exec", &id, "echo", "here again"]).await?;
        ensure!(said == "here again", "{said}");
        anyhow::Ok(())
    })
    .await?;
    world.cli().run(&["host", "label", &name, "here-"]).await?;
    Ok(())
}

/// A node whose log was wiped refuses to vote and says how to rejoin; removed and joined afresh, it serves again.
pub async fn a_wiped_node_refuses_and_rejoins(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let victim = (leader + 1) % 3;
    let number = world.cluster.nodes()[victim].id.to_string();
    world.cluster.kill(victim)?;
    let data = world.cluster.data_dir(victim);
    let store = data.join("log");
    std::fs::remove_dir_all(&store)?;
    world.cluster.restart(victim)?;
    let (code, said) = world.cluster.wait_ended(victim).await?;
    // systemd starts it again after any other failure; after this one it must not.
    ensure!(code == Some(8), "it ran on an empty log, or does not say by its exit code what is wrong: {code:?}");
    ensure!(
        said.contains("storage_corrupt") && said.contains("plimsoll cluster remove"),
        "it does not say what to do: {said}"
    );
    world.cli().run(&["cluster", "remove", &number]).await?;
    world.cluster.forget(victim);
    world.cluster.add_node().await?;
    let status = world.cli().json(&["cluster", "status"]).await?;
    ensure!(status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{status}");
    ensure!(!world.create(&[]).await?.is_empty(), "the healed cluster does not place");
    Ok(())
}

/// A host that shows another key than the pinned one is refused, with both fingerprints, until it is added anew.
pub async fn a_changed_host_key_is_refused(world: &mut World) -> Result<()> {
    let host = world.lab.host(0).clone();
    let before = host.host_key();
    let now = host.change_host_key().await?;
    host.restart_sshd().await?;
    let reason = until_health(world, host.name(), "unreachable").await?;
    ensure!(
        reason.contains(&before.fingerprint) && reason.contains(&now.fingerprint),
        "both fingerprints should be shown: {reason}"
    );
    world.clear().await?;
    world.cli().run(&["host", "remove", host.name()]).await?;
    world.cli().run(&["host", "add", host.name(), &host.ssh_url(), "--fingerprint", &now.fingerprint]).await?;
    until_health(world, host.name(), "ready").await?;
    Ok(())
}
