//! A sandbox with some megabytes changed goes from one real host to another: `plimsoll migrate`, and what a person would type with bare
//! Docker (pause, commit, a carrier with the workspace, commit, push, pull, run) on the same hosts with the same registry, in turns.

use crate::{
    Common,
    load::median,
    place::met,
    report::{Bar, Chart, Machine, Report, spread},
    stage::{Stage, docker_api, forward, sh},
    wire::Wire,
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hyper::Method;
use plimsoll_testkit::{lab::LAB_IMAGE, wait::wait_for};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    time::{Duration, Instant},
};

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    /// Megabytes (MiB) changed in the workspace, of random bytes: nothing of them can be compressed.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    sizes: Vec<u32>,
    /// Times each size is repeated; from 512 MB up, one.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Control-plane nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

/// Where each host finds the registry on its own loopback, for the bare commands.
const PORT: u16 = 5055;

/// One migration: seconds until it runs on the target, seconds it did not run, megabytes sent and fetched.
#[derive(Clone, Copy, Debug)]
struct Moved {
    total: f64,
    down: f64,
    mb: f64,
}

async fn post(wire: &mut Wire, path: &str, body: Value) -> Result<Value> {
    wire.call(Method::POST, path, body.to_string().into(), &[("prefer", "wait=600")]).await?.json()
}

/// Moves a sandbox and waits until it runs there.
#[allow(clippy::cast_precision_loss)] // megabytes
async fn migrate(wire: &mut Wire, id: &str, to: &str) -> Result<Moved> {
    let begun = Instant::now();
    let mut seen = post(wire, &format!("/v1/sandboxes/{id}/migrate"), json!({ "to": to })).await?;
    if seen["moved"].is_null() {
        seen = wait_for("the migration to end", Duration::from_secs(600), || {
            let path = format!("/v1/sandboxes/{id}");
            let mut fresh = wire.again();
            async move {
                let seen = fresh.call(Method::GET, &path, bytes::Bytes::new(), &[]).await?.json()?;
                ensure!(seen["work"].is_null() && seen["phase"] == "running", "{seen}");
                anyhow::Ok(seen)
            }
        })
        .await?;
    }
    let total = begun.elapsed().as_secs_f64();
    ensure!(seen["host"] == to, "it is on {} ({})", seen["host"], seen["trouble"]);
    let moved = &seen["moved"];
    let down = moved["downtime_ms"].as_f64().context("its downtime")? / 1000.0;
    Ok(Moved { total, down, mb: moved["bytes"].as_f64().context("its bytes")? / 1e6 })
}

/// Ours: there, and back again without a change.
async fn ours(stage: &Stage, mib: u32) -> Result<(Moved, Moved)> {
    let mut wire = stage.wire().await?;
    let (here, there) = (stage.lab.host(0).name(), stage.lab.host(1).name());
    let body = json!({ "cpu": 0.5, "memory": "256M", "disk": "3G", "lifetime_s": 0 });
    let made = post(&mut wire, "/v1/sandboxes", body).await?;
    let id = made["id"].as_str().context("an id")?.to_owned();
    // Wherever it was placed, it begins on the first host.
    if made["host"] != here {
        migrate(&mut wire, &id, here).await?;
    }
    let fill =
        format!("dd if=/dev/urandom of=/workspace/data bs=1048576 count={mib} 2>/dev/null && md5sum /workspace/data");
    let cli = stage.cluster.cli();
    let before = cli.run(&["exec", &id, "sh", "-c", &fill]).await?;
    let first = migrate(&mut wire, &id, there).await?;
    let back = migrate(&mut wire, &id, here).await?;
    ensure!(cli.run(&["exec", &id, "md5sum", "/workspace/data"]).await? == before, "the files differ");
    cli.run(&["rm", &id]).await?;
    Ok((first, back))
}

/// The bare commands on the same hosts.
#[allow(clippy::cast_precision_loss)] // megabytes
async fn bare(stage: &Stage, mib: u32, nth: usize) -> Result<Moved> {
    let (here, there) = (stage.lab.host(0), stage.lab.host(1));
    let name = format!("bare-{mib}-{nth}");
    let (first, image) = (format!("{name}:root"), format!("127.0.0.1:{PORT}/bare/{name}:latest"));
    let flags = "--detach --init --memory 256m --memory-swap 256m --cpus 0.5 --cap-drop ALL --security-opt no-new-privileges:true";
    sh(here, &format!("docker run {flags} --name {name} --volume {name}:/workspace {LAB_IMAGE}")).await?;
    let fill =
        format!("dd if=/dev/urandom of=/workspace/data bs=1048576 count={mib} 2>/dev/null && md5sum /workspace/data");
    let before = sh(here, &format!("docker exec {name} sh -c '{fill}'")).await?;
    let size = |mut wire: Wire| async move {
        let path =
            format!("/images/{image}/json", image = format_args!("127.0.0.1:{PORT}/bare/bare-{mib}-{nth}:latest"));
        let seen = wire.call(Method::GET, &path, bytes::Bytes::new(), &[]).await?.json()?;
        seen["Size"].as_f64().context("a size")
    };
    let begun = Instant::now();
    sh(here, &format!("docker pause {name}")).await?;
    let paused = Instant::now();
    sh(here, &format!("docker commit --pause=false {name} {first}")).await?;
    sh(here, &format!("docker create --name {name}-carrier {first}")).await?;
    sh(here, &format!("docker cp {name}:/workspace - | docker cp - {name}-carrier:/")).await?;
    sh(here, &format!("docker commit {name}-carrier {image}")).await?;
    sh(here, &format!("docker push --quiet {image}")).await?;
    sh(there, &format!("docker pull --quiet {image}")).await?;
    sh(there, &format!("docker run {flags} --name {name} --volume {name}:/workspace {image}")).await?;
    let (total, down) = (begun.elapsed().as_secs_f64(), paused.elapsed().as_secs_f64());
    let after = sh(there, &format!("docker exec {name} md5sum /workspace/data")).await?;
    ensure!(after == before, "the files differ: {before}, {after}");
    let mb = size(docker_api(there)?).await? / 1e6;
    let gone =
        format!("docker rm --force {name} {name}-carrier; docker volume rm {name}; docker rmi --force {image} {first}");
    sh(here, &gone).await?;
    sh(there, &format!("docker rm --force {name}; docker volume rm {name}; docker rmi --force {image}")).await?;
    Ok(Moved { total, down, mb })
}

/// Runs the experiment.
pub async fn run(args: &MigrateArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("migrate")?;
    let stage = Stage::start(folder.path(), 2, args.nodes).await?;
    let result = on(&stage, args, machine, folder.path()).await;
    stage.stop().await?;
    result
}

async fn on(stage: &Stage, args: &MigrateArgs, machine: Machine, folder: &std::path::Path) -> Result<Report> {
    let _forwards = [
        forward(stage.lab.host(0), PORT, &stage.registry, folder)?,
        forward(stage.lab.host(1), PORT, &stage.registry, folder)?,
    ];
    let (mut rows, mut notes, mut bars, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Both ways once, unmeasured: networks, connections and the base image's layers in the registry.
    ours(stage, 1).await.context("the warm-up")?;
    bare(stage, 1, 1000).await.context("the warm-up of the bare commands")?;
    for mib in &args.sizes {
        let (mut went, mut came, mut typed) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..if *mib >= 512 { 1 } else { args.repeats } {
            let (first, back) = ours(stage, *mib).await?;
            let other = bare(stage, *mib, nth).await?;
            let _shown = writeln!(std::io::stderr(), "  {mib} MiB: {first:?}, back {back:?}, bare {other:?}");
            went.push(first);
            came.push(back);
            typed.push(other);
        }
        let each = |all: &[Moved], pick: fn(&Moved) -> f64| all.iter().map(pick).collect::<Vec<_>>();
        for (what, all) in
            [("plimsoll migrate", &went), ("bare Docker", &typed), ("plimsoll, back again unchanged", &came)]
        {
            let (total, down, mb) = (each(all, |m| m.total), each(all, |m| m.down), each(all, |m| m.mb));
            rows.push(vec![
                format!("{mib} MiB"),
                what.into(),
                total.len().to_string(),
                spread(&total),
                spread(&down),
                format!("{:.2}", median(&mb)),
            ]);
            bars.push(Bar::of(format!("{mib} MiB: {what}"), what.starts_with("plimsoll"), &total));
            raw.push(json!({ "mib": mib, "what": what, "total_s": total, "down_s": down, "mb": mb }));
        }
        let ratio = |pick: fn(&Moved) -> f64| median(&each(&went, pick)) / median(&each(&typed, pick));
        let (total, down) = (ratio(|m| m.total), ratio(|m| m.down));
        notes.push(format!(
            "{mib} MiB: {total:.2}× the bare commands (aim 1.2×: {}), {down:.2}× their downtime",
            met(total <= 1.2)
        ));
    }
    notes.push("bytes: ours are those sent to the registry and fetched from it; of the bare commands the image's size on the target, uncompressed".into());
    notes.push("until it runs on the target; removing what is left on the source is in neither".into());
    Ok(Report {
        name: if args.nodes == 1 { "migrate-1-node" } else { "migrate" }.into(),
        title: format!("a sandbox moves between two hosts, {} control-plane node(s)", args.nodes),
        machine,
        columns: ["changed", "how", "repeats", "seconds until it runs", "seconds it did not run", "MB"]
            .map(str::to_owned)
            .to_vec(),
        rows,
        notes,
        chart: Chart { unit: "seconds until it runs on the target".into(), bars },
        raw: raw.into(),
    })
}
