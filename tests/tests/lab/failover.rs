//! Nodes that die or stop while work is under way.

use crate::{
    operations::curl,
    world::{PATIENCE, SETTLE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use plimsoll_tests::storm::ensure_many;
use std::collections::BTreeSet;

/// SIGKILL for the leader while ten sandboxes are being created: all ten run, each in exactly one container.
pub async fn creates_survive_the_leader(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let calls = ensure_many(world.cli(), "survivor", 10, PATIENCE);
    wait_for("the first of them to be under way", PATIENCE, || async {
        ensure!(!world.containers().await?.is_empty(), "no container yet");
        anyhow::Ok(())
    })
    .await?;
    world.cluster.kill(leader)?;
    let mut ids = BTreeSet::new();
    for call in calls {
        ids.insert(call.await??["id"].as_str().context("an id")?.to_owned());
    }
    ensure!(ids.len() == 10, "{ids:?}");
    wait_for("exactly ten containers", SETTLE, || async {
        let mut names: Vec<String> = world.containers().await?.into_iter().map(|(_, name)| name).collect();
        names.sort();
        let wanted: Vec<String> = (0..10).map(|number| format!("shadow-session-survivor-{number}")).collect();
        ensure!(names == wanted, "{names:?}");
        let recorded: BTreeSet<String> = world
            .sandboxes()
            .await?
            .iter()
            .filter_map(|sandbox| sandbox["container"].as_str().map(str::to_owned))
            .collect();
        ensure!(recorded == world.running_ids().await?, "state and Docker disagree");
        anyhow::Ok(())
    })
    .await?;
    world.cluster.restart(leader)?;
    world.cluster.wait_ready(leader).await
}

/// A token that is wrong, and a folder that holds a node already, are refused with what to do.
pub async fn a_wrong_token_is_refused(world: &mut World) -> Result<()> {
    let folder = world.lab.folder().join("intruder");
    let good = world.cli().json(&["cluster", "token"]).await?["token"].as_str().context("a token")?.to_owned();
    let mut forged: Vec<char> = good.chars().collect();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    let data = folder.to_str().context("a path")?;
    for token in ["nonsense", &forged] {
        let output = world.cli().output(&["join", token, "--data-dir", data]).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && said.contains("join_denied") && said.contains("plimsoll cluster token"),
            "{output:?}"
        );
    }
    let taken = world.cluster.data_dir(0);
    let output = world.cli().output(&["join", &good, "--data-dir", taken.to_str().context("a path")?]).await?;
    ensure!(String::from_utf8_lossy(&output.stderr).contains("node_exists"), "{output:?}");
    let status = world.cli().json(&["cluster", "status"]).await?;
    ensure!(status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "somebody got in: {status}");
    Ok(())
}

/// SIGKILL for every node at once: what was acknowledged is there when they are back, and what runs was not touched.
pub async fn all_nodes_at_once(world: &mut World) -> Result<()> {
    let mut ids = BTreeSet::new();
    for _ in 0..4 {
        ids.insert(world.create(&[]).await?);
    }
    let before = world.running_ids().await?;
    for index in 0..3 {
        world.cluster.kill(index)?;
    }
    world.cluster.restart_all();
    for index in 0..3 {
        world.cluster.wait_ready(index).await?;
    }
    let after: BTreeSet<String> =
        world.sandboxes().await?.iter().filter_map(|sandbox| sandbox["id"].as_str().map(str::to_owned)).collect();
    ensure!(after == ids, "{after:?} instead of {ids:?}");
    ensure!(world.running_ids().await? == before, "containers changed");
    for id in &ids {
        ensure!(world.cli().run(&["exec", id, "echo", "hi"]).await? == "hi", "{id} does not answer");
    }
    ensure!(!world.create(&[]).await?.is_empty(), "the cluster does not place any more");
    Ok(())
}

/// What one node acknowledged, every other node answers at once.
pub async fn every_node_answers(world: &mut World) -> Result<()> {
    for node in world.cluster.nodes() {
        let cli = world.cli().at(&node.url);
        let made = cli.json(&["create", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
        let id = made["id"].as_str().context("an id")?;
        for other in world.cluster.nodes() {
            let cli = world.cli().at(&other.url);
            ensure!(cli.json(&["inspect", id]).await?["phase"] == "running", "node {} does not know {id}", other.id);
            ensure!(cli.run(&["exec", id, "echo", "hi"]).await? == "hi", "exec through node {}", other.id);
        }
    }
    Ok(())
}

/// A leader that is asked to stop hands over first; transfer does so on demand.
pub async fn a_stopped_leader_hands_over(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let other = (leader + 1) % 3;
    let number = world.cluster.nodes()[other].id.to_string();
    world.cli().run(&["cluster", "transfer", &number]).await?;
    wait_for("the other to lead", PATIENCE, || async {
        anyhow::Ok(()).and(if world.cluster.leader().await? == other {
            Ok(())
        } else {
            Err(anyhow::anyhow!("not yet"))
        })
    })
    .await?;
    world.cluster.stop(other).await?;
    let id = world.create(&[]).await?;
    ensure!(!id.is_empty(), "no id");
    world.cluster.restart(other)?;
    world.cluster.wait_ready(other).await
}

/// SIGTERM for the leader while it takes a long upload: another node leads while the upload is still open, and it is finished.
pub async fn a_leader_hands_over_before_it_drains(world: &mut World) -> Result<()> {
    let id = world.create(&[]).await?;
    let leader = world.cluster.leader().await?;
    let (number, url) = (world.cluster.nodes()[leader].id, world.cluster.nodes()[leader].url.clone());
    let mut upload = world.cli().at(&url).open(&["files", "write", &id, "/workspace/slow"])?;
    upload.feed(b"begun, ").await?;
    wait_for("the upload to be under way", PATIENCE, || async {
        let text = curl(&[&format!("{url}/metrics")]).await?;
        let count = text.lines().find_map(|line| line.strip_prefix("plimsoll_http_requests_in_flight "));
        // One of them is this question.
        ensure!(count.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count >= 2.0)), "{count:?}");
        anyhow::Ok(())
    })
    .await?;
    world.cluster.ask_to_stop(leader)?;
    let other = world.cli().at(&world.cluster.nodes()[(leader + 1) % 3].url);
    wait_for("another leader", PATIENCE, || async {
        let status = other.json(&["cluster", "status"]).await?;
        ensure!(status["leader"].as_u64().is_some_and(|leader| leader != number), "{status}");
        anyhow::Ok(())
    })
    .await?;
    ensure!(!upload.has_ended()?, "the upload was cut off before leadership went over");
    upload.feed(b"and finished").await?;
    let out = upload.finish().await?;
    ensure!(out.status.success(), "the upload was not finished: {out:?}");
    let (code, log) = world.cluster.wait_ended(leader).await?;
    ensure!(code == Some(0), "the node ended with {code:?}: {log}");
    ensure!(other.run(&["files", "cat", &id, "/workspace/slow"]).await? == "begun, and finished", "it is not whole");
    world.cluster.restart(leader)?;
    world.cluster.wait_ready(leader).await
}
