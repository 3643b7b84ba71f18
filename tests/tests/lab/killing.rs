//! The leader is killed at each step of each workflow, and the next one finishes it: no file is lost and nothing is left behind.
//!
//! What a step has done and what the next one has not begun is the same moment, so one kill as each begins, and one after the last, is all.
//! Only the stage of an operation is committed: what the killed leader did since is done again by the next one, on hosts that have it already.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, bail, ensure};
use plimsoll_testkit::wait::wait_for;
use serde_json::Value;
use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

/// Between two looks at the leader's log: a step takes longer than this to reach its host.
const LOOK: Duration = Duration::from_millis(1);

/// What a step's line begins with, as the plans print it.
const SNAPSHOT: &[&str] = &[
    "begins: freeze",
    "begins: commit container",
    "begins: thaw",
    "begins: push",
    "begins: commit the snapshot",
    "done: commit the snapshot",
];
const PAUSE: &[&str] =
    &["begins: remove container", "begins: remove workspace", "begins: commit paused", "done: commit paused"];
const MIGRATE: &[&str] = &[
    "begins: pull",
    "begins: create container",
    "begins: start container",
    "begins: wait until it runs",
    "begins: commit the move",
    "begins: remove container",
    "begins: remove workspace",
    "done: remove workspace",
];

const RESUME: &[&str] = &[
    "begins: pull",
    "begins: commit starting",
    "begins: create container",
    "begins: start container",
    "begins: wait until it runs",
    "begins: commit running",
];

async fn inspect(world: &World, id: &str) -> Result<Value> {
    world.cli().json(&["inspect", id]).await
}

/// Kills the leader as soon as its log has this line of this sandbox; answers which node it was.
async fn kill_at(world: &mut World, id: &str, line: &str, from: &[u64]) -> Result<usize> {
    let began = Instant::now();
    loop {
        for (index, offset) in from.iter().enumerate() {
            if seen(&world.cluster.log(index), *offset, id, line)? {
                world.cluster.kill(index)?;
                return Ok(index);
            }
        }
        if began.elapsed() > PATIENCE {
            bail!("no leader logged {line:?} of {id}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn seen(log: &Path, offset: u64, id: &str, line: &str) -> Result<bool> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().any(|text| text.contains(id) && text.contains(line)))
}

fn ends_of_logs(world: &World) -> Result<Vec<u64>> {
    let sizes =
        (0..world.cluster.nodes().len()).map(|index| std::fs::metadata(world.cluster.log(index)).map(|it| it.len()));
    sizes.collect::<std::io::Result<_>>().context("the nodes' logs")
}

/// On no two hosts at once, and on none where it is paused.
async fn runs_once(world: &World, id: &str) -> Result<()> {
    let of_it = format!("label=plimsoll.sandbox={id}");
    wait_for(format!("one copy of {id} to be left"), PATIENCE, || async {
        let expected = usize::from(inspect(world, id).await?["phase"] != "paused");
        let mut running = Vec::new();
        for host in world.lab.hosts() {
            let ids = host.docker(&["ps", "--quiet", "--filter", &of_it]).await?;
            running.extend(ids.lines().map(|id| format!("{id} on {}", host.name())));
        }
        ensure!(running.len() == expected, "{expected} should run, these do: {running:?}");
        anyhow::Ok(())
    })
    .await
}

/// One workflow of one sandbox with one kill; `done` says whether it came to what was asked for.
async fn survive(world: &mut World, args: &[&str], line: &str, done: fn(&Value, &str) -> bool) -> Result<()> {
    let id = world.create(&[]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", &format!("printf {id} > /workspace/id; printf {id} > /tmp/id")]).await?;
    survive_with(world, &id, args, line, done).await
}

async fn survive_with(
    world: &mut World,
    id: &str,
    args: &[&str],
    line: &str,
    done: fn(&Value, &str) -> bool,
) -> Result<()> {
    let first = inspect(world, id).await?["host"].as_str().unwrap_or_default().to_owned();
    let from = ends_of_logs(world)?;
    let mut all: Vec<&str> = args.to_vec();
    all.insert(1 + usize::from(args[0] == "snapshot"), id);
    world.cli().run(&all).await?;
    let killed = kill_at(world, id, line, &from).await?;
    let ended = wait_for(format!("{} of {id}, killed at {line:?}, to be done", args[0]), PATIENCE, || async {
        let seen = inspect(world, id).await?;
        ensure!(
            seen["work"].is_null() && done(&seen, &first),
            "{} work {} trouble {}",
            seen["phase"],
            seen["work"],
            seen["trouble"]
        );
        anyhow::Ok(())
    })
    .await;
    world.cluster.restart(killed)?;
    world.cluster.wait_ready(killed).await?;
    ended?;
    runs_once(world, id).await?;
    let held = world.cli().run(&["exec", id, "cat", "/workspace/id", "/tmp/id"]).await?;
    ensure!(held == format!("{id}{id}"), "killed at {line:?}, its files say {held:?}");
    world.cli().run(&["rm", id]).await.map(drop)
}

/// A snapshot that was asked for is there, and its sandbox runs.
pub async fn at_each_step_of_a_snapshot(world: &mut World) -> Result<()> {
    for (number, line) in SNAPSHOT.iter().enumerate() {
        let name = format!("killed-{number}");
        let args = ["snapshot", "create", "--name", &name, "--no-wait"];
        survive(world, &args, line, |seen, _| seen["phase"] == "running").await?;
        let kept = world.cli().json(&["snapshot", "inspect", &name]).await?;
        ensure!(kept["phase"] == "available", "killed at {line:?}: {kept}");
        world.cli().run(&["snapshot", "rm", &name]).await?;
    }
    Ok(())
}

/// A pause that was asked for is one, and comes back with its files.
pub async fn at_each_step_of_a_pause(world: &mut World) -> Result<()> {
    for line in PAUSE {
        survive(world, &["pause", "--no-wait"], line, |seen, _| seen["phase"] == "paused").await?;
    }
    Ok(())
}

/// A resume that was asked for ends in one container with the paused files, on another host than before.
pub async fn at_each_step_of_a_resume(world: &mut World) -> Result<()> {
    for line in RESUME {
        let id = world.create(&[]).await?;
        let write = format!("printf {id} > /workspace/id; printf {id} > /tmp/id");
        world.cli().run(&["exec", &id, "sh", "-c", &write]).await?;
        let first = inspect(world, &id).await?["host"].as_str().context("a host")?.to_owned();
        world.cli().run(&["pause", &id]).await?;
        let other =
            world.lab.hosts().iter().find(|host| host.name() != first).context("another host")?.name().to_owned();
        survive_with(world, &id, &["resume", "--no-wait", "--to", &other], line, |seen, _| seen["phase"] == "running")
            .await?;
    }
    Ok(())
}

/// A move that was asked for ends on another host.
pub async fn at_each_step_of_a_migration(world: &mut World) -> Result<()> {
    for line in MIGRATE {
        survive(world, &["migrate", "--no-wait"], line, |seen, first| {
            seen["phase"] == "running" && seen["host"] != first
        })
        .await?;
    }
    Ok(())
}
