//! From request to running on one real host: `POST /v1/sandboxes`, Docker's own API on its own socket (create, start) and Swarm's service
//! create, in turns; then a burst of each.

use crate::{
    Common,
    load::{median, quantile},
    place::met,
    report::{Bar, Chart, Machine, Report, spread},
    stage::{Stage, docker, docker_api},
    wire::Wire,
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hyper::Method;
use plimsoll_testkit::{
    lab::{LAB_IMAGE, LabHost},
    wait::wait_for,
};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Creates one after the other, of each.
    #[arg(long, default_value_t = 40)]
    singles: usize,
    /// Sandboxes in a burst; 0 for none.
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Times the burst is repeated.
    #[arg(long, default_value_t = 3)]
    bursts: usize,
    /// Creates at once through the bare API in a burst; the best counts.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4, 8])]
    concurrency: Vec<usize>,
    /// Control-plane nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Without Docker Swarm.
    #[arg(long)]
    no_swarm: bool,
}

const SWEPT: Duration = Duration::from_secs(240);

async fn ours(wire: &mut Wire) -> Result<String> {
    let body = json!({ "cpu": 0.1, "memory": "64M", "disk": "16M", "lifetime_s": 0 }).to_string();
    let made = wire.call(Method::POST, "/v1/sandboxes", body.into(), &[]).await?.json()?;
    ensure!(made["phase"] == "running", "it is {}", made["phase"]);
    Ok(made["id"].as_str().context("an id")?.to_owned())
}

/// With the limits and the hardening that a sandbox has, and a volume for its workspace.
async fn bare(wire: &mut Wire, name: &str) -> Result<()> {
    let body = json!({
        "Image": LAB_IMAGE,
        "HostConfig": {
            "Init": true, "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 100_000_000, "PidsLimit": 1024,
            "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"],
            "Mounts": [{ "Type": "volume", "Source": name, "Target": "/workspace" }],
        },
    });
    docker(wire, Method::POST, &format!("/containers/create?name={name}"), body).await?;
    docker(wire, Method::POST, &format!("/containers/{name}/start"), Value::Null).await.map(drop)
}

async fn unmake(wire: &mut Wire, name: &str) -> Result<()> {
    docker(wire, Method::DELETE, &format!("/containers/{name}?force=1"), Value::Null).await?;
    docker(wire, Method::DELETE, &format!("/volumes/{name}"), Value::Null).await.map(drop)
}

/// A service of so many, until all its tasks run; gone again when this returns.
async fn swarm(wire: &mut Wire, name: &str, replicas: usize) -> Result<f64> {
    let body = json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": { "Image": LAB_IMAGE, "Init": true },
            "Resources": { "Limits": { "NanoCPUs": 100_000_000, "MemoryBytes": 64 << 20 } },
        },
        "Mode": { "Replicated": { "Replicas": replicas } },
    });
    let begun = Instant::now();
    docker(wire, Method::POST, "/services/create", body).await?;
    let filter = format!("/tasks?filters=%7B%22service%22%3A%5B%22{name}%22%5D%7D");
    loop {
        let tasks = docker(wire, Method::GET, &filter, Value::Null).await?;
        let running =
            tasks.as_array().map_or(0, |all| all.iter().filter(|task| task["Status"]["State"] == "running").count());
        if running >= replicas {
            break;
        }
        ensure!(begun.elapsed() < SWEPT, "{running} of {replicas} run");
        tokio::time::sleep(Duration::from_millis(if replicas > 1 { 20 } else { 3 })).await;
    }
    let took = begun.elapsed().as_secs_f64();
    docker(wire, Method::DELETE, &format!("/services/{name}"), Value::Null).await?;
    Ok(took)
}

async fn empty(host: &LabHost) -> Result<()> {
    wait_for("no container to be left", SWEPT, || async {
        let left = host.docker(&["ps", "--all", "--quiet"]).await?;
        ensure!(left.is_empty(), "{} are", left.lines().count());
        anyhow::Ok(())
    })
    .await
}

async fn burst_ours(stage: &Stage, count: usize) -> Result<f64> {
    let mut tasks = JoinSet::new();
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(stage.wire().await?);
    }
    let begun = Instant::now();
    for mut wire in wires {
        tasks.spawn(async move { ours(&mut wire).await });
    }
    let mut ids = Vec::new();
    while let Some(made) = tasks.join_next().await {
        ids.push(made??);
    }
    let took = begun.elapsed().as_secs_f64();
    let args: Vec<&str> = std::iter::once("rm").chain(ids.iter().map(String::as_str)).collect();
    stage.cluster.cli().run(&args).await?;
    Ok(took)
}

async fn burst_bare(host: &LabHost, count: usize, at_once: usize) -> Result<f64> {
    let permits = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for index in 0..count {
        let (permits, mut wire) = (Arc::clone(&permits), docker_api(host)?);
        tasks.spawn(async move {
            let _permit = permits.acquire().await?;
            bare(&mut wire, &format!("burst-{index}")).await
        });
    }
    while let Some(made) = tasks.join_next().await {
        made??;
    }
    let took = begun.elapsed().as_secs_f64();
    for index in 0..count {
        unmake(&mut docker_api(host)?, &format!("burst-{index}")).await?;
    }
    Ok(took)
}

/// Runs the experiment.
pub async fn run(args: &CreateArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("create")?;
    let stage = Stage::start(folder.path(), 1, args.nodes).await?;
    let result = on(&stage, args, machine).await;
    stage.stop().await?;
    result
}

/// A value for each repeat.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    bare: Vec<f64>,
    swarm: Vec<f64>,
}

async fn singles(stage: &Stage, args: &CreateArgs) -> Result<Times> {
    let host = stage.lab.host(0);
    let (mut node, mut api) = (stage.wire().await?, docker_api(host)?);
    let mut times = Times::default();
    for turn in 0..args.singles + 3 {
        let begun = Instant::now();
        let id = ours(&mut node).await?;
        let took_ours = begun.elapsed().as_secs_f64() * 1000.0;
        stage.cluster.cli().run(&["rm", &id]).await?;
        empty(host).await?;

        let begun = Instant::now();
        bare(&mut api, "single").await?;
        let took_bare = begun.elapsed().as_secs_f64() * 1000.0;
        unmake(&mut api, "single").await?;

        let mut took_swarm = None;
        if !args.no_swarm && turn % 4 == 0 {
            took_swarm = Some(swarm(&mut api, &format!("single-{turn}"), 1).await? * 1000.0);
            empty(host).await?;
        }
        // The first three warm up.
        if turn >= 3 {
            times.ours.push(took_ours);
            times.bare.push(took_bare);
            times.swarm.extend(took_swarm);
        }
    }
    Ok(times)
}

async fn bursts(stage: &Stage, args: &CreateArgs) -> Result<(Times, Vec<Vec<f64>>)> {
    let host = stage.lab.host(0);
    let (mut times, mut each) = (Times::default(), vec![Vec::new(); args.concurrency.len()]);
    for turn in 0..if args.burst == 0 { 0 } else { args.bursts } {
        times.ours.push(burst_ours(stage, args.burst).await?);
        empty(host).await?;
        for (index, at_once) in args.concurrency.iter().enumerate() {
            each[index].push(burst_bare(host, args.burst, *at_once).await?);
        }
        empty(host).await?;
        if !args.no_swarm {
            times.swarm.push(swarm(&mut docker_api(host)?, &format!("burst-{turn}"), args.burst).await?);
            empty(host).await?;
        }
        let _shown = writeln!(
            std::io::stderr(),
            "  burst {}: {:?}, bare {each:?}, swarm {:?}",
            turn + 1,
            times.ours,
            times.swarm
        );
    }
    let best = each.iter().min_by(|a, b| median(a).total_cmp(&median(b)));
    times.bare = best.cloned().unwrap_or_default();
    Ok((times, each))
}

async fn on(stage: &Stage, args: &CreateArgs, machine: Machine) -> Result<Report> {
    let host = stage.lab.host(0);
    if !args.no_swarm {
        let init = json!({ "ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1" });
        docker(&mut docker_api(host)?, Method::POST, "/swarm/init", init).await.context("Swarm mode")?;
    }
    let one = singles(stage, args).await?;
    let (many, each) = bursts(stage, args).await?;
    let (mut rows, mut notes, mut bars) = (Vec::new(), Vec::new(), Vec::new());
    for (who, times) in [("plimsoll", &one.ours), ("bare Docker API", &one.bare), ("Swarm service create", &one.swarm)]
    {
        if times.is_empty() {
            continue;
        }
        let at = |q| format!("{:.0}", quantile(times, q));
        rows.push(vec!["one, ms".into(), who.into(), times.len().to_string(), spread(times), at(0.9), at(0.99)]);
        bars.push(Bar::of(format!("one: {who}"), who == "plimsoll", times));
    }
    let ratio = |q| quantile(&one.ours, q) / quantile(&one.bare, q);
    let (p50, p99) = (ratio(0.5), ratio(0.99));
    notes.push(format!(
        "one: p50 {p50:.2}× the bare API (aim 1.10×: {}), p99 {p99:.2}× (aim 1.25×: {})",
        met(p50 <= 1.1),
        met(p99 <= 1.25)
    ));
    if !one.swarm.is_empty() {
        let it = median(&one.ours) / median(&one.swarm);
        notes.push(format!("one: {it:.2}× Swarm (aim 0.55×: {})", met(it <= 0.55)));
    }
    if !many.ours.is_empty() {
        for (who, times) in [
            ("plimsoll", &many.ours),
            ("bare Docker API at its best", &many.bare),
            ("Swarm service create", &many.swarm),
        ] {
            if !times.is_empty() {
                rows.push(vec![
                    format!("burst of {}, s", args.burst),
                    who.into(),
                    times.len().to_string(),
                    spread(times),
                    "–".into(),
                    "–".into(),
                ]);
            }
        }
        let it = median(&many.ours) / median(&many.bare);
        notes.push(format!(
            "burst: {it:.2}× the bare API at its best of {:?} at once (aim 1.05×: {})",
            args.concurrency,
            met(it <= 1.05)
        ));
        if !many.swarm.is_empty() {
            let it = median(&many.ours) / median(&many.swarm);
            notes.push(format!("burst: {it:.2}× Swarm (aim 1.0×: {})", met(it <= 1.0)));
        }
    }
    notes.push("the bare API is asked on the host's own socket, the nodes go over SSH; the bare container has the same limits, hardening and a volume, but the default bridge".into());
    Ok(Report {
        name: if args.nodes == 1 { "create-1-node" } else { "create" },
        title: format!("from request to running on one host, {} control-plane node(s)", args.nodes),
        machine,
        columns: ["what", "how", "repeats", "median (least–most)", "p90", "p99"].map(str::to_owned).to_vec(),
        rows,
        notes,
        chart: Chart { unit: "ms from request to running".into(), bars },
        raw: json!({ "one_ms": { "plimsoll": one.ours, "bare": one.bare, "swarm": one.swarm },
            "burst_s": { "plimsoll": many.ours, "bare_at": args.concurrency, "bare": each, "swarm": many.swarm } }),
    })
}
