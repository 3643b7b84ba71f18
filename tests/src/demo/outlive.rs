//! Sandboxes outlive their containers and their hosts: paused here and resumed there, moved while they run, drained, and brought back
//! from a host that was cut off. Each act checks what it claims.

use crate::stage::{Stage, title};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::LabHost, wait::wait_for};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

async fn inspect(stage: &Stage, id: &str) -> Result<Value> {
    stage.cli().json(&["inspect", id]).await
}

async fn host_of<'a>(stage: &'a Stage, id: &str) -> Result<&'a LabHost> {
    let seen = inspect(stage, id).await?;
    let hosts = stage.lab.hosts();
    let found = hosts.iter().find(|host| seen["host"] == host.name()).map(|host| &**host);
    found.with_context(|| format!("{id} is on {}", seen["host"]))
}

async fn other_host<'a>(stage: &'a Stage, id: &str) -> Result<&'a LabHost> {
    let here = host_of(stage, id).await?.name().to_owned();
    stage.lab.hosts().iter().find(|host| host.name() != here).map(|host| &**host).context("a second host")
}

async fn write(stage: &Stage, id: &str, text: &str) -> Result<()> {
    stage.cli().run(&["exec", id, "sh", "-c", &format!("printf '%s' '{text}' > /workspace/kept.txt")]).await?;
    Ok(())
}

async fn holds(stage: &Stage, id: &str, text: &str) -> Result<()> {
    let said = stage.show(&["exec", id, "cat", "/workspace/kept.txt"]).await?;
    ensure!(said == text, "the file says {said:?} instead of {text:?}");
    Ok(())
}

/// Pauses one and resumes it on another host, by the same id, with its files.
pub async fn paused_here_resumed_there(stage: &Stage, id: &str) -> Result<()> {
    title("Paused here, resumed there: its files, CPU and memory are off the host in between");
    let (here, there) = (host_of(stage, id).await?.name().to_owned(), other_host(stage, id).await?.name());
    write(stage, id, "written before the pause").await?;
    let begun = Instant::now();
    stage.show(&["pause", id]).await?;
    println!("  off {here} after {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    stage.show(&["resume", id, "--to", there]).await?;
    println!("  on {there} after {:.1} s", begun.elapsed().as_secs_f64());
    holds(stage, id, "written before the pause").await?;
    ensure!(host_of(stage, id).await?.name() == there, "it is not on {there}");
    Ok(())
}

/// Moves one that runs.
pub async fn moved_while_it_runs(stage: &Stage, id: &str) -> Result<()> {
    title("Moved while it runs: committed, pushed, pulled, run, and only then switched");
    let there = other_host(stage, id).await?.name();
    write(stage, id, "written before the move").await?;
    let said = stage.show(&["migrate", id, "--to", there]).await?;
    ensure!(said.contains("down"), "it does not say what it cost: {said}");
    holds(stage, id, "written before the move").await
}

/// Empties a host while everything on it runs.
pub async fn a_host_is_drained(stage: &Stage) -> Result<()> {
    let host = stage.lab.host(1).name();
    title("A host is drained: everything on it moves away, running");
    let before = stage.cli().json(&["host", "inspect", host]).await?["sandboxes"].clone();
    let begun = Instant::now();
    stage.show(&["host", "drain", host, "--parallel", "4"]).await?;
    let after = stage.cli().json(&["host", "inspect", host]).await?;
    ensure!(after["sandboxes"] == 0, "{host} still holds {}", after["sandboxes"]);
    println!("  {before} sandboxes left {host} in {:.1} s", begun.elapsed().as_secs_f64());
    stage.show(&["host", "undrain", host]).await?;
    Ok(())
}

/// Cuts a host off: what it ran comes back elsewhere; when it is back, its old copies are stopped.
pub async fn a_host_is_cut_off(stage: &Stage) -> Result<()> {
    title("The plug is pulled: a host is gone, and its sandboxes come back elsewhere under their ids");
    let args = [
        "--cpu",
        "0.25",
        "--memory",
        "128M",
        "--disk",
        "64M",
        "--on-host-loss",
        "restore",
        "--checkpoint-every",
        "10m",
    ];
    let made = stage.cli().json(&[&["create", "--session", "phoenix"], &args[..]].concat()).await?;
    let id = made["id"].as_str().context("an id")?.to_owned();
    write(stage, &id, "written before the loss").await?;
    stage.show(&["snapshot", "create", &id]).await?;
    let lost = host_of(stage, &id).await?;
    stage.cli().run(&["host", "label", lost.name(), "plug=here"]).await?;
    let waits = ["create", "--session", "patience", "--constraint", "plug=here", "--on-host-loss", "hold"];
    let held = stage.cli().json(&[&waits[..], &args[..6]].concat()).await?;
    let held = held["id"].as_str().context("an id")?.to_owned();
    write(stage, &held, "written before the wait").await?;
    let cut = Instant::now();
    lost.partition().await?;
    println!("  the link of {} is down; its containers run on, and nobody can reach them", lost.name());
    let back = wait_for("the sandbox to run elsewhere", PATIENCE, || async {
        let seen = inspect(stage, &id).await?;
        ensure!(seen["phase"] == "running" && seen["host"] != lost.name(), "{} on {}", seen["phase"], seen["host"]);
        anyhow::Ok(seen)
    })
    .await;
    let waiting = stage.cli().json(&["ls", "--phase", "lost"]).await;
    if back.is_err() {
        lost.heal().await?;
    }
    let back = back?;
    let window = back["restored"]["window_ms"].as_u64().context("the data-loss window")?;
    println!(
        "  {id} runs on {} again, {:.1} s after the cut, from its snapshot; what it did in the {:.1} s after that is gone",
        back["host"].as_str().unwrap_or_default(),
        cut.elapsed().as_secs_f64(),
        Duration::from_millis(window).as_secs_f64()
    );
    holds(stage, &id, "written before the loss").await?;
    let waiting = waiting?;
    let waits = waiting.as_array().is_some_and(|all| all.iter().any(|it| it["id"] == held.as_str()));
    ensure!(waits, "{held} does not wait for its host: {waiting}");
    println!("  {held} was told to wait for its host, and does");
    lost.heal().await?;
    println!("  the link of {} is up again", lost.name());
    let filter = format!("label=plimsoll.sandbox={id}");
    let kept = wait_for("the replaced copy to be stopped", PATIENCE, || async {
        let running = lost.docker(&["ps", "--quiet", "--filter", &filter]).await?;
        let all = lost.docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}} ({{.Status}})"]).await?;
        ensure!(running.is_empty() && all.contains(".fenced-"), "running {running:?}, kept {all:?}");
        anyhow::Ok(all)
    })
    .await?;
    println!("  {}$ docker ps --all: {kept}", lost.name());
    wait_for("the one that waited to be back as it was", PATIENCE, || async {
        let lost = stage.cli().json(&["ls", "--phase", "lost"]).await?;
        ensure!(lost.as_array().is_some_and(Vec::is_empty), "{lost}");
        anyhow::Ok(())
    })
    .await?;
    holds(stage, &held, "written before the wait").await?;
    stage.show(&["rm", &id, &held]).await?;
    Ok(())
}
