//! What breaks on a host while a sandbox is snapshot, paused or moved: a full disk, a cut link, Docker restarted, the host dead, the
//! registry gone. Whatever it is, the sandbox runs or is paused as it was meant to, with its files, and nothing is left over.

use crate::{
    outlive::{DIGEST, TREE, host_of, inspect, nothing_left, pair, until_health, until_phase},
    world::{PATIENCE, SETTLE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::LabHost, wait::wait_for};
use serde_json::Value;
use std::{path::Path, time::Instant};

/// What else of a sandbox must be the same: everything it was given for a push to take its time.
const NOISE: &str = "md5sum < /workspace/noise";

/// A sandbox with a tree and so many MiB that cannot be packed: Docker sends about 30 of them a second. Answers its id and what its files
/// must be.
async fn filled(world: &World, mib: u32, args: &[&str]) -> Result<(String, String)> {
    let id = world.create(args).await?;
    let noise = format!("dd if=/dev/urandom of=/workspace/noise bs=1M count={mib} 2>/dev/null");
    world.cli().run(&["exec", &id, "sh", "-c", &format!("{TREE}; {noise}; sync")]).await?;
    let files = files(world, &id).await?;
    Ok((id, files))
}

async fn files(world: &World, id: &str) -> Result<String> {
    world.cli().run(&["exec", id, "sh", "-c", &format!("{DIGEST}; {NOISE}")]).await
}

/// Returns in the middle of the push of a sandbox's snapshot: some of it is in the registry, and not all.
async fn until_pushing(world: &World, id: &str) -> Result<()> {
    let data = world.registry.data();
    wait_for(format!("{id} to be pushed"), PATIENCE, || async {
        ensure!(uploads(&data, id), "nothing of it is under way: {}", inspect(world, id).await?["trouble"]);
        anyhow::Ok(())
    })
    .await
}

/// Whether a first MiB of a sandbox's has arrived, and more arrives: what earlier pushes left unfinished lies there as well.
fn uploads(data: &Path, id: &str) -> bool {
    let pattern = format!("*/{id}/_uploads/*/data");
    let found = std::process::Command::new("find")
        .arg(data)
        .args(["-path", &pattern, "-size", "+1M", "-newermt", "1 second ago"])
        .output();
    found.is_ok_and(|found| !found.stdout.is_empty())
}

async fn until_stage(world: &World, id: &str, stage: &str) -> Result<()> {
    wait_for(format!("{id}'s snapshot to be {stage}"), PATIENCE, || async {
        let seen = inspect(world, id).await?;
        let there = seen["work"].is_null() || seen["work"]["stage"] == stage;
        ensure!(there, "it is {}", seen["work"]);
        anyhow::Ok(())
    })
    .await
}

/// Waits until no operation is under way and answers with the sandbox, which must run.
async fn until_over(world: &World, id: &str) -> Result<Value> {
    wait_for(format!("{id} to run with nothing under way"), PATIENCE, || async {
        let seen = inspect(world, id).await?;
        ensure!(seen["work"].is_null() && seen["phase"] == "running", "it is {} in {}", seen["phase"], seen["work"]);
        anyhow::Ok(seen)
    })
    .await
}

/// It runs on where it was, in the container it was in, with its files.
async fn untouched(world: &World, before: &Value, wanted: &str) -> Result<()> {
    let id = before["id"].as_str().context("an id")?;
    let seen = until_over(world, id).await?;
    for part in ["container", "host", "generation", "endpoints"] {
        ensure!(seen[part] == before[part], "its {part} is another: {seen}");
    }
    ensure!(files(world, id).await? == wanted, "its files differ");
    Ok(())
}

/// It can be moved now, and is what it was. A disk that was full is known to have room again at the next poll.
async fn moves_now(world: &World, id: &str, to: &LabHost, wanted: &str) -> Result<()> {
    let output = wait_for("a second try to be accepted", PATIENCE, || async {
        let output = world.cli().output(&["migrate", id, "--to", to.name()]).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!said.contains("nearly full disk"), "{said}");
        anyhow::Ok(output)
    })
    .await?;
    ensure!(output.status.success(), "a second try: {output:?}");
    ensure!(host_of(world, id).await? == to.name(), "it did not move");
    ensure!(files(world, id).await? == wanted, "its files differ after the second try");
    Ok(())
}

/// What a snapshot that was given up has made on its way is gone from its host; whole images, and those without a name, are
/// collected at leisure.
async fn no_remains(host: &LabHost) -> Result<()> {
    wait_for(format!("what was given up to be gone from {}", host.name()), SETTLE, || async {
        let carriers = host.docker(&["ps", "--all", "--quiet", "--filter", "name=plimsoll-carrier"]).await?;
        let named = host.docker(&["images", "--format", "{{.Tag}}", "plimsoll-snapshot/*"]).await?;
        let halves: Vec<&str> = named.lines().filter(|tag| tag.ends_with(".root")).collect();
        let nameless = host
            .docker(&["images", "--quiet", "--filter", "dangling=true", "--filter", "label=plimsoll.cluster"])
            .await?;
        if let Some(image) = nameless.lines().next() {
            let what = [
                "inspect",
                "--format",
                "{{.RepoTags}} {{.RepoDigests}} {{.Parent}} {{.Config.Labels}} {{.Container}}",
                image,
            ];
            anyhow::bail!("images without a name: {}", host.docker(&what).await?);
        }
        ensure!(carriers.is_empty() && halves.is_empty(), "helpers {carriers:?}, images {halves:?}");
        anyhow::Ok(())
    })
    .await
}

/// The disk of the source is full, or fills up on the way: nothing is taken, everything runs on, what was made meanwhile is removed, and
/// with room again it works.
pub async fn a_full_source_gives_up(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 64, &[]).await?;
    let before = inspect(world, &id).await?;
    let (here, there) = pair(world, before["host"].as_str().context("a host")?)?;
    strangers(here).await?;
    let refused = async {
        // Room for a third of the workspace.
        let room = |name: &str| format!("$(($(df --output=avail -B1 /var | tail -n 1) {name}))");
        here.sh(&["sh", "-c", &format!("fallocate -l {} /var/filler-1", room("- 20971520"))]).await?;
        gives_up_full(world, &["snapshot", "create", &id], &before, &wanted).await?;
        no_remains(here).await?;
        let free: u64 = here.sh(&["sh", "-c", &format!("echo {}", room(""))]).await?.parse()?;
        ensure!(free > 16 << 20, "of the 20 MiB that were free {free} bytes are left");
        here.fill_disk().await?;
        for args in [&["snapshot", "create", &id][..], &["pause", &id], &["migrate", &id, "--to", there.name()]] {
            gives_up_full(world, args, &before, &wanted).await?;
        }
        no_remains(here).await?;
        named_and_not_touched(world, here).await
    };
    let refused = refused.await;
    here.free_disk().await?;
    here.docker(&["image", "rm", "theirs:latest"]).await?;
    here.docker(&["volume", "rm", "foreign"]).await?;
    refused?;
    wait_for("the host to say that it has room again", 2 * PATIENCE, || async {
        let full = world.cli().json(&["host", "inspect", here.name()]).await?["disk_full"].clone();
        ensure!(full.is_null(), "{full}");
        anyhow::Ok(())
    })
    .await?;
    moves_now(world, &id, there, &wanted).await
}

/// What fills the disk is said on the host's record and in a dry run, and is still there.
async fn named_and_not_touched(world: &World, host: &LabHost) -> Result<()> {
    let reason = wait_for("what fills the disk to be named", 2 * PATIENCE, || async {
        let seen = world.cli().json(&["host", "inspect", host.name()]).await?;
        anyhow::Ok(seen["disk_full"]["reason"].as_str().with_context(|| seen.to_string())?.to_owned())
    })
    .await?;
    for part in ["% full", "(theirs:latest 4 MiB)", "(foreign 3 MiB)", "files outside Docker", "never touched"] {
        ensure!(reason.contains(part), "it does not name {part}: {reason}");
    }
    let shown = world.cli().run(&["host", "inspect", host.name()]).await?;
    ensure!(shown.contains(&reason), "{shown}");
    let dry = world.cli().json(&["place", "--dry-run", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
    let verdicts = dry["hosts"].as_array().context("hosts")?;
    let verdict = verdicts.iter().find(|verdict| verdict["host"] == host.name()).context("a verdict")?;
    ensure!(verdict["rejection"].as_str().is_some_and(|why| why.contains(&reason)), "{verdict}");
    let there = host.docker(&["images", "--quiet", "theirs:latest"]).await?;
    ensure!(!there.is_empty() && host.docker(&["volume", "inspect", "foreign"]).await.is_ok(), "something is gone");
    host.sh(&["ls", "/var/filler-1"]).await.map(drop)
}

/// An image and a volume of somebody else's on the host.
async fn strangers(host: &LabHost) -> Result<()> {
    let run = ["run", "--network", "none", "--user", "0", "--name", "stranger", "--volume", "foreign:/data"];
    let write =
        "dd if=/dev/urandom of=/data/a bs=1M count=3 2>/dev/null; dd if=/dev/urandom of=/big bs=1M count=4 2>/dev/null";
    host.docker(&[&run[..], &["plimsoll/lab:latest", "sh", "-c", write]].concat()).await?;
    host.docker(&["commit", "stranger", "theirs:latest"]).await?;
    host.docker(&["rm", "stranger"]).await.map(drop)
}

async fn gives_up_full(world: &World, args: &[&str], before: &Value, wanted: &str) -> Result<()> {
    let output = world.cli().output(args).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("host_full"), "{args:?}: {output:?}");
    untouched(world, before, wanted).await.with_context(|| format!("after {args:?}"))
}

/// The disk of the target fills up while the sandbox is on its way: it runs on where it was.
pub async fn a_full_target_gives_up(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 96, &[]).await?;
    let before = inspect(world, &id).await?;
    let (here, there) = pair(world, before["host"].as_str().context("a host")?)?;
    world.cli().run(&["migrate", &id, "--to", there.name(), "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    there.fill_disk().await?;
    let kept = untouched(world, &before, &wanted).await;
    let trouble = inspect(world, &id).await?["trouble"].clone();
    there.free_disk().await?;
    kept?;
    ensure!(trouble["reason"].as_str().is_some_and(|why| why.starts_with("host_full")), "{trouble}");
    nothing_left(there, &id).await?;
    no_remains(here).await?;
    moves_now(world, &id, there, &wanted).await
}

/// The link is cut in the middle of a push and is back before the host is lost; then it is cut until the host is lost. Both times the
/// sandboxes end where they were meant to be, or are as they were.
pub async fn a_link_is_cut_in_a_push(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 96, &[]).await?;
    let before = inspect(world, &id).await?;
    let name = host_of(world, &id).await?;
    let (here, there) = pair(world, &name)?;
    world.cli().run(&["migrate", &id, "--to", there.name(), "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    here.partition().await?;
    let noticed = until_health(world, &name, "unreachable").await;
    here.heal().await?;
    noticed?;
    let seen = until_over(world, &id).await?;
    if seen["host"] == name.as_str() {
        ensure!(seen["trouble"]["reason"].is_string(), "it did not move, and does not say why: {seen}");
        untouched(world, &before, &wanted).await?;
        nothing_left(there, &id).await?;
    } else {
        ensure!(seen["host"] == there.name() && seen["generation"] == 2, "{seen}");
        ensure!(files(world, &id).await? == wanted, "its files differ");
        nothing_left(here, &id).await?;
    }

    // Otherwise there is nothing to send.
    let noise = "dd if=/dev/urandom of=/workspace/noise bs=1M count=96 2>/dev/null; sync";
    world.cli().run(&["exec", &id, "sh", "-c", noise]).await?;
    let wanted = files(world, &id).await?;
    let before = inspect(world, &id).await?;
    let name = host_of(world, &id).await?;
    let (here, _) = pair(world, &name)?;
    world.cli().run(&["pause", &id, "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    here.partition().await?;
    let lost = until_phase(world, &id, "lost").await;
    here.heal().await?;
    let lost = lost?;
    ensure!(lost["work"].is_null() && lost["reason"].as_str().is_some_and(|why| why.contains(&name)), "{lost}");
    untouched(world, &before, &wanted).await?;
    no_remains(here).await
}

/// Docker dies in the middle of a snapshot and all containers with it; what ran there comes back by itself.
pub async fn docker_restarts_in_a_snapshot(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 96, &[]).await?;
    let name = host_of(world, &id).await?;
    let (here, _) = pair(world, &name)?;
    let own = format!("again={name}");
    world.cli().run(&["host", "label", &name, &own]).await?;
    let (other, others) = filled(world, 1, &["--constraint", &own]).await?;
    let both = [(&id, &wanted), (&other, &others)];
    for orderly in [false, true] {
        world.cli().run(&["snapshot", "create", &id, "--no-wait"]).await?;
        until_pushing(world, &id).await?;
        if orderly {
            here.stop_dockerd().await?
        } else {
            here.kill_dockerd().await?
        }
        here.start_dockerd().await?;
        for (id, wanted) in both {
            wait_for(format!("{id} to run with its files"), PATIENCE, || async {
                let seen = inspect(world, id).await?;
                ensure!(seen["work"].is_null() && seen["phase"] == "running", "{} in {}", seen["phase"], seen["work"]);
                ensure!(files(world, id).await? == *wanted, "its files differ");
                anyhow::Ok(())
            })
            .await?;
            ensure!(host_of(world, id).await? == name, "it is elsewhere");
        }
        no_remains(here).await?;
        // A second push of the same would have nothing to send.
        world
            .cli()
            .run(&["exec", &id, "sh", "-c", "dd if=/dev/urandom of=/workspace/more bs=1M count=64 2>/dev/null"])
            .await?;
    }
    world.cli().json(&["snapshot", "create", &id]).await.context("a snapshot afterwards")?;
    world.cli().run(&["host", "label", &name, "again-"]).await?;
    Ok(())
}

/// The source dies in the middle of a move: before the snapshot is safe the sandbox waits for its host and is as it was; after that it
/// arrives.
pub async fn the_source_dies_in_a_move(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 96, &["--on-host-loss", "hold"]).await?;
    let name = host_of(world, &id).await?;
    let (here, there) = pair(world, &name)?;
    world.cli().run(&["migrate", &id, "--to", there.name(), "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    here.kill().await?;
    let lost = until_phase(world, &id, "lost").await;
    here.start().await?;
    let lost = lost?;
    ensure!(lost["host"] == name.as_str() && lost["generation"] == 1, "{lost}");
    ensure!(until_phase(world, &id, "running").await?["host"] == name.as_str(), "it did not come back with its host");
    ensure!(files(world, &id).await? == wanted, "its files differ");
    nothing_left(there, &id).await?;

    until_health(world, &name, "ready").await?;
    world.cli().run(&["migrate", &id, "--to", there.name(), "--no-wait"]).await?;
    until_stage(world, &id, "taken").await?;
    here.kill().await?;
    let arrived = wait_for("it to arrive", PATIENCE, || async {
        let seen = inspect(world, &id).await?;
        ensure!(seen["phase"] == "running" && seen["host"] == there.name(), "{} on {}", seen["phase"], seen["host"]);
        anyhow::Ok(seen)
    })
    .await;
    let same = files(world, &id).await;
    here.start().await?;
    ensure!(arrived?["generation"] == 2 && same? == wanted, "it arrived as something else");
    until_health(world, &name, "ready").await?;
    nothing_left(here, &id).await
}

/// The registry dies in the middle of a push: it is tried again or given up with a reason, and nothing is lost.
pub async fn the_registry_dies_in_a_push(world: &mut World) -> Result<()> {
    let (id, wanted) = filled(world, 96, &[]).await?;
    let before = inspect(world, &id).await?;
    let there = pair(world, before["host"].as_str().context("a host")?)?.1.name().to_owned();
    // Away until it is given up.
    world.cli().run(&["migrate", &id, "--to", &there, "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    world.registry.take_away()?;
    let kept = untouched(world, &before, &wanted).await;
    world.registry.bring_back().await?;
    kept?;
    let trouble = inspect(world, &id).await?["trouble"].clone();
    ensure!(trouble["reason"].as_str().is_some_and(|why| why.starts_with("registry_unreachable")), "{trouble}");
    // Away for a moment.
    world.cli().run(&["pause", &id, "--no-wait"]).await?;
    until_pushing(world, &id).await?;
    world.registry.take_away()?;
    world.registry.bring_back().await?;
    until_phase(world, &id, "paused").await?;
    world.cli().json(&["resume", &id, "--to", &there]).await?;
    ensure!(files(world, &id).await? == wanted, "its files differ");
    Ok(())
}

/// Random data: nothing packs it.
const BIG_MIB: u32 = 1024;

/// 25,000 small files and a GiB are the same after a pause, a resume elsewhere and a move back.
pub async fn a_big_workspace_stays_the_same(world: &mut World) -> Result<()> {
    let many = "mkdir -p /workspace/t/many && cd /workspace/t/many && i=0 && while [ $i -lt 250 ]; do mkdir $i; j=0; \
        while [ $j -lt 100 ]; do printf $i-$j > $i/$j; j=$((j+1)); done; i=$((i+1)); done";
    let (id, _) = filled(world, BIG_MIB, &["--disk", "2G", "--cpu", "2"]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", many]).await?;
    let wanted = files(world, &id).await?;
    let name = host_of(world, &id).await?;
    let (here, there) = pair(world, &name)?;
    let began = Instant::now();
    world.cli().run(&["pause", &id]).await?;
    let paused = began.elapsed();
    world.cli().json(&["resume", &id, "--to", there.name()]).await?;
    let resumed = began.elapsed() - paused;
    ensure!(files(world, &id).await? == wanted, "the files differ after pause and resume");
    world.cli().run(&["exec", &id, "sh", "-c", "printf more > /workspace/t/more"]).await?;
    let wanted = files(world, &id).await?;
    let began = Instant::now();
    let moved = world.cli().json(&["migrate", &id, "--to", here.name()]).await?;
    let took = began.elapsed();
    ensure!(files(world, &id).await? == wanted, "the files differ after the move");
    println!(
        "     {BIG_MIB} MiB and 25,000 files: paused in {paused:.1?}, resumed elsewhere in {resumed:.1?}, moved back in {took:.1?}, {} ms down, {} sent and fetched",
        moved["moved"]["downtime_ms"], moved["moved"]["bytes"]
    );
    Ok(())
}
