//! What live sandboxes cost a node: resident memory, the copy of the state that raft makes, and a start after SIGKILL, at each number of them.

use crate::{
    Common,
    load::{Worker as _, median},
    nodes::{Fleet, Nodes, Placer},
    place::met,
    proc,
    report::{Bar, Chart, Machine, Report, spread},
    wire::Wire,
};
use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use plimsoll_testkit::wait::wait_for;
use serde_json::json;
use std::{
    fs::Metadata,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::task::JoinSet;

/// Clients that fill it.
const CLIENTS: usize = 64;
/// A hundred thousand on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Tries of one placement: a full queue is told and passes.
const TRIES: u32 = 100;
/// What a start leaves behind is over.
const SETTLE: Duration = Duration::from_secs(5);

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct MemoryArgs {
    /// Live sandboxes, one number after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000])]
    sandboxes: Vec<u32>,
    /// Simulated hosts (64 vCPU each, which is 640 of these sandboxes).
    #[arg(long, default_value_t = 200)]
    hosts: u32,
    /// Restarts at each number.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

/// What was seen at one number of sandboxes.
#[derive(Default)]
struct Level {
    sandboxes: u32,
    /// As it had grown, in bytes.
    grown: f64,
    /// After each restart, in bytes.
    fresh: Vec<f64>,
    /// From the start of the process until it acknowledged a placement.
    restart_s: Vec<f64>,
    copy_bytes: f64,
    copy_s: f64,
    filled_per_second: f64,
}

/// Runs the experiment.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub async fn run(args: &MemoryArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("memory")?;
    let fleet = Fleet { hosts: args.hosts, size: 1, creates: 16, mirror: true };
    let mut nodes = Nodes::start(&folder.path().join("one"), 1, fleet).await?;
    let mut levels = Vec::new();
    let mut sizes = args.sandboxes.clone();
    sizes.push(0);
    sizes.sort_unstable();
    sizes.dedup();
    let mut there = 0;
    for sandboxes in sizes {
        let mut level = Level { sandboxes, ..Level::default() };
        let began = Instant::now();
        fill(&nodes, sandboxes.saturating_sub(there)).await?;
        level.filled_per_second = f64::from(sandboxes.saturating_sub(there)) / began.elapsed().as_secs_f64();
        all_run(&nodes).await?;
        there = there.max(sandboxes);
        level.grown = proc::resident(nodes.pid(0).context("it runs")?)?;
        for _ in 0..args.repeats {
            nodes.kill(0)?;
            let began = Instant::now();
            nodes.restart(0)?;
            fill(&nodes, 1).await?;
            there += 1;
            level.restart_s.push(began.elapsed().as_secs_f64());
            all_run(&nodes).await?;
            tokio::time::sleep(SETTLE).await;
            level.fresh.push(proc::resident(nodes.pid(0).context("it runs")?)?);
        }
        if sandboxes > 0 {
            let copy = until_copied(&nodes).await?;
            level.copy_bytes = copy.len() as f64;
            level.copy_s = copy.modified()?.duration_since(copy.created()?).unwrap_or_default().as_secs_f64();
        }
        let _shown = writeln!(std::io::stderr(), "  {}", row(&level, levels.first().unwrap_or(&level)).join(" | "));
        levels.push(level);
    }
    Ok(report(args, machine, &levels))
}

/// Places so many; a node that is not there yet or is overloaded is asked again.
async fn fill(nodes: &Nodes, count: u32) -> Result<()> {
    let (left, mut tasks) = (Arc::new(AtomicU32::new(count)), JoinSet::new());
    for mut placer in Placer::many(nodes, 0, CLIENTS.min(count as usize)) {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let mut tries = 0;
                while let Err(error) = placer.once().await {
                    tries += 1;
                    ensure!(tries < TRIES, "a sandbox could not be placed: {error:#}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Waits until no sandbox is on its way any more.
async fn all_run(nodes: &Nodes) -> Result<()> {
    wait_for("all sandboxes to run", PATIENCE, || async {
        let (mut wire, mut after) = (nodes.wire(0), String::new());
        loop {
            // A page may be empty and not the last: only so many records are looked at for each.
            let path = format!("/v1/sandboxes?limit=1&phase=pending,assigned,starting,failed,lost{after}");
            let page = wire.call(Method::GET, &path, Bytes::new(), &[]).await?.json()?;
            ensure!(page["items"].as_array().is_some_and(Vec::is_empty), "some do not: {page}");
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return anyhow::Ok(()),
            }
        }
    })
    .await
}

/// Moves one sandbox's deadline again and again, an entry in the log each time, until raft has made a copy of the state as it is now. The
/// time between its file's making and the last write to it is what the copy took.
async fn until_copied(nodes: &Nodes) -> Result<Metadata> {
    let (data, began) = (nodes.data_dir(0), SystemTime::now());
    let page = nodes.wire(0).call(Method::GET, "/v1/sandboxes?limit=1&phase=running", Bytes::new(), &[]).await?;
    let path = format!("/v1/sandboxes/{}/extend", page.json()?["items"][0]["id"].as_str().context("none runs")?);
    let (lifetime, mut tasks) = (Arc::new(AtomicU32::new(86_400)), JoinSet::new());
    for _ in 0..CLIENTS {
        tasks.spawn(move_deadlines(nodes.wire(0), path.clone(), Arc::clone(&lifetime)));
    }
    let copied = wait_for("raft to copy the state", PATIENCE, || async {
        let newest = newest_copy(&data)?.context("there is none")?;
        ensure!(newest.created()? > began, "the newest is older");
        anyhow::Ok(newest)
    });
    tokio::select! {
        copied = copied => copied,
        Some(ended) = tasks.join_next() => Err(ended?.err().unwrap_or_else(|| anyhow!("nobody moves deadlines any more"))),
    }
}

async fn move_deadlines(mut wire: Wire, path: String, lifetime: Arc<AtomicU32>) -> Result<()> {
    loop {
        let body = json!({ "lifetime_s": lifetime.fetch_add(1, Ordering::Relaxed) }).to_string();
        wire.call(Method::POST, &path, body.into(), &[]).await?.json()?;
    }
}

/// The newest whole copy of the state.
fn newest_copy(data: &Path) -> Result<Option<Metadata>> {
    let mut newest: Option<(SystemTime, Metadata)> = None;
    for entry in std::fs::read_dir(data.join("snapshots")).context("the copies' folder")? {
        let path = entry?.path();
        // Older ones are removed meanwhile, and unfinished ones have another ending.
        let Ok(found) = path.metadata() else { continue };
        let created = found.created()?;
        let whole = path.extension().is_some_and(|ending| ending == "snapshot");
        if whole && newest.as_ref().is_none_or(|(at, _)| *at < created) {
            newest = Some((created, found));
        }
    }
    Ok(newest.map(|(_, found)| found))
}

fn each(level: &Level, bytes: f64, none: &Level) -> f64 {
    (bytes - median(&none.fresh)) / f64::from(level.sandboxes.max(1))
}

fn row(level: &Level, none: &Level) -> Vec<String> {
    let fresh: Vec<f64> = level.fresh.iter().map(|bytes| bytes / 1e6).collect();
    let more =
        |bytes: f64| if level.sandboxes == 0 { "–".into() } else { format!("{:.0}", each(level, bytes, none)) };
    let restart = spread(&level.restart_s);
    vec![
        level.sandboxes.to_string(),
        spread(&fresh),
        more(median(&level.fresh)),
        format!("{:.0}", level.grown / 1e6),
        more(level.grown),
        format!("{:.2}", level.copy_bytes / 1e6),
        format!("{:.3}", level.copy_s),
        restart,
        if level.sandboxes == 0 { "–".into() } else { format!("{:.0}", level.filled_per_second) },
    ]
}

fn report(args: &MemoryArgs, machine: Machine, levels: &[Level]) -> Report {
    let none = &levels[0];
    let idle = median(&none.fresh) / 1e6;
    let mut notes = vec![format!("idle: {idle:.0} MB (aim 60 MB: {})", met(idle < 60.0))];
    for level in levels.iter().filter(|level| level.sandboxes > 0) {
        let (fresh, grown) = (each(level, median(&level.fresh), none), each(level, level.grown, none));
        let aim = met(fresh < 2048.0 && grown < 2048.0);
        notes.push(format!(
            "{}: {fresh:.0} bytes for each after a start, {grown:.0} as it had grown (aim 2 kB: {aim})",
            level.sandboxes
        ));
    }
    notes.push(format!(
        "one node, {} simulated hosts that keep nothing in its memory; all sandboxes run; a restart is from the start of the process after \
         SIGKILL to its first acknowledged placement",
        args.hosts
    ));
    notes.push(
        "the copy is raft's own of the state at that size, written with a rest after each MiB (two thirds of the time)"
            .into(),
    );
    let bars = levels.iter().map(|level| {
        let fresh: Vec<f64> = level.fresh.iter().map(|bytes| bytes / 1e6).collect();
        Bar::of(format!("{} live sandboxes", level.sandboxes), true, &fresh)
    });
    let raw = levels.iter().map(|level| {
        json!({ "sandboxes": level.sandboxes, "resident_fresh_bytes": level.fresh, "resident_grown_bytes": level.grown,
            "copy_bytes": level.copy_bytes, "copy_s": level.copy_s, "restart_s": level.restart_s,
            "filled_per_second": level.filled_per_second })
    });
    Report {
        name: "memory".into(),
        title: "what live sandboxes cost a node".into(),
        machine,
        columns: [
            "live sandboxes",
            "MB after a start",
            "bytes each",
            "MB as grown",
            "bytes each",
            "copy MB",
            "copy s",
            "restart s",
            "filled/s",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: levels.iter().map(|level| row(level, none)).collect(),
        notes,
        chart: Chart { unit: "MB resident after a start".into(), bars: bars.collect() },
        raw: raw.collect(),
    }
}
