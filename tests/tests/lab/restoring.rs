//! The whole control plane is lost, disks and all, and goes on from a backup that is older than its hosts.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// What a sandbox writes before the backup, and reads after the restore.
const WRITE: &str = "echo kept > /workspace/kept";

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path")
}

/// Counts of a comparison, those of nothing left out.
fn counts(drift: &Value) -> BTreeMap<String, u64> {
    let all = drift["counts"].as_object().into_iter().flatten();
    all.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).filter(|(_, count)| *count > 0).collect()
}

fn expect(drift: &Value, expected: &[(&str, u64)]) -> Result<()> {
    let expected: BTreeMap<String, u64> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    ensure!(counts(drift) == expected, "instead of {expected:?}: {drift:#}");
    Ok(())
}

/// The verdict on a sandbox.
fn verdict<'a>(drift: &'a Value, id: &str) -> Option<&'a str> {
    let line = drift["lines"].as_array()?.iter().find(|line| line["sandbox"] == id)?;
    line["verdict"].as_str()
}

/// Files that are no whole backup, and files that are in the way.
async fn unfit_files(world: &World, backup: &Path) -> Result<()> {
    let good = std::fs::read(backup)?;
    let mut bent = good.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    let mut newer = good.clone();
    newer[11] = 9;
    let file = backup.with_file_name("unfit");
    let folder = backup.with_file_name("unfit-data");
    for (content, said) in [
        (bent, "checksum differs"),
        (good[..good.len() - 1].to_vec(), "damaged"),
        (newer, "format version 9"),
        (b"#!/bin/sh\nsomething else\n".to_vec(), "no backup of a Plimsoll cluster"),
    ] {
        std::fs::write(&file, content)?;
        let checked = world.cli().fails(8, &["cluster", "backup", "--check", text(&file)?]).await?;
        let restore = ["cluster", "restore", text(&file)?, "--data-dir", text(&folder)?, "--forget-secrets"];
        let restored = world.cli().fails(8, &restore).await?;
        ensure!(checked.contains(said) && restored.contains(said), "not {said:?}: {checked}; {restored}");
        ensure!(!folder.exists(), "something of {said:?} was restored");
    }
    std::fs::remove_file(&file)?;
    let said = world.cli().fails(2, &["cluster", "backup", text(backup)?]).await?;
    ensure!(said.contains("--force"), "{said}");
    world.cli().run(&["cluster", "backup", text(backup)?, "--force"]).await?;
    let said = world.cli().fails(1, &["cluster", "restore", text(backup)?, "--data-dir", text(&folder)?]).await?;
    ensure!(said.contains("--identity"), "secrets would be lost unasked: {said}");
    let taken = world.cluster.data_dir(0);
    let identity = taken.join("identity");
    let restore = ["cluster", "restore", text(backup)?, "--data-dir", text(&taken)?, "--identity", text(&identity)?];
    let said = world.cli().fails(4, &restore).await?;
    ensure!(said.contains("holds a node already"), "{said}");
    Ok(())
}

/// A container of the cluster's that no sandbox needs: it never ran.
async fn stray(world: &World) -> Result<()> {
    let status = world.cli().json(&["cluster", "status"]).await?;
    let cluster = format!("plimsoll.cluster={}", status["cluster"].as_str().context("a cluster")?);
    let host = world.lab.host(2);
    let sandbox = "plimsoll.sandbox=sb-01m84fgjmpsmzq8qwnnn47a5tv";
    let labels = ["--label", &cluster, "--label", sandbox, "--label", "plimsoll.generation=1"];
    host.docker(&[&["create", "--name", "stray"], &labels[..], &["plimsoll/lab:latest", "true"]].concat()).await?;
    Ok(())
}

/// On hold nothing is started, moved or removed, and whoever asks is told.
async fn held(world: &World, same: &str, before: &[(usize, String)]) -> Result<()> {
    let cli = world.cli();
    wait_for("every host to be measured again", PATIENCE, || async {
        let hosts = cli.json(&["host", "list"]).await?;
        let ready = |host: &Value| host["health"] == "ready" && !host["load"].is_null();
        ensure!(hosts.as_array().is_some_and(|hosts| hosts.len() == 3 && hosts.iter().all(ready)), "{hosts}");
        anyhow::Ok(())
    })
    .await?;
    let status = cli.json(&["cluster", "status"]).await?;
    ensure!(status["hold"]["reason"].as_str().is_some_and(|why| why.contains("restored from a backup")), "{status}");
    for refused in [&["create"][..], &["rm", same], &["pause", same], &["freeze", same], &["migrate", same]] {
        let said = cli.fails(7, refused).await?;
        ensure!(said.contains("[on_hold]") && said.contains("plimsoll cluster resume"), "{refused:?}: {said}");
    }
    ensure!(cli.run(&["exec", same, "cat", "/workspace/kept"]).await? == "kept", "what runs cannot be reached");
    let said = cli.fails(4, &["cluster", "resume"]).await?;
    ensure!(said.contains("2 adopt, 1 lost") && said.contains("--force"), "{said}");
    let now = world.containers().await?;
    ensure!(now == before, "hosts were touched: {now:?} instead of {before:?}");
    Ok(())
}

/// Sandboxes come, move and go after the backup; then all nodes die. What the restored cluster is told to do, and only that, is done.
pub async fn from_an_older_backup(world: &mut World) -> Result<()> {
    let (first, second) = (world.lab.host(0).name().to_owned(), world.lab.host(1).name().to_owned());
    world.cli().run(&["host", "label", &first, "first=yes"]).await?;
    let here = ["--constraint", "first=yes"];
    let secret = world.lab.folder().join("secret.env");
    std::fs::write(&secret, "TOKEN=hunter2\n")?;
    let same = world.create(&[&here[..], &["--secret-env-file", text(&secret)?]].concat()).await?;
    let (moved, gone) = (world.create(&[]).await?, world.create(&here).await?);
    for id in [&same, &moved] {
        world.cli().run(&["exec", id, "sh", "-c", WRITE]).await?;
    }
    let backup = world.lab.folder().join("cluster.backup");
    world.cli().run(&["cluster", "backup", text(&backup)?]).await?;
    unfit_files(world, &backup).await?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&backup)?.permissions());
    ensure!(mode & 0o777 == 0o600, "others may read it: {mode:o}");
    let shown = world.cli().json(&["cluster", "backup", "--check", text(&backup)?]).await?;
    ensure!(shown["hosts"] == 3 && shown["sealed"] == 1, "{shown}");
    ensure!(!std::fs::read(&backup)?.windows(7).any(|part| part == b"hunter2"), "a secret is in it");

    let was = world.cli().json(&["inspect", &moved]).await?["host"].as_str().unwrap_or_default().to_owned();
    let to = if was == second { &first } else { &second };
    world.cli().run(&["migrate", &moved, "--to", to]).await?;
    let late = world.create(&["--port", "8080"]).await?;
    world.cli().run(&["exec", &late, "sh", "-c", WRITE]).await?;
    world.cli().run(&["rm", &gone]).await?;
    stray(world).await?;
    let before = world.containers().await?;

    let identity = backup.with_file_name("identity.copy");
    world.cluster.lose_all_but_identity(&identity)?;
    let key = world.cluster.restore(&backup, &["--identity", text(&identity)?]).await?;
    ensure!(key.is_none(), "nobody asked for a key");
    held(world, &same, &before).await?;
    settled(world, [&same, &moved, &gone, &late], &before).await?;

    world.cli().run(&["cluster", "resume"]).await?;
    for id in [&same, &moved, &late] {
        let said = world.cli().run(&["exec", id, "cat", "/workspace/kept"]).await?;
        ensure!(said == "kept", "{id} lost its files: {said}");
    }
    let said = world.cli().run(&["exec", &same, "sh", "-c", "echo $TOKEN"]).await?;
    ensure!(said == "hunter2", "its secrets do not open: {said}");
    ensure!(
        world.cli().json(&["inspect", &gone]).await?["phase"] == "failed",
        "what is nowhere does not count as failed"
    );
    ensure!(!world.create(&[]).await?.is_empty(), "it does not place any more");
    world.cluster.add_node().await?;
    world.cluster.add_node().await?;
    world.cli().run(&["host", "label", &first, "first-"]).await?;
    Ok(())
}

/// The comparison, one class after another.
async fn settled(world: &World, [same, moved, gone, late]: [&String; 4], before: &[(usize, String)]) -> Result<()> {
    let cli = world.cli();
    let drift = cli.json(&["cluster", "drift"]).await?;
    expect(&drift, &[("adopt", 2), ("lost", 1), ("orphan", 1), ("same", 1)])?;
    for (id, expected) in [(same, "same"), (moved, "adopt"), (gone, "lost"), (late, "adopt")] {
        ensure!(verdict(&drift, id) == Some(expected), "{id} is not {expected}: {drift:#}");
    }
    let table = cli.run(&["cluster", "drift"]).await?;
    ensure!(table.contains("2 adopt, 1 orphan, 1 lost, 0 unknown, 1 same") && table.contains(late), "{table}");
    let said = cli.fails(2, &["cluster", "drift", "--apply"]).await?;
    ensure!(said.contains("--adopt"), "{said}");
    cli.fails(2, &["cluster", "drift", "--adopt"]).await?;

    expect(
        &cli.json(&["cluster", "drift", "--apply", "--mark-lost"]).await?,
        &[("adopt", 2), ("orphan", 1), ("same", 1)],
    )?;
    expect(&cli.json(&["cluster", "drift", "--apply", "--adopt"]).await?, &[("orphan", 1), ("same", 3)])?;
    ensure!(world.containers().await? == before, "taking over touched a host");
    for _ in 0..2 {
        let drift = cli.json(&["cluster", "drift", "--apply", "--adopt", "--remove-orphans", "--mark-lost"]).await?;
        expect(&drift, &[("same", 3)])?;
    }
    let left = world.containers().await?;
    ensure!(left.len() + 1 == before.len() && !left.iter().any(|(_, name)| name == "stray"), "{left:?}");
    Ok(())
}

/// A backup that was sent somewhere else is all that is left: no identity file, and nobody trusts in having a key.
pub async fn without_secrets_or_keys(world: &mut World) -> Result<()> {
    let secret = world.lab.folder().join("secret.env");
    std::fs::write(&secret, "TOKEN=hunter2\n")?;
    let with_secret = ["--secret-env-file", text(&secret)?];
    let (sealed, plain) = (world.create(&with_secret).await?, world.create(&[]).await?);
    for id in [&sealed, &plain] {
        world.cli().run(&["exec", id, "sh", "-c", WRITE]).await?;
    }
    let (sent, kept) = (world.lab.folder().join("sent.backup"), world.lab.folder().join("kept.backup"));
    let output = world.cli().output(&["cluster", "backup", "-"]).await?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&sent, output.stdout)?;
    world.cli().run(&["cluster", "backup", text(&kept)?]).await?;
    let (of_sent, of_kept) = (shown(world, &sent).await?, shown(world, &kept).await?);
    ensure!(of_sent == of_kept && of_sent[0] == 1, "{of_sent:?} instead of {of_kept:?}");

    world.cluster.lose_all_but_identity(&world.lab.folder().join("identity.lost"))?;
    let key = world.cluster.restore(&sent, &["--forget-secrets", "--new-key"]).await?.context("no key was printed")?;
    let file = std::fs::read_to_string(world.cluster.data_dir(0).join("operator.key"))?;
    ensure!(key != world.cli().key() && file.trim() == key, "the key that was printed is not the one that was kept");
    // The old keys' hashes are in the backup: whoever still has one goes on with it.
    for cli in [&world.cli().with_key(&key), world.cli()] {
        let keys = cli.json(&["key", "list"]).await?;
        let names = keys.as_array().context("keys")?.iter().filter(|it| it["name"] == "restored").count();
        ensure!(names == 1, "{keys}");
    }
    let cli = world.cli().with_key(&key);
    wait_for("every host to be measured again", PATIENCE, || async {
        let drift = cli.json(&["cluster", "drift"]).await?;
        ensure!(counts(&drift) == BTreeMap::from([("same".to_owned(), 2)]), "{drift:#}");
        anyhow::Ok(())
    })
    .await?;
    cli.run(&["cluster", "resume"]).await?;

    // It runs on, and its files can be had; but nothing with its secrets can be started, and nothing is without them.
    let token = ["sh", "-c", "echo $TOKEN"];
    let said = cli.fails(4, &[&["exec", &sealed], &token[..]].concat()).await?;
    ensure!(
        ["secrets_lost", "secrets do not open", "--forget-secrets"].iter().all(|part| said.contains(part)),
        "{said}"
    );
    let rescued = world.lab.folder().join("rescued");
    cli.run(&["cp", &format!("{sealed}:/workspace/kept"), text(&rescued)?]).await?;
    ensure!(std::fs::read_to_string(&rescued)? == "kept\n", "its files are not what they were");
    for id in [&sealed, &plain] {
        cli.run(&["pause", id]).await?;
    }
    let said = cli.fails(4, &["resume", &sealed]).await?;
    ensure!(said.contains("secrets_lost") && said.contains("secrets do not open"), "{said}");
    ensure!(cli.json(&["inspect", &sealed]).await?["phase"] == "paused", "it is not as it was");
    ensure!(cli.run(&["exec", &plain, "cat", "/workspace/kept"]).await? == "kept", "one without secrets is lost");
    let new = world.create(&with_secret).await?;
    let said = cli.run(&[&["exec", &new], &token[..]].concat()).await?;
    ensure!(said == "hunter2", "new secrets do not open: {said}");
    world.cluster.add_node().await?;
    world.cluster.add_node().await
}

/// What a backup says it holds, the sealed first; not when it was made, which no two share.
async fn shown(world: &World, backup: &Path) -> Result<Vec<Value>> {
    let shown = world.cli().json(&["cluster", "backup", "--check", text(backup)?]).await?;
    let parts = ["sealed", "cluster", "version", "hosts", "sandboxes", "snapshots", "keys", "secret"];
    Ok(parts.iter().map(|part| shown[part].clone()).collect())
}
