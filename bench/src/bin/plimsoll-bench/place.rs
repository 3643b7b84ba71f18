//! Placements per second and their latency, over HTTP against one and three nodes, beside etcd's puts and the disk's fdatasync.

use crate::{
    Common,
    etcd::{Etcd, Putter},
    load::{self, Seen, Worker, median},
    nodes::{Fleet, Nodes, Placer},
    report::{Bar, Chart, Machine, Report, spread},
};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

/// Bytes of an etcd value: about what one placement adds to our log.
const VALUE: usize = 256;

/// Machines of 64 vCPU that no run fills.
const ENOUGH: u32 = 1000;

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Clients in a closed loop.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    clients: Vec<usize>,
    /// Placements in one request (and puts in one of etcd's transactions), each by 64 clients in a closed loop.
    #[arg(long, value_delimiter = ',', default_values_t = [16])]
    batches: Vec<usize>,
    /// Times everything is repeated, interleaved.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Seconds each measurement takes, after a fifth of that to warm up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Simulated hosts; several numbers are measured side by side. A host has 64 vCPU and 256 GiB, more where there are less than a
    /// thousand: the fleet always has room for 640,000 of the sandboxes that are asked for.
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    hosts: Vec<u32>,
    /// Creates under way on all hosts together; 0 starts no sandbox: all of them go on waiting for their host.
    #[arg(long, default_value_t = 4000)]
    creates: usize,
    /// Placements a second in the open loop, with 256 workers.
    #[arg(long, value_delimiter = ',', default_values_t = [200.0, 1000.0])]
    rates: Vec<f64>,
}

/// Rates and quantiles of one case, a value for each repeat.
#[derive(Default)]
struct Case {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    failed: u64,
}

impl Case {
    fn add(&mut self, name: &str, seen: &Seen) {
        let _shown = writeln!(
            std::io::stderr(),
            "  {name}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, failed {}{}",
            seen.rate(),
            seen.ms(0.5),
            seen.ms(0.99),
            seen.failed,
            seen.failure.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        );
        self.rate.push(seen.rate());
        self.p50.push(seen.ms(0.5));
        self.p99.push(seen.ms(0.99));
        self.failed += seen.failed;
    }

    fn json(&self) -> Value {
        json!({ "per_second": self.rate, "p50_ms": self.p50, "p99_ms": self.p99, "failed": self.failed })
    }
}

/// The systems, as the table names them.
const ONE: &str = "plimsoll, 1 node";
const THREE: &str = "plimsoll, 3 nodes";
const ETCD: &str = "etcd, 3 nodes";
/// Clients that ask for batches.
const BATCH_CLIENTS: usize = 64;

fn closed_by(clients: usize) -> String {
    format!("closed, {clients:>4} clients")
}

fn batches_of(batch: usize) -> String {
    format!("{}, batches of {batch}", closed_by(BATCH_CLIENTS))
}

/// Closed at each number of clients, then open at each rate.
async fn measure<W: Worker>(
    args: &PlaceArgs,
    who: &str,
    make: impl AsyncFn(usize, usize) -> Result<Vec<W>>,
    cases: &mut BTreeMap<(String, String), Case>,
) -> Result<()> {
    let time = Duration::from_secs_f64(args.seconds);
    let singles = args.clients.iter().map(|clients| (*clients, 1, closed_by(*clients)));
    let batches = args.batches.iter().map(|batch| (BATCH_CLIENTS, *batch, batches_of(*batch)));
    for (clients, batch, how) in singles.chain(batches) {
        let (seen, _) = load::closed(make(clients, batch).await?, time / 5, time).await?;
        cases.entry((how.clone(), who.to_owned())).or_default().add(&format!("{who}, {how}"), &seen);
    }
    for rate in &args.rates {
        // The first requests make the connections; they are not measured.
        let (_, workers) = load::closed(make(256, 1).await?, time / 5, Duration::ZERO).await?;
        let (seen, _) = load::open(workers, *rate, time).await?;
        let how = format!("open, {rate:>5}/s");
        cases.entry((how.clone(), who.to_owned())).or_default().add(&format!("{who}, {how}"), &seen);
    }
    Ok(())
}

/// Every system of ours: its name, its nodes and its hosts. Where several numbers of hosts are measured, the name tells them.
fn systems(args: &PlaceArgs) -> Vec<(String, usize, u32)> {
    let named = |who: &str, hosts: u32| match args.hosts.len() {
        1 => who.to_owned(),
        _ => format!("{who}, {hosts:>5} hosts"),
    };
    args.hosts
        .iter()
        .flat_map(|hosts| [(ONE, 1), (THREE, 3)].map(|(who, count)| (named(who, *hosts), count, *hosts)))
        .collect()
}

/// Runs the experiment. Each system is there only while it is measured: what it still does of what it took on would slow the next.
pub async fn run(args: &PlaceArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("place")?;
    let (mut cases, mut disk, mut memory) = (BTreeMap::new(), Vec::new(), (None, None));
    for repeat in 0..args.repeats {
        let _shown = writeln!(std::io::stderr(), "repeat {} of {}", repeat + 1, args.repeats);
        let scratch = folder.path().join(format!("repeat-{repeat}"));
        std::fs::create_dir_all(&scratch)?;
        disk.push(fdatasyncs(&scratch, Duration::from_secs(1))?);
        for (who, count, hosts) in systems(args) {
            let fleet = Fleet {
                hosts,
                size: ENOUGH.div_ceil(hosts.max(1)),
                creates: args.creates.div_ceil(hosts.max(1) as usize),
                mirror: true,
            };
            let nodes = Nodes::start(&scratch.join(&who), count, fleet).await.context(who.clone())?;
            let lead = nodes.leader().await?;
            let empty = nodes.memory_mb(lead);
            let placers = async |clients, batch| {
                Ok(if batch == 1 {
                    Placer::many(&nodes, lead, clients)
                } else {
                    Placer::batches(&nodes, lead, clients, batch)
                })
            };
            measure(args, &who, placers, &mut cases).await?;
            memory = (empty, nodes.memory_mb(nodes.leader().await?));
        }
        let etcd = Etcd::start(&scratch.join("etcd"), 3).await.context("etcd")?;
        let address = etcd.addresses()[etcd.leader().await?].clone();
        let value = Bytes::from(vec![b'x'; VALUE]);
        let nth = std::sync::atomic::AtomicU32::new(0);
        let putters = async |clients, batch| {
            let run = nth.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
            // As many connections as etcd's own benchmark is usually given.
            Putter::many(&address, &run, (clients, 16), batch, value.clone()).await
        };
        measure(args, ETCD, putters, &mut cases).await?;
        drop(etcd);
        std::fs::remove_dir_all(&scratch)?;
    }
    Ok(report(args, machine, &cases, &disk, memory))
}

fn report(
    args: &PlaceArgs,
    machine: Machine,
    cases: &BTreeMap<(String, String), Case>,
    disk: &[f64],
    (empty, full): (Option<u64>, Option<u64>),
) -> Report {
    let mut notes =
        vec![format!("the disk alone: {} fdatasyncs of {VALUE} bytes a second, one after the other", spread(disk))];
    let get = |how: &str, who: &str| cases.get(&(how.to_owned(), who.to_owned()));
    let many = args.batches.iter().map(|batch| (batches_of(*batch), format!("64 clients with batches of {batch}")));
    let whats = [(closed_by(64), "64 clients".to_owned())].into_iter().chain(many);
    let three: Vec<_> = systems(args).into_iter().filter(|(_, count, _)| *count == 3).map(|(who, ..)| who).collect();
    for ((how, what), who) in whats.flat_map(|what| three.iter().map(move |who| (what.clone(), who))) {
        let (Some(ours), Some(theirs)) = (get(&how, who), get(&how, ETCD)) else { continue };
        let rate = median(&ours.rate) / median(&theirs.rate);
        let p99 = median(&ours.p99) / median(&theirs.p99);
        let disk = median(&ours.rate) / median(disk);
        notes.push(format!(
            "{what}, {}: {rate:.2}× etcd's puts/s (aim 3×: {}), {p99:.2}× its p99 (aim 0.5×: {}), {disk:.2}× the bare \
             fdatasync rate (aim 2×: {})",
            who.trim_start_matches("plimsoll, "),
            met(rate >= 3.0),
            met(p99 <= 0.5),
            met(disk >= 2.0)
        ));
    }
    for who in &three {
        let (Some(ours), Some(theirs)) = (get(&closed_by(1), who), get(&closed_by(1), ETCD)) else { continue };
        let (rate, who) = (median(&ours.rate) / median(&theirs.rate), who.trim_start_matches("plimsoll, "));
        notes.push(format!("1 client, {who}: {rate:.2}× etcd's puts/s (aim 1×: {})", met(rate >= 1.0)));
    }
    notes.push(format!(
        "memory of the leader of three before and after the last repeat: {} MB, {} MB",
        empty.unwrap_or_default(),
        full.unwrap_or_default()
    ));
    let what =
        if args.creates == 0 { "the sandboxes stay assigned: nothing is started" } else { "the sandboxes are started" };
    let hosts: Vec<_> = args.hosts.iter().map(u32::to_string).collect();
    notes.push(format!("{} simulated hosts in each node's process, polled every 2 s; {what}", hosts.join(" or ")));
    let quantity =
        |case: &Case| vec![spread(&case.rate), spread(&case.p50), spread(&case.p99), case.failed.to_string()];
    let rows =
        cases.iter().map(|((how, who), case)| [vec![how.clone(), who.clone()], quantity(case)].concat()).collect();
    let bars = cases.iter().filter(|((how, _), _)| how.starts_with("closed"));
    let bars = bars.map(|((how, who), case)| Bar::of(format!("{who}; {how}"), who.starts_with("plimsoll"), &case.rate));
    let raw = cases.iter().map(|((how, who), case)| (format!("{who}; {how}"), case.json()));
    Report {
        name: format!(
            "place{}{}",
            if args.creates == 0 { "-stalled" } else { "" },
            if args.hosts.len() > 1 { "-hosts" } else { "" }
        ),
        title: format!("placements over HTTP beside etcd's puts of {VALUE} bytes"),
        machine,
        columns: ["load", "system", "per second", "p50 ms", "p99 ms", "failed"].map(str::to_owned).to_vec(),
        rows,
        notes,
        chart: Chart { unit: "acknowledged per second".into(), bars: bars.collect() },
        raw: json!({ "fdatasync_per_second": disk, "cases": raw.collect::<serde_json::Map<_, _>>() }),
    }
}

/// How an aim came out.
pub fn met(is: bool) -> &'static str {
    if is { "met" } else { "missed" }
}

/// How often a second this disk takes a small write with fdatasync.
#[allow(clippy::cast_precision_loss)] // a count of writes
fn fdatasyncs(folder: &Path, time: Duration) -> Result<f64> {
    let mut file = std::fs::File::create(folder.join("fdatasync"))?;
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        file.write_all(&[b'x'; VALUE])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}
