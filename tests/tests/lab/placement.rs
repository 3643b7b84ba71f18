//! Where sandboxes go, and that they go there once.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use std::collections::{BTreeMap, BTreeSet};

/// Equal sandboxes spread; cordons and constraints are obeyed; what does not fit is explained.
pub async fn spread_and_explained(world: &mut World) -> Result<()> {
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..6 {
        let made = world.cli().json(&["create", "--cpu", "0.5", "--memory", "256M", "--disk", "16M"]).await?;
        ensure!(made["phase"] == "running", "{made}");
        *on.entry(made["host"].as_str().context("a host")?.to_owned()).or_default() += 1;
    }
    // Not evenly to the last one: the hosts share this machine, and whoever was measured busier gets less.
    ensure!(on.len() == 3, "not spread: {on:?}");

    let dry = world.cli().json(&["place", "--dry-run", "--cpu", "0.5", "--memory", "256M"]).await?;
    ensure!(dry["chosen"].is_string() && dry["hosts"].as_array().is_some_and(|hosts| hosts.len() == 3), "{dry}");
    let said = world.cli().fails(5, &["create", "--cpu", "64"]).await?;
    ensure!(said.contains("no host fits 64 vCPU") && said.contains("3 lack CPU"), "{said}");

    let first = world.lab.host(0).name();
    world.cli().run(&["host", "cordon", first, "--reason", "test"]).await?;
    let said = world.cli().fails(5, &["create", "--memory", "900G"]).await?;
    ensure!(said.contains("2 lack memory, 1 cordoned"), "{said}");
    for _ in 0..3 {
        let id = world.create(&[]).await?;
        ensure!(world.cli().json(&["inspect", &id]).await?["host"] != first, "placed on a cordoned host");
    }
    world.cli().run(&["host", "uncordon", first]).await?;
    let second = world.lab.host(1).name();
    world.cli().run(&["host", "label", second, "disk=fast"]).await?;
    let id = world.create(&["--constraint", "disk=fast"]).await?;
    ensure!(world.cli().json(&["inspect", &id]).await?["host"] == second, "the constraint was not obeyed");
    world.cli().run(&["host", "label", second, "disk-"]).await?;
    Ok(())
}

/// Fifty ensures of one session at once, over all nodes, give one sandbox and one container.
pub async fn an_ensure_storm_gives_one_container(world: &mut World) -> Result<()> {
    let calls = (0..50).map(|turn| {
        let cli = world.cli().at(&world.cluster.nodes()[turn % 3].url);
        tokio::spawn(
            async move { cli.json(&["ensure", "storm", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await },
        )
    });
    let mut ids = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let made = call.await??;
        ids.insert(made["id"].as_str().context("an id")?.to_owned());
    }
    ensure!(ids.len() == 1, "several sandboxes: {ids:?}");
    let names: Vec<_> = world.containers().await?.into_iter().map(|(_, name)| name).collect();
    ensure!(names == ["shadow-session-storm"], "{names:?}");
    Ok(())
}

/// A key used twice makes one sandbox; another request under it is refused; a live session refuses a second create.
pub async fn idempotency_and_sessions(world: &mut World) -> Result<()> {
    let args = [
        "create",
        "--idempotency-key",
        "once",
        "--cpu",
        "0.1",
        "--memory",
        "64M",
        "--disk",
        "16M",
        "--session",
        "idem",
    ];
    let first = world.cli().json(&args).await?;
    let again = world.cli().json(&args).await?;
    ensure!(first["id"] == again["id"] && again["created"] == false, "{again}");
    let said = world.cli().fails(4, &["create", "--idempotency-key", "once", "--cpu", "0.2"]).await?;
    ensure!(said.contains("idempotency_mismatch"), "{said}");
    let said = world.cli().fails(4, &["create", "--session", "idem"]).await?;
    ensure!(said.contains("session_live") && said.contains(first["id"].as_str().context("an id")?), "{said}");
    // Terminating twice, and something that never was, are fine.
    let id = first["id"].as_str().context("an id")?;
    world.cli().run(&["rm", id]).await?;
    world.cli().run(&["rm", id]).await?;
    world.cli().run(&["rm", &plimsoll_types::SandboxId::from_parts(1, 1).to_string()]).await?;
    Ok(())
}

/// A request that may wait gets its place once there is room; one that waits in vain is told.
pub async fn waiting_for_room(world: &mut World) -> Result<()> {
    // One of these takes more than half of a host's line: a second does not fit beside it.
    let host = world.cli().json(&["host", "list"]).await?[0].clone();
    let most = format!("{}M", host["line"]["memory"].as_u64().context("a line")? / (1 << 20) * 6 / 10);
    let mut full = Vec::new();
    for _ in 0..3 {
        full.push(world.create(&["--memory", &most]).await?);
    }
    let said = world
        .cli()
        .fails(5, &["create", "--cpu", "0.1", "--memory", &most, "--disk", "16M", "--queue-timeout", "2s"])
        .await?;
    ensure!(said.contains("queue_timeout"), "{said}");
    let (cli, memory) = (world.cli().clone(), most.clone());
    let waiting = tokio::spawn(async move {
        cli.json(&["ensure", "patient", "--cpu", "0.1", "--memory", &memory, "--disk", "16M", "--queue-timeout", "60s"])
            .await
    });
    wait_for("it to wait in the queue", PATIENCE, || async {
        let all = world.sandboxes().await?;
        ensure!(all.iter().any(|sandbox| sandbox["session"] == "patient" && sandbox["phase"] == "pending"), "{all:?}");
        anyhow::Ok(())
    })
    .await?;
    world.cli().run(&["rm", &full[0]]).await?;
    let made = waiting.await??;
    ensure!(made["phase"] == "running", "{made}");
    Ok(())
}
