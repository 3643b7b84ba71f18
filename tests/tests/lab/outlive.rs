//! Sandboxes outlive their containers and their hosts: pause, resume, migrate, drain, snapshots, a lost host.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::LabHost, wait::wait_for};
use serde_json::Value;

/// Makes a tree that is easy to get wrong: deletions, renames, links, holes, odd owners' modes and names.
pub const TREE: &str = "set -e; mkdir -p /workspace/t/sub /tmp/root; cd /workspace/t; \
    printf one > one; printf two > gone; rm gone; printf three > old; mv old 'new\nname'; ln -s one link; ln one hard; \
    dd if=/dev/urandom of=noise bs=64k count=32 2>/dev/null; dd if=/dev/zero of=sparse bs=1 count=1 seek=4194303 2>/dev/null; \
    chmod 4711 one; chmod 0000 sparse; chmod 1777 sub; i=0; while [ $i -lt 200 ]; do printf $i > sub/$i; i=$((i+1)); done; \
    printf rootfs > /tmp/root/file";

/// What of that tree must be the same wherever it is: names, kinds, modes, owners, links and content.
pub const DIGEST: &str = "cd /workspace/t && { find . | sort; find . -type f ! -name sparse -exec md5sum {} + | sort; \
    find . -exec stat -c '%n %a %u %g %h %F' {} + | sort; readlink link; wc -c < noise; cat /tmp/root/file; } | md5sum";

pub async fn inspect(world: &World, id: &str) -> Result<Value> {
    world.cli().json(&["inspect", id]).await
}

pub async fn host_of(world: &World, id: &str) -> Result<String> {
    let seen = inspect(world, id).await?;
    Ok(seen["host"].as_str().with_context(|| format!("it is on no host: {seen}"))?.to_owned())
}

pub async fn until_phase(world: &World, id: &str, phase: &str) -> Result<Value> {
    wait_for(format!("{id} to be {phase}"), PATIENCE, || async {
        let seen = inspect(world, id).await?;
        ensure!(seen["phase"] == phase, "it is {} ({}, {})", seen["phase"], seen["reason"], seen["trouble"]);
        anyhow::Ok(seen)
    })
    .await
}

pub async fn until_health(world: &World, name: &str, wanted: &str) -> Result<()> {
    wait_for(format!("{name} to be {wanted}"), PATIENCE, || async {
        let health = world.cli().json(&["host", "inspect", name]).await?["health"].clone();
        ensure!(health == wanted, "it is {health}");
        anyhow::Ok(())
    })
    .await
}

/// The lab's host of this name, and another one.
pub fn pair<'a>(world: &'a World, name: &str) -> Result<(&'a LabHost, &'a LabHost)> {
    let hosts = world.lab.hosts();
    let here = hosts.iter().find(|host| host.name() == name).context("the lab has no such host")?;
    let there = hosts.iter().find(|host| host.name() != name).context("the lab has one host")?;
    Ok((here, there))
}

/// A file with a secret, as `--secret-env-file` takes it.
fn secret_file(world: &World) -> Result<String> {
    let file = world.lab.folder().join("secret.env");
    std::fs::write(&file, "TOKEN=s3cr3t\n")?;
    Ok(file.display().to_string())
}

/// Nothing of a sandbox is left on a host.
pub async fn nothing_left(host: &LabHost, id: &str) -> Result<()> {
    let filter = format!("label=plimsoll.sandbox={id}");
    wait_for(format!("nothing of {id} to be left on {}", host.name()), PATIENCE, || async {
        let containers = host.docker(&["ps", "--all", "--quiet", "--filter", &filter]).await?;
        let volumes = host.docker(&["volume", "ls", "--quiet", "--filter", &filter]).await?;
        ensure!(containers.is_empty() && volumes.is_empty(), "containers {containers:?}, volumes {volumes:?}");
        anyhow::Ok(())
    })
    .await
}

/// The same sandbox goes on elsewhere with its files, environment and ports; its first host has nothing left of it.
pub async fn paused_here_resumed_there(world: &mut World) -> Result<()> {
    let secret = secret_file(world)?;
    let id = world
        .create(&["--session", "away", "--env", "MODE=plain", "--secret-env-file", &secret, "--port", "8000"])
        .await?;
    world.cli().run(&["exec", &id, "sh", "-c", TREE]).await?;
    let before = world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await?;
    let first = host_of(world, &id).await?;
    let (here, there) = pair(world, &first)?;

    let paused = world.cli().json(&["pause", &id]).await?;
    ensure!(paused["phase"] == "paused" && paused["snapshot_id"].is_string(), "{paused}");
    world.cli().json(&["pause", &id]).await.context("pausing twice is pausing once")?;
    nothing_left(here, &id).await?;
    let host = world.cli().json(&["host", "inspect", &first]).await?;
    ensure!(host["sandboxes"] == 0, "its room is not free: {host}");
    let refused = world.cli().fails(4, &["migrate", &id]).await?;
    ensure!(
        refused.contains("paused") && refused.contains("running"),
        "the phases that allow it are not named: {refused}"
    );

    let resumed = world.cli().json(&["resume", &id, "--to", there.name()]).await?;
    ensure!(resumed["recovered"] == true, "{resumed}");
    let seen = inspect(world, &id).await?;
    ensure!(seen["host"] == there.name() && seen["generation"] == 2, "{seen}");
    ensure!(world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await? == before, "the files differ");
    let env = world.cli().run(&["exec", &id, "sh", "-c", "echo $MODE $TOKEN; id -u"]).await?;
    ensure!(env == "plain s3cr3t\n1000", "{env}");
    ensure!(seen["endpoints"].as_array().is_some_and(|ports| ports.len() == 1), "its port is not published: {seen}");
    // The volume itself is empty in the image's eyes only once: what is deleted after a resume stays deleted.
    world.cli().run(&["exec", &id, "sh", "-c", "rm -r /workspace/t/sub && printf more > /workspace/t/more"]).await?;
    let before = world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await?;
    world.cli().run(&["pause", &id]).await?;
    // Whoever asks for the session gets it back.
    let ensured = world.cli().json(&["ensure", "away", "--cpu", "0.1", "--memory", "64M"]).await?;
    ensure!(ensured["id"] == id.as_str() && ensured["recovered"] == true, "{ensured}");
    ensure!(world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await? == before, "the second pause lost something");
    Ok(())
}

/// A paused sandbox is woken by whatever asks something of it.
pub async fn asked_for_it_comes_back(world: &mut World) -> Result<()> {
    let id = world.create(&[]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", "printf kept > /workspace/file"]).await?;
    world.cli().run(&["pause", &id]).await?;
    ensure!(world.cli().run(&["exec", &id, "cat", "/workspace/file"]).await? == "kept", "exec");
    world.cli().run(&["freeze", &id]).await?;
    let seen = inspect(world, &id).await?;
    ensure!(seen["phase"] == "running" && seen["frozen_since"].is_string(), "{seen}");
    let paused = format!("label=plimsoll.sandbox={id}");
    let host = host_of(world, &id).await?;
    let status = pair(world, &host)?.0.docker(&["ps", "--filter", &paused, "--format", "{{.Status}}"]).await?;
    ensure!(status.contains("Paused"), "Docker says {status:?}");
    ensure!(world.cli().run(&["files", "cat", &id, "/workspace/file"]).await? == "kept", "files");
    ensure!(inspect(world, &id).await?["frozen_since"].is_null(), "it is still frozen");
    Ok(())
}

/// A running sandbox moves with its files; the move says what it cost, and bad wishes leave it where it is.
pub async fn moved_while_it_runs(world: &mut World) -> Result<()> {
    let secret = secret_file(world)?;
    let id = world.create(&["--session", "mover", "--secret-env-file", &secret, "--port", "8000"]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", TREE]).await?;
    let before = world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await?;
    let first = host_of(world, &id).await?;
    let (here, there) = pair(world, &first)?;
    let same = world.cli().fails(4, &["migrate", &id, "--to", here.name()]).await?;
    ensure!(same.contains("same_host"), "{same}");
    world.cli().run(&["host", "cordon", there.name(), "--reason", "not there"]).await?;
    let cordoned = world.cli().fails(5, &["migrate", &id, "--to", there.name()]).await;
    world.cli().run(&["host", "uncordon", there.name()]).await?;
    ensure!(cordoned.as_ref().is_ok_and(|said| said.contains("cordoned")), "{cordoned:?}");

    let moved = world.cli().json(&["migrate", &id, "--to", there.name()]).await?;
    ensure!(moved["host"] == there.name() && moved["generation"] == 2 && moved["phase"] == "running", "{moved}");
    let told = &moved["moved"];
    ensure!(told["downtime_ms"].as_u64().is_some_and(|ms| ms > 0) && told["from"] == here.name(), "{told}");
    ensure!(world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await? == before, "the files differ");
    ensure!(world.cli().run(&["exec", &id, "sh", "-c", "echo $TOKEN"]).await? == "s3cr3t", "the secret");
    nothing_left(here, &id).await?;
    // Back again: what the first host still has is not sent a second time.
    let back = world.cli().json(&["migrate", &id, "--to", here.name()]).await?;
    ensure!(back["host"] == here.name() && back["generation"] == 3, "{back}");
    ensure!(
        world.cli().run(&["exec", &id, "sh", "-c", DIGEST]).await? == before,
        "the files differ after the way back"
    );
    nothing_left(there, &id).await
}

/// A snapshot is named, listed, started from and deleted; its sandbox goes on.
pub async fn snapshots_are_kept_and_started_from(world: &mut World) -> Result<()> {
    let secret = secret_file(world)?;
    let id = world.create(&["--env", "ONLY=mine", "--secret-env-file", &secret]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", "printf v1 > /workspace/v; printf r1 > /tmp/r"]).await?;
    let snapshot = world.cli().json(&["snapshot", "create", &id, "--name", "first"]).await?;
    ensure!(snapshot["phase"] == "available" && snapshot["digest"].is_string(), "{snapshot}");
    world.cli().run(&["exec", &id, "sh", "-c", "printf v2 > /workspace/v"]).await?;
    let twice = world.cli().fails(4, &["snapshot", "create", &id, "--name", "first"]).await?;
    ensure!(twice.contains("snapshot_exists"), "{twice}");
    let copy = world.create(&["--snapshot", "first"]).await?;
    let read = "cat /workspace/v /tmp/r; echo ${ONLY:-none} ${TOKEN:-none}; id -u";
    let said = world.cli().run(&["exec", &copy, "sh", "-c", read]).await?;
    ensure!(said == "v1r1none none\n1000", "the copy is not what the snapshot was: {said:?}");
    ensure!(world.cli().run(&["exec", &id, "cat", "/workspace/v"]).await? == "v2", "the sandbox did not go on");
    let used = world.cli().fails(4, &["snapshot", "rm", "first"]).await?;
    ensure!(used.contains("snapshot_in_use") && used.contains(&copy), "{used}");
    let unknown = world.cli().fails(3, &["snapshot", "inspect", "second"]).await?;
    ensure!(unknown.contains("snapshot_not_found"), "{unknown}");
    world.cli().run(&["rm", &copy]).await?;
    world.cli().run(&["snapshot", "rm", "first"]).await?;
    let repository = snapshot["repository"].as_str().context("a repository")?.to_owned();
    wait_for("the registry to have nothing of it", PATIENCE, || async {
        let listed = world.cli().json(&["snapshot", "ls"]).await?;
        ensure!(listed.as_array().is_some_and(Vec::is_empty), "{listed}");
        let tags =
            world.registry.data().join("docker/registry/v2/repositories").join(&repository).join("_manifests/tags");
        let left: Vec<_> = std::fs::read_dir(&tags).map(|all| all.flatten().collect()).unwrap_or_default();
        ensure!(left.is_empty(), "{left:?}");
        anyhow::Ok(())
    })
    .await
}

/// Without its registry nothing is moved and nothing is lost.
pub async fn a_registry_that_is_gone_harms_nobody(world: &mut World) -> Result<()> {
    let id = world.create(&[]).await?;
    world.cli().run(&["exec", &id, "sh", "-c", "printf kept > /workspace/file"]).await?;
    let before = inspect(world, &id).await?;
    world.registry.take_away()?;
    let refused = world.cli().output(&["pause", &id]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("registry_unreachable"), "{said}");
    let after = until_phase(world, &id, "running").await?;
    ensure!(after["container"] == before["container"] && after["host"] == before["host"], "{after}");
    ensure!(world.cli().run(&["exec", &id, "cat", "/workspace/file"]).await? == "kept", "it does not run on");
    world.registry.bring_back().await?;
    world.cli().run(&["pause", &id]).await?;
    world.cli().run(&["resume", &id]).await?;
    ensure!(world.cli().run(&["exec", &id, "cat", "/workspace/file"]).await? == "kept", "after the registry came back");
    Ok(())
}

/// A host is emptied while its sandboxes run, and stays empty until it is undrained.
pub async fn a_host_is_drained(world: &mut World) -> Result<()> {
    let name = world.lab.host(0).name().to_owned();
    world.cli().run(&["host", "label", &name, "drainme=yes"]).await?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.create(&["--constraint", "drainme=yes"]).await?);
    }
    let free = world.create(&[]).await?;
    for id in ids.iter().chain([&free]) {
        world.cli().run(&["exec", id, "sh", "-c", &format!("printf {id} > /workspace/id")]).await?;
    }
    // They may not go anywhere else: the dry run and the drain itself say so, and change nothing.
    let stuck = world.cli().output(&["host", "drain", &name, "--dry-run"]).await?;
    let said = format!("{}{}", String::from_utf8_lossy(&stuck.stdout), String::from_utf8_lossy(&stuck.stderr));
    ensure!(said.contains(&ids[0]) && said.contains("drainme"), "it does not say why they cannot move: {said}");
    for host in world.lab.hosts().iter().skip(1) {
        world.cli().run(&["host", "label", host.name(), "drainme=yes"]).await?;
    }
    let drained = world.cli().output(&["host", "drain", &name, "--parallel", "2"]).await?;
    ensure!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    for id in ids.iter().chain([&free]) {
        let seen = inspect(world, id).await?;
        ensure!(seen["phase"] == "running" && seen["host"] != name.as_str(), "{seen}");
        ensure!(world.cli().run(&["exec", id, "cat", "/workspace/id"]).await? == *id, "its files");
    }
    ensure!(world.cli().json(&["host", "inspect", &name]).await?["sandboxes"] == 0, "the host is not empty");
    ensure!(host_of(world, &world.create(&[]).await?).await? != name, "a drained host takes new ones");
    world.cli().run(&["host", "undrain", &name]).await?;
    for host in world.lab.hosts() {
        world.cli().run(&["host", "label", host.name(), "drainme-"]).await?;
    }
    Ok(())
}

/// A host dies: what has a checkpoint runs elsewhere under its id, what should wait waits, and when the host is back its copies are
/// stopped.
pub async fn a_lost_host_loses_no_sandbox(world: &mut World) -> Result<()> {
    let name = world.lab.host(0).name().to_owned();
    world.cli().run(&["host", "label", &name, "doomed=yes"]).await?;
    let with = |args: &[&'static str]| [&["--constraint", "doomed=yes"], args].concat();
    let restores = world.create(&with(&["--on-host-loss", "restore", "--checkpoint-every", "1h"])).await?;
    let holds = world.create(&with(&["--on-host-loss", "hold"])).await?;
    for host in world.lab.hosts().iter().skip(1) {
        world.cli().run(&["host", "label", host.name(), "doomed=yes"]).await?;
    }
    for id in [&restores, &holds] {
        world.cli().run(&["exec", id, "sh", "-c", &format!("printf {id} > /workspace/id")]).await?;
    }
    world.cli().run(&["snapshot", "create", &restores]).await?;
    world.cli().run(&["exec", &restores, "sh", "-c", "printf late > /workspace/late"]).await?;
    world.lab.host(0).partition().await?;
    let restored = wait_for("the sandbox to run elsewhere", PATIENCE, || async {
        let seen = inspect(world, &restores).await?;
        ensure!(seen["phase"] == "running" && seen["host"] != name.as_str(), "{} on {}", seen["phase"], seen["host"]);
        anyhow::Ok(seen)
    })
    .await;
    let waits = until_phase(world, &holds, "lost").await;
    world.lab.host(0).heal().await?;
    let restored = restored?;
    ensure!(restored["restored"]["from"] == name.as_str() && restored["restored"]["window_ms"].is_u64(), "{restored}");
    let files = world.cli().run(&["exec", &restores, "sh", "-c", "cat /workspace/id; ls /workspace"]).await?;
    ensure!(files == format!("{restores}id"), "it is not what the snapshot was: {files}");
    let why = waits?["reason"].clone();
    ensure!(why.as_str().is_some_and(|why| !why.is_empty()), "it does not say what it waits for");

    until_health(world, &name, "ready").await?;
    until_phase(world, &holds, "running").await?;
    ensure!(world.cli().run(&["exec", &holds, "cat", "/workspace/id"]).await? == holds, "the held one lost its files");
    let old = format!("label=plimsoll.sandbox={restores}");
    wait_for("the replaced copy to be stopped", PATIENCE, || async {
        let running = world.lab.host(0).docker(&["ps", "--quiet", "--filter", &old]).await?;
        let kept = world.lab.host(0).docker(&["ps", "--all", "--filter", &old, "--format", "{{.Names}}"]).await?;
        ensure!(running.is_empty() && kept.contains(".fenced-g1"), "running {running:?}, kept {kept:?}");
        anyhow::Ok(())
    })
    .await?;
    for host in world.lab.hosts() {
        world.cli().run(&["host", "label", host.name(), "doomed-"]).await?;
    }
    Ok(())
}

/// The leader is killed while a sandbox moves and another is paused: both end where they were meant to, with their files.
pub async fn moves_survive_the_leader(world: &mut World) -> Result<()> {
    let (moves, pauses) = (world.create(&[]).await?, world.create(&[]).await?);
    for id in [&moves, &pauses] {
        world.cli().run(&["exec", id, "sh", "-c", TREE]).await?;
    }
    let before = world.cli().run(&["exec", &moves, "sh", "-c", DIGEST]).await?;
    let first = host_of(world, &moves).await?;
    world.cli().run(&["migrate", &moves, "--no-wait"]).await?;
    world.cli().run(&["pause", &pauses, "--no-wait"]).await?;
    let leader = world.cluster.leader().await?;
    world.cluster.kill(leader)?;
    let moved = wait_for("the sandbox to have moved", PATIENCE, || async {
        let seen = inspect(world, &moves).await?;
        ensure!(seen["phase"] == "running" && seen["host"] != first.as_str(), "{} on {}", seen["phase"], seen["host"]);
        anyhow::Ok(())
    })
    .await;
    let paused = until_phase(world, &pauses, "paused").await;
    world.cluster.restart(leader)?;
    world.cluster.wait_ready(leader).await?;
    moved?;
    paused?;
    ensure!(world.cli().run(&["exec", &moves, "sh", "-c", DIGEST]).await? == before, "the moved one's files differ");
    world.cli().run(&["resume", &pauses]).await?;
    let woken = world.cli().run(&["exec", &pauses, "sh", "-c", "cat /tmp/root/file; cat /workspace/t/hard"]).await?;
    ensure!(woken == "rootfsone", "the paused one's files differ: {woken}");
    Ok(())
}

/// At its deadline a sandbox is paused instead of terminated, and comes back with a new one.
pub async fn a_deadline_can_pause(world: &mut World) -> Result<()> {
    let id = world.create(&["--lifetime", "3s", "--on-expiry", "pause"]).await?;
    until_phase(world, &id, "paused").await?;
    let resumed = world.cli().json(&["resume", &id, "--lifetime", "1h"]).await?;
    ensure!(resumed["deadline"].is_string(), "{resumed}");
    let idle = world.create(&["--idle-timeout", "2s"]).await?;
    let seen = until_phase(world, &idle, "paused").await?;
    ensure!(seen["base"].is_string(), "{seen}");
    Ok(())
}
