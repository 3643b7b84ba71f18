//! What a fleet costs its control plane: a real `plimsoll server` with the real host driver, polling hosts whose SSH servers and Docker API
//! are simulated on the wire by another process.

use crate::{
    Common,
    load::median,
    place::met,
    proc,
    report::{Bar, Chart, Machine, Report, spread},
    shore,
    wire::{Target, Wire},
};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use plimsoll_testkit::{lab::Process, ports, wait::wait_for};
use plimsoll_tests::Cluster;
use russh::keys::{PrivateKey, ssh_key::LineEnding, ssh_key::private::Ed25519Keypair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};

/// Logins of a fleet on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(180);
/// Hosts that are added at once.
const ADDERS: u32 = 16;
/// Tries of adding one host.
const TRIES: u32 = 10;
/// What a survey that did not end in time is answered with.
const TIMED_OUT: u16 = 504;
/// Until the first polls, which run the script twice, and what a start leaves behind are over.
const SETTLE: Duration = Duration::from_secs(8);
/// The real interval of polls.
const POLL_MS: f64 = 2000.0;
/// The aims are for so many.
const AIM_HOSTS: u32 = 1000;

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct FleetArgs {
    /// Hosts, one fleet after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    hosts: Vec<u32>,
    /// Running sandboxes on each host, whose use is read with every poll.
    #[arg(long, default_value_t = 4)]
    sandboxes: u32,
    /// Windows that are measured for each fleet.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Seconds of each window.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// What was seen of one fleet, a value for each window.
#[derive(Default)]
struct Fleet {
    hosts: u32,
    /// From the start of the node until every host was logged in to.
    connect_s: f64,
    /// Adding those that were not there before.
    added_per_second: f64,
    cpu_percent: Vec<f64>,
    shore_cpu_percent: Vec<f64>,
    resident: Vec<f64>,
    polls_per_second: Vec<f64>,
    gap_p50_ms: Vec<f64>,
    gap_p99_ms: Vec<f64>,
    gap_max_ms: Vec<f64>,
    /// The node's own: no more than this share of polls began later than that.
    lag_p99_ms: Vec<f64>,
}

struct Stand {
    cluster: Cluster,
    shore: Process,
    counts: u16,
    port: u16,
    fingerprint: String,
}

/// Runs the experiment.
pub async fn run(args: &FleetArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("fleet")?;
    let mut sizes = args.hosts.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let most = *sizes.last().context("at least one number of hosts")?;
    raise_files(u64::from(most) * 4 + 1024)?;
    let mut stand = Stand::start(folder.path(), most, args.sandboxes).await?;
    let mut fleets = vec![stand.measure(0, args).await.context("no hosts")?];
    for hosts in sizes {
        let from = fleets.last().map_or(0, |fleet| fleet.hosts);
        let began = Instant::now();
        stand.add(from..hosts).await?;
        let took = began.elapsed().as_secs_f64();
        let mut fleet = stand.measure(hosts, args).await.with_context(|| format!("{hosts} hosts"))?;
        fleet.added_per_second = f64::from(hosts - from) / took;
        let _shown = writeln!(std::io::stderr(), "  {}", row(&fleet, &fleets[0]).join(" | "));
        fleets.push(fleet);
    }
    Ok(report(args, machine, &fleets))
}

/// Every host takes some sockets; what the shell allows is often 1,024.
fn raise_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(most >= wanted, "this many hosts take {wanted} open files, and only {most} are allowed (ulimit -Hn)");
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    }
    Ok(())
}

/// A key of this run's own, which the simulated hosts do not look at.
fn write_key(path: &Path) -> Result<()> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(key.to_openssh(LineEnding::LF)?.as_bytes()).context("cannot write a key")
}

impl Stand {
    async fn start(folder: &Path, hosts: u32, sandboxes: u32) -> Result<Self> {
        let (port, counts, key) = (ports::free()?, ports::free()?, folder.join("key"));
        write_key(&key)?;
        let written: PathBuf = folder.join("fingerprint");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["shore", "--hosts", &hosts.to_string(), "--sandboxes", &sandboxes.to_string()]);
        command.args(["--port", &port.to_string(), "--counts", &counts.to_string(), "--fingerprint"]).arg(&written);
        let shore = Process::spawn("the simulated hosts", &command, folder.join("shore.log"))?;
        let fingerprint = wait_for("the simulated hosts to listen", PATIENCE, || async {
            let text = std::fs::read_to_string(&written)?;
            ensure!(text.starts_with("SHA256:"), "not written yet");
            anyhow::Ok(text)
        })
        .await
        .with_context(|| shore.log_tail(5))?;
        let settings = format!(
            "[ssh]\nidentity_file = {:?}\n[cluster]\nbase_image = \"debian:12\"\n[log]\nlevel = \"warn\"\n",
            key.display().to_string()
        );
        let cluster = Cluster::start(&folder.join("nodes"), 1, &settings).await.context("the node")?;
        Ok(Self { cluster, shore, counts, port, fingerprint })
    }

    fn wire(&self) -> Wire {
        Wire::new(Target::url(&self.cluster.nodes()[0].url), Some(self.cluster.cli().key()))
    }

    /// Adds hosts as a person would, each surveyed.
    async fn add(&self, range: std::ops::Range<u32>) -> Result<()> {
        let mut adders = JoinSet::new();
        for adder in 0..ADDERS {
            let (mut wire, fingerprint, port) = (self.wire(), self.fingerprint.clone(), self.port);
            let mine = range.clone().filter(move |index| index % ADDERS == adder);
            adders.spawn(async move {
                for index in mine {
                    let address = format!("ssh://root@{}:{port}", shore::address(index));
                    let host = json!({ "name": shore::name(index), "address": address, "fingerprint": fingerprint });
                    let mut tries = 0;
                    loop {
                        let body = host.to_string().into();
                        let answer = wire.call(Method::POST, "/v1/hosts", body, &[]).await?;
                        // On a machine that is busy with other things a survey may take longer than it is given.
                        if answer.status != TIMED_OUT || tries == TRIES {
                            answer.json()?;
                            break;
                        }
                        tries += 1;
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = adders.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// What the hosts saw since they were last asked.
    async fn counts(&self) -> Result<Value> {
        let mut text = String::new();
        TcpStream::connect(("127.0.0.1", self.counts)).await?.read_to_string(&mut text).await?;
        serde_json::from_str(&text).context("the simulated hosts answer in JSON")
    }

    /// Starts the node anew and looks at it while it polls so many hosts.
    async fn measure(&mut self, hosts: u32, args: &FleetArgs) -> Result<Fleet> {
        let before = number(&self.counts().await?, "logins");
        self.cluster.kill(0)?;
        let began = Instant::now();
        self.cluster.restart(0)?;
        wait_for("every host to be logged in to", PATIENCE, || async {
            let logins = number(&self.counts().await?, "logins") - before;
            ensure!(logins >= f64::from(hosts), "{logins} of {hosts} are");
            anyhow::Ok(())
        })
        .await?;
        let mut fleet = Fleet { hosts, connect_s: began.elapsed().as_secs_f64(), ..Fleet::default() };
        self.cluster.wait_ready(0).await?;
        tokio::time::sleep(SETTLE).await;
        self.all_ready(hosts).await?;
        for _ in 0..args.repeats {
            self.window(&mut fleet, Duration::from_secs_f64(args.seconds)).await?;
        }
        self.all_ready(hosts).await?;
        Ok(fleet)
    }

    async fn all_ready(&self, hosts: u32) -> Result<()> {
        wait_for("all hosts to be ready", PATIENCE, || async {
            let all = self.wire().call(Method::GET, "/v1/hosts", Bytes::new(), &[]).await?.json()?.to_string();
            let ready = all.matches("\"health\":\"ready\"").count();
            ensure!(ready == hosts as usize, "{ready} of {hosts} are");
            anyhow::Ok(())
        })
        .await
    }

    async fn window(&self, fleet: &mut Fleet, time: Duration) -> Result<()> {
        let (node, shore) = (self.cluster.nodes()[0].pid().context("the node runs")?, self.shore.pid());
        let lag_before = self.lags().await?;
        self.counts().await?;
        let (began, node_cpu, shore_cpu) = (Instant::now(), proc::cpu_s(node)?, proc::cpu_s(shore)?);
        tokio::time::sleep(time).await;
        let (node_cpu, shore_cpu) = (proc::cpu_s(node)? - node_cpu, proc::cpu_s(shore)? - shore_cpu);
        let took = began.elapsed().as_secs_f64();
        let seen = self.counts().await?;
        fleet.resident.push(proc::resident(node)?);
        fleet.cpu_percent.push(node_cpu / took * 100.0);
        fleet.shore_cpu_percent.push(shore_cpu / took * 100.0);
        fleet.polls_per_second.push(number(&seen, "polls") / took);
        fleet.gap_p50_ms.push(number(&seen, "gap_p50_us") / 1000.0);
        fleet.gap_p99_ms.push(number(&seen, "gap_p99_us") / 1000.0);
        fleet.gap_max_ms.push(number(&seen, "gap_max_us").max(number(&seen, "open_gap_us")) / 1000.0);
        fleet.lag_p99_ms.push(quantile_bound(&lag_before, &self.lags().await?, 0.99) * 1000.0);
        Ok(())
    }

    /// The node's histogram of how late polls began: bounds in seconds with how many were no later.
    async fn lags(&self) -> Result<Vec<(f64, f64)>> {
        let text = self.wire().call(Method::GET, "/metrics", Bytes::new(), &[]).await?;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("plimsoll_host_poll_lag_seconds_bucket{le=\""));
        let bounds = lines.filter_map(|line| {
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        });
        Ok(bounds.collect())
    }
}

/// The smallest bound that so large a share of what came between two scrapes does not exceed.
fn quantile_bound(before: &[(f64, f64)], after: &[(f64, f64)], q: f64) -> f64 {
    let earlier = |bound: f64| before.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
    let all = after.iter().map(|(bound, count)| (*bound, count - earlier(*bound)));
    let most = all.clone().map(|(_, count)| count).fold(0.0, f64::max);
    all.filter(|(_, count)| *count >= q * most).map(|(bound, _)| bound).fold(f64::INFINITY, f64::min)
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_default()
}

/// Kilobytes that each host adds to a node without any.
fn kb_each(fleet: &Fleet, none: &Fleet) -> Vec<f64> {
    let idle = median(&none.resident);
    fleet.resident.iter().map(|bytes| (bytes - idle) / 1000.0 / f64::from(fleet.hosts.max(1))).collect()
}

fn row(fleet: &Fleet, none: &Fleet) -> Vec<String> {
    if fleet.hosts == 0 {
        let resident: Vec<f64> = fleet.resident.iter().map(|bytes| bytes / 1e6).collect();
        let idle = vec!["0".into(), spread(&fleet.cpu_percent), "–".into(), format!("{} MB in all", spread(&resident))];
        return [idle, vec!["–".into(); 5]].concat();
    }
    let late = |gaps: &[f64]| spread(&gaps.iter().map(|gap| (gap - POLL_MS).max(0.0)).collect::<Vec<_>>());
    let each: Vec<f64> = fleet.cpu_percent.iter().map(|percent| percent * 10.0 / f64::from(fleet.hosts)).collect();
    vec![
        fleet.hosts.to_string(),
        spread(&fleet.cpu_percent),
        spread(&each),
        spread(&kb_each(fleet, none)),
        spread(&fleet.polls_per_second),
        late(&fleet.gap_p99_ms),
        late(&fleet.gap_max_ms),
        spread(&fleet.lag_p99_ms),
        format!("{:.1}", fleet.connect_s),
    ]
}

fn report(args: &FleetArgs, machine: Machine, fleets: &[Fleet]) -> Report {
    let mut notes = Vec::new();
    let none = &fleets[0];
    if let Some(aim) = fleets.iter().find(|fleet| fleet.hosts == AIM_HOSTS) {
        let cpu = median(&aim.cpu_percent);
        notes.push(format!("{AIM_HOSTS} hosts take {cpu:.0} % of a core (aim 50 %: {})", met(cpu <= 50.0)));
        let each = median(&kb_each(aim, none));
        notes.push(format!("{each:.0} kB for each of {AIM_HOSTS} hosts (aim 200 kB: {})", met(each <= 200.0)));
    }
    let grown: Vec<&Fleet> = fleets.iter().filter(|fleet| fleet.hosts >= 100).collect();
    if let (Some(small), Some(large)) = (grown.first(), grown.last())
        && small.hosts < large.hosts
    {
        let each = |fleet: &Fleet| (median(&fleet.cpu_percent) - median(&none.cpu_percent)) / f64::from(fleet.hosts);
        let factor = each(large) / each(small);
        notes.push(format!(
            "growth: each of {} hosts takes {factor:.2}× the CPU of each of {} (aim, linear at worst: {})",
            large.hosts,
            small.hosts,
            met(factor <= 1.1)
        ));
    }
    notes.push(format!(
        "one node, polling every 2 s; {} running sandboxes on each host, read with every poll; info, containers and the \
         measuring script over one SSH connection a host; nothing is placed meanwhile",
        args.sandboxes
    ));
    notes.push("polls late: the time between two polls of a host, as the host sees it, beyond 2 s; the last but one column is the node's own, \
         rounded up to a bound of its histogram".into());
    notes.push("adding: a host a time, surveyed over two connections of its own, 16 at once; connecting: from the start of the node until the last login".into());
    let bars = fleets.iter().filter(|fleet| fleet.hosts > 0);
    let bars = bars.map(|fleet| Bar::of(format!("{} hosts", fleet.hosts), true, &fleet.cpu_percent));
    let raw = fleets.iter().map(|fleet| {
        json!({ "hosts": fleet.hosts, "connect_s": fleet.connect_s, "added_per_second": fleet.added_per_second,
            "cpu_percent": fleet.cpu_percent, "simulation_cpu_percent": fleet.shore_cpu_percent,
            "resident_bytes": fleet.resident, "polls_per_second": fleet.polls_per_second, "gap_p50_ms": fleet.gap_p50_ms,
            "gap_p99_ms": fleet.gap_p99_ms, "gap_max_ms": fleet.gap_max_ms, "lag_p99_ms": fleet.lag_p99_ms })
    });
    Report {
        name: "fleet".into(),
        title: "what hosts cost the node that polls them".into(),
        machine,
        columns: [
            "hosts",
            "CPU, % of a core",
            "CPU ms/s each",
            "kB each",
            "polls a second",
            "late p99 ms",
            "late most ms",
            "node's lag p99 ms",
            "connected after s",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: fleets.iter().map(|fleet| row(fleet, none)).collect(),
        notes,
        chart: Chart { unit: "% of a core".into(), bars: bars.collect() },
        raw: raw.collect(),
    }
}
