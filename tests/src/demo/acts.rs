//! What is shown, act by act. Each act checks what it claims; a claim that does not hold ends the demonstration.

use crate::stage::{Stage, title};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use plimsoll_tests::storm::ensure_many;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Adds the three hosts, each with the key it shows.
pub async fn hosts(stage: &Stage) -> Result<()> {
    title("Adding the hosts: the key is pinned, the machine is checked");
    for host in stage.lab.hosts() {
        let (key, url, publish) = (host.host_key().fingerprint, host.ssh_url(), host.address().to_string());
        let args = ["host", "add", host.name(), &url, "--fingerprint", &key, "--publish", &publish];
        if host.name() == stage.lab.host(0).name() {
            stage.show(&args).await?;
        } else {
            stage.cli().run(&args).await?;
        }
    }
    stage.show(&["host", "list"]).await?;
    Ok(())
}

/// Twelve sandboxes of three sizes; where each went and why. Their ids.
pub async fn a_dozen_sandboxes(stage: &Stage) -> Result<Vec<String>> {
    title("A dozen sandboxes of different sizes, each on the host with the most room");
    let sizes = [("0.5", "256M"), ("0.25", "512M"), ("1", "128M")];
    let (mut ids, mut took, mut on) = (Vec::new(), Vec::new(), BTreeMap::<String, usize>::new());
    for number in 0..12 {
        let (cpu, memory) = sizes[number % sizes.len()];
        let dry = stage.cli().json(&["place", "--dry-run", "--cpu", cpu, "--memory", memory, "--disk", "64M"]).await?;
        let session = format!("demo-{number}");
        let begun = Instant::now();
        let made = stage
            .cli()
            .json(&["create", "--session", &session, "--cpu", cpu, "--memory", memory, "--disk", "64M"])
            .await?;
        took.push(begun.elapsed());
        ensure!(made["phase"] == "running", "{session} does not run: {made}");
        let host = made["host"].as_str().context("a host")?;
        let why = dry["sentence"].as_str().context("a sentence")?;
        // The dry run and the create are two requests; a poll in between can change the answer.
        let why = if dry["chosen"] == made["host"] { why } else { "measured anew between the dry run and the create" };
        println!("  {session:<8} {cpu:>4} vCPU {memory:>5} → {host}   {why}");
        *on.entry(host.to_owned()).or_default() += 1;
        ids.push(made["id"].as_str().context("an id")?.to_owned());
    }
    ensure!(on.len() == 3, "they did not spread: {on:?}");
    took.sort();
    println!(
        "  from the command to running: median {} ms, slowest {} ms",
        took[took.len() / 2].as_millis(),
        took[took.len() - 1].as_millis()
    );
    stage.show(&["ls"]).await?;
    Ok(ids)
}

/// Writes a file, runs a command on it, reads it back.
pub async fn files_and_commands(stage: &Stage, ids: &[String]) -> Result<()> {
    title("A file goes in, a command runs, the result comes out");
    let id = ids.first().context("a sandbox")?;
    let (there, here) = (format!("{id}:/workspace/notes/hello.txt"), stage.lab.folder().join("hello.txt"));
    std::fs::write(&here, "hello from the control plane\n")?;
    stage.show(&["cp", here.to_str().context("a path")?, &there]).await?;
    let said = stage
        .show(&["exec", id, "sh", "-c", "id -un; tr a-z A-Z < notes/hello.txt > notes/loud.txt; wc -c notes/*"])
        .await?;
    ensure!(said.contains("user"), "not the sandbox's user: {said}");
    let back = stage.lab.folder().join("loud.txt");
    stage.show(&["cp", &format!("{id}:/workspace/notes/loud.txt"), back.to_str().context("a path")?]).await?;
    let text = std::fs::read_to_string(&back)?;
    println!("  {}", text.trim());
    ensure!(text == "HELLO FROM THE CONTROL PLANE\n", "it came back as {text:?}");
    Ok(())
}

/// Asks for more than fits: the answer explains itself.
pub async fn more_than_fits(stage: &Stage) -> Result<()> {
    title("More than fits: refused at once, with the reason");
    let first = stage.lab.host(0).name();
    stage.show(&["host", "cordon", first, "--reason", "kernel update"]).await?;
    let said = stage.show_refusal(5, &["create", "--cpu", "2", "--memory", "900G"]).await?;
    ensure!(said.contains("2 lack memory, 1 cordoned"), "it does not explain itself: {said}");
    stage.show(&["host", "uncordon", first]).await?;
    Ok(())
}

/// Kills the leader while ten sandboxes are being made; all ten run, each once.
pub async fn the_leader_dies(stage: &mut Stage) -> Result<()> {
    title("kill -9 for the leader, in the middle of creating ten more");
    let before: BTreeSet<String> = running(stage).await?.into_iter().map(|(_, name)| name).collect();
    let leader = stage.cluster.leader().await?;
    let begun = Instant::now();
    let calls = ensure_many(stage.cli(), "survivor", 10, PATIENCE);
    wait_for("the first of them to have a container", PATIENCE, || async {
        ensure!(running(stage).await?.len() > before.len(), "none yet");
        anyhow::Ok(())
    })
    .await?;
    let number = stage.cluster.nodes()[leader].id;
    stage.cluster.kill(leader)?;
    let killed = Instant::now();
    println!(
        "  {} of 10 had a container when node {number}, the leader, was killed",
        running(stage).await?.len() - before.len()
    );
    let new = stage.cluster.leader().await?;
    println!("  node {} leads after {:.1} s", stage.cluster.nodes()[new].id, killed.elapsed().as_secs_f64());
    for call in calls {
        let made = call.await??;
        ensure!(made["phase"] == "running", "one does not run: {made}");
    }
    println!("  all ten callers have their sandbox after {:.1} s", begun.elapsed().as_secs_f64());
    let wanted: BTreeSet<String> = (0..10).map(|number| format!("shadow-session-survivor-{number}")).collect();
    wait_for("exactly one container for each", PATIENCE, || async {
        let all = running(stage).await?;
        let new: Vec<&String> = all.iter().map(|(_, name)| name).filter(|name| !before.contains(*name)).collect();
        ensure!(new.len() == 10 && new.iter().all(|name| wanted.contains(*name)), "{new:?}");
        anyhow::Ok(())
    })
    .await?;
    for host in stage.lab.hosts() {
        let names = host.docker(&["ps", "--format", "{{.Names}}", "--filter", "name=survivor"]).await?;
        println!("  {}$ docker ps: {}", host.name(), names.lines().collect::<Vec<_>>().join(" "));
    }
    stage.cluster.restart(leader)?;
    stage.cluster.wait_ready(leader).await?;
    println!("  node {number} is back");
    Ok(())
}

/// Running containers on all hosts, as Docker says.
async fn running(stage: &Stage) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for host in stage.lab.hosts() {
        let names = host.docker(&["ps", "--format", "{{.Names}}"]).await?;
        all.extend(names.lines().map(|name| (host.name().to_owned(), name.to_owned())));
    }
    Ok(all)
}

/// A few of the leader's metrics.
pub async fn metrics(stage: &Stage) -> Result<()> {
    title("What Prometheus sees on the leader");
    let leader = stage.cluster.leader().await?;
    let url = format!("{}/metrics", stage.cluster.nodes()[leader].url);
    println!("$ curl {url}");
    let output =
        tokio::process::Command::new("curl").args(["--silent", "--fail", "--max-time", "10", &url]).output().await?;
    ensure!(output.status.success(), "the leader shows no metrics");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for prefix in [
        "plimsoll_sandboxes{phase=\"running\"",
        "plimsoll_host_reserved_cpu_cores",
        "plimsoll_host_measured_cpu_cores",
        "plimsoll_placements_total{",
        "plimsoll_placement_seconds_sum",
        "plimsoll_create_seconds_sum",
        "plimsoll_raft_term",
    ] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(prefix)).take(4).collect();
        ensure!(!lines.is_empty(), "no metric begins with {prefix}");
        for line in lines {
            println!("  {line}");
        }
    }
    Ok(())
}

/// Removes every sandbox; nothing of ours is left on any host.
pub async fn everything_goes(stage: &Stage) -> Result<()> {
    title("Terminating all of them");
    let all = stage.cli().json(&["ls"]).await?;
    let ids: Vec<String> = all
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|sandbox| sandbox["id"].as_str().map(str::to_owned))
        .collect();
    ensure!(ids.len() == 22, "{} sandboxes instead of 22", ids.len());
    let begun = Instant::now();
    let args: Vec<&str> = std::iter::once("rm").chain(ids.iter().map(String::as_str)).collect();
    stage.cli().run(&args).await?;
    wait_for("nothing to be left", PATIENCE, || async {
        for host in stage.lab.hosts() {
            let left =
                host.docker(&["ps", "--all", "--quiet"]).await? + &host.docker(&["volume", "ls", "--quiet"]).await?;
            ensure!(left.is_empty(), "{} still has {left}", host.name());
        }
        anyhow::Ok(())
    })
    .await?;
    println!("  22 sandboxes, their workspaces and networks are gone after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
