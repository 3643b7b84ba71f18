//! From request to running on one real host: `POST /v1/sandboxes`, Docker's own API on its own socket (create, start) and Swarm's service
//! create, in turns; then a burst of each. The bare API is asked for two containers: a plain one, and one that is isolated as a sandbox is.

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

/// What the bare API is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A sandbox's limits and hardening and a volume for its workspace, on Docker's default bridge.
    Plain,
    /// The same container as a sandbox's: also on a network where containers cannot reach each other, with a tmpfs and bounded logs.
    Isolated,
}

/// The network of isolated ones, made once: a sandbox's tenant has one there as well.
const NETWORK: &str = "bench-isolated";

async fn make_network(wire: &mut Wire) -> Result<()> {
    let options = json!({ "com.docker.network.bridge.enable_icc": "false" });
    let body = json!({ "Name": NETWORK, "Driver": "bridge", "Options": options });
    docker(wire, Method::POST, "/networks/create", body).await.map(drop)
}

async fn bare(wire: &mut Wire, name: &str, kind: Kind) -> Result<()> {
    let mut body = json!({
        "Image": LAB_IMAGE,
        "HostConfig": {
            "Init": true, "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 100_000_000, "PidsLimit": 1024,
            "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"],
            "Mounts": [{ "Type": "volume", "Source": name, "Target": "/workspace" }],
        },
    });
    if kind == Kind::Isolated {
        let config = &mut body["HostConfig"];
        config["NetworkMode"] = NETWORK.into();
        config["Tmpfs"] = json!({ "/run/secret": "rw,noexec,nosuid,nodev,size=1m,mode=0700" });
        config["LogConfig"] = json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } });
    }
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

/// Waits until only the resident is left: a sandbox that stays, so that its tenant's network is there as Docker's own bridge is.
async fn empty(host: &LabHost) -> Result<()> {
    wait_for("no container but the resident to be left", SWEPT, || async {
        let left = host.docker(&["ps", "--all", "--quiet"]).await?;
        ensure!(left.lines().count() <= 1, "{} are", left.lines().count());
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

async fn burst_bare(host: &LabHost, count: usize, at_once: usize, kind: Kind) -> Result<f64> {
    let permits = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for index in 0..count {
        let (permits, mut wire) = (Arc::clone(&permits), docker_api(host)?);
        tasks.spawn(async move {
            let _permit = permits.acquire().await?;
            bare(&mut wire, &format!("burst-{index}"), kind).await
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
    plain: Vec<f64>,
    isolated: Vec<f64>,
    swarm: Vec<f64>,
}

impl Times {
    fn named(&self) -> [(&'static str, &Vec<f64>); 4] {
        [
            ("plimsoll", &self.ours),
            ("bare Docker API, isolated as a sandbox", &self.isolated),
            ("bare Docker API, default bridge", &self.plain),
            ("Swarm service create", &self.swarm),
        ]
    }
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

        let mut took_bare = [0.0; 2];
        for (took, kind) in took_bare.iter_mut().zip([Kind::Plain, Kind::Isolated]) {
            let begun = Instant::now();
            bare(&mut api, "single", kind).await?;
            *took = begun.elapsed().as_secs_f64() * 1000.0;
            unmake(&mut api, "single").await?;
        }

        let mut took_swarm = None;
        if !args.no_swarm && turn % 4 == 0 {
            took_swarm = Some(swarm(&mut api, &format!("single-{turn}"), 1).await? * 1000.0);
            empty(host).await?;
        }
        // The first three warm up.
        if turn >= 3 {
            times.ours.push(took_ours);
            times.plain.push(took_bare[0]);
            times.isolated.push(took_bare[1]);
            times.swarm.extend(took_swarm);
        }
    }
    Ok(times)
}

/// The bursts, and each of the bare API's by concurrency: plain ones, isolated ones.
async fn bursts(stage: &Stage, args: &CreateArgs) -> Result<(Times, [Vec<Vec<f64>>; 2])> {
    let host = stage.lab.host(0);
    let (mut times, empty_each) = (Times::default(), vec![Vec::new(); args.concurrency.len()]);
    let mut each = [empty_each.clone(), empty_each];
    for turn in 0..if args.burst == 0 { 0 } else { args.bursts } {
        times.ours.push(burst_ours(stage, args.burst).await?);
        empty(host).await?;
        for (index, at_once) in args.concurrency.iter().enumerate() {
            for (kind, each) in [Kind::Plain, Kind::Isolated].into_iter().zip(&mut each) {
                each[index].push(burst_bare(host, args.burst, *at_once, kind).await?);
            }
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
    let best =
        |each: &[Vec<f64>]| each.iter().min_by(|a, b| median(a).total_cmp(&median(b))).cloned().unwrap_or_default();
    (times.plain, times.isolated) = (best(&each[0]), best(&each[1]));
    Ok((times, each))
}

async fn on(stage: &Stage, args: &CreateArgs, machine: Machine) -> Result<Report> {
    let host = stage.lab.host(0);
    if !args.no_swarm {
        let init = json!({ "ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1" });
        docker(&mut docker_api(host)?, Method::POST, "/swarm/init", init).await.context("Swarm mode")?;
    }
    make_network(&mut docker_api(host)?).await?;
    let begun = Instant::now();
    let resident = ours(&mut stage.wire().await?).await?;
    let first = begun.elapsed().as_secs_f64() * 1000.0;
    let one = singles(stage, args).await?;
    let (many, each) = bursts(stage, args).await?;
    stage.cluster.cli().run(&["rm", &resident]).await?;
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (who, times) in one.named().into_iter().filter(|(_, times)| !times.is_empty()) {
        let at = |q| format!("{:.0}", quantile(times, q));
        rows.push(vec!["one, ms".into(), who.into(), times.len().to_string(), spread(times), at(0.9), at(0.99)]);
        bars.push(Bar::of(format!("one: {who}"), who == "plimsoll", times));
    }
    for (who, times) in many.named().into_iter().filter(|(_, times)| !times.is_empty()) {
        let what = format!("burst of {}, s", args.burst);
        rows.push(vec![what, who.into(), times.len().to_string(), spread(times), "–".into(), "–".into()]);
    }
    let mut notes = judged(args, &one, &many);
    notes.push(format!("the first sandbox of its tenant on the host, whose network is made for it, took {first:.0} ms; it stays meanwhile"));
    notes.push("the bare API is asked on the host's own socket, the nodes go over SSH; bare containers have a sandbox's limits, hardening and a volume, isolated ones its kind of network, tmpfs and logs as well".into());
    Ok(Report {
        name: if args.nodes == 1 { "create-1-node" } else { "create" }.into(),
        title: format!("from request to running on one host, {} control-plane node(s)", args.nodes),
        machine,
        columns: ["what", "how", "repeats", "median (least–most)", "p90", "p99"].map(str::to_owned).to_vec(),
        rows,
        notes,
        chart: Chart { unit: "ms from request to running".into(), bars },
        raw: json!({
            "one_ms": { "plimsoll": one.ours, "isolated": one.isolated, "bare": one.plain, "swarm": one.swarm },
            "burst_s": { "plimsoll": many.ours, "bare_at": args.concurrency, "isolated": each[1], "bare": each[0], "swarm": many.swarm },
        }),
    })
}

/// The ratios, and whether they meet the aims.
fn judged(args: &CreateArgs, one: &Times, many: &Times) -> Vec<String> {
    let mut notes = Vec::new();
    for (what, bare) in [("isolated", &one.isolated), ("on its default bridge", &one.plain)] {
        let ratio = |q| quantile(&one.ours, q) / quantile(bare, q);
        let (p50, p99) = (ratio(0.5), ratio(0.99));
        notes.push(format!(
            "one: p50 {p50:.2}× the bare API {what} (aim 1.10×: {}), p99 {p99:.2}× (aim 1.25×: {})",
            met(p50 <= 1.1),
            met(p99 <= 1.25)
        ));
    }
    if !one.swarm.is_empty() {
        let it = median(&one.ours) / median(&one.swarm);
        notes.push(format!("one: {it:.2}× Swarm (aim 0.55×: {})", met(it <= 0.55)));
    }
    if many.ours.is_empty() {
        return notes;
    }
    for (what, bare) in [("isolated", &many.isolated), ("on its default bridge", &many.plain)] {
        let it = median(&many.ours) / median(bare);
        notes.push(format!(
            "burst: {it:.2}× the bare API {what} at its best of {:?} at once (aim 1.05×: {})",
            args.concurrency,
            met(it <= 1.05)
        ));
    }
    if !many.swarm.is_empty() {
        let it = median(&many.ours) / median(&many.swarm);
        notes.push(format!("burst: {it:.2}× Swarm (aim 1.0×: {})", met(it <= 1.0)));
    }
    notes
}
