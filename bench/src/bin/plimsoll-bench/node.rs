//! A node as `plimsoll server` runs it (raft and sled with fsync, mutual TLS between peers, the engine's loops, the HTTP surface), but
//! with simulated hosts: they answer in this process, after a delay drawn as for a real one, and measure nothing of Docker.

use crate::mirror::Mirrors;
use anyhow::{Context as _, Result};
use clap::Args;
use plimsoll_engine::{ClusterSecret, Engine, EngineOptions};
use plimsoll_lifecycle::ports::{Clock, Dial, Ledger, Membership};
use plimsoll_raft::{Node, Options};
use plimsoll_testkit::sim::{HostSize, SimClock, SimFleet};
use plimsoll_types::{Bytes, MilliCpu, Resources, Timestamp};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What such a node is told.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// A folder that `plimsoll init` or `plimsoll join` has made.
    #[arg(long)]
    data_dir: PathBuf,
    /// Where its API listens.
    #[arg(long)]
    api: SocketAddr,
    /// Where its peers connect to.
    #[arg(long)]
    raft: SocketAddr,
    /// How many simulated hosts there are; every node of a cluster is told the same.
    #[arg(long)]
    hosts: u32,
    /// How large each is, in machines of 64 vCPU and 256 GiB.
    #[arg(long)]
    size: u64,
    /// Creates under way at once on each host; 0 starts nothing: sandboxes stay assigned.
    #[arg(long)]
    creates: usize,
    /// The hosts remember nothing: what stands on them is what state says runs there.
    #[arg(long)]
    mirror: bool,
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The name of a simulated host.
pub fn host_name(index: u32) -> String {
    format!("sim-{index}")
}

/// Runs until it is killed.
pub async fn run(args: &NodeArgs) -> Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).with_ansi(false).init();
    let options = Options::new(args.data_dir.clone(), args.raft, args.raft.to_string(), format!("http://{}", args.api));
    let listener = TcpListener::bind(args.api).await.with_context(|| format!("cannot listen on {}", args.api))?;
    let node = Arc::new(Node::open(options).await?);
    let ledger = Arc::clone(&node) as Arc<dyn Ledger>;
    let mut engine = EngineOptions::new(ClusterSecret::new(*node.cluster_secret().expose()));
    engine.creates_per_host = args.creates;
    let mut dial: Arc<dyn Dial> = fleet(args.hosts, args.size).any_dialer();
    if args.mirror {
        dial = Mirrors::new(Arc::clone(&ledger), dial);
    }
    let (engine, provider) = Engine::new(engine, Arc::clone(&ledger), dial, Arc::new(SystemClock));
    let api = plimsoll_api::Options::new(
        Arc::clone(&provider) as Arc<_>,
        Arc::clone(&provider) as Arc<_>,
        ledger,
        Arc::clone(&node) as Arc<dyn Membership>,
        Arc::new(SystemClock),
        Arc::new(String::new),
    );
    let stop = CancellationToken::new();
    tokio::spawn(engine.run(stop.clone()));
    plimsoll_api::serve(api, listener, stop).await.context("the API ended")
}

/// Machines of so many times 64 vCPU and 256 GiB: large, so that a fleet that is cheap to poll does not fill up within a run.
fn fleet(hosts: u32, size: u64) -> SimFleet {
    let fleet = SimFleet::new(1, SimClock::new());
    for index in 0..hosts {
        let host = fleet.add(&host_name(index), HostSize::Cpx51);
        let mut facts = host.facts();
        facts.totals =
            Resources { cpu: MilliCpu(64_000 * size), memory: Bytes::gib(256 * size), disk: Bytes::gib(2048 * size) };
        host.set_facts(facts);
        host.set_quiet(true);
    }
    fleet
}
