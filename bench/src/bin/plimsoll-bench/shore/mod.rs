//! Simulated hosts on the wire: an SSH server for each on an address of its own in 127.0.0.0/8, behind it Docker's API over HTTP and the
//! measuring script's answer. A process of its own, so that its CPU and memory are not counted with the control plane's.
//!
//! It answers what the real driver asks while it polls and reconciles. Nothing is started here.

mod docker;
mod machine;
mod ssh;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use russh::{
    MethodKind, MethodSet,
    keys::{HashAlg, PrivateKey, ssh_key::private::Ed25519Keypair},
};
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};

/// More hosts than the addresses below hold; each takes one listening socket and one connection.
const MAX_HOSTS: u32 = 4096;
/// Nobody is forgotten for longer: a bench that died leaves no hosts behind.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What the simulated hosts are told.
#[derive(Clone, Debug, Args)]
pub struct ShoreArgs {
    /// How many.
    #[arg(long)]
    hosts: u32,
    /// Running sandboxes on each; they carry another cluster's label, so that they are measured and never touched.
    #[arg(long)]
    sandboxes: u32,
    /// The port of every host's SSH server.
    #[arg(long)]
    port: u16,
    /// Where counts can be asked for, on 127.0.0.1.
    #[arg(long)]
    counts: u16,
    /// Written once all of them listen: the fingerprint of their host key.
    #[arg(long)]
    fingerprint: PathBuf,
}

/// The address of a simulated host.
pub const fn address(index: u32) -> Ipv4Addr {
    let [_, _, high, low] = index.to_be_bytes();
    // 127.77.h.l; the lowest byte of each is unlike what anything else on the machine listens on.
    Ipv4Addr::new(127, 77, high, low)
}

/// Its name.
pub fn name(index: u32) -> String {
    format!("wire-{index}")
}

/// One simulated host.
#[derive(Debug)]
struct Host {
    index: u32,
    sandboxes: u32,
    counts: Arc<Counts>,
    last_poll: Mutex<Option<Instant>>,
}

/// What all hosts saw together since they were last asked.
#[derive(Debug)]
struct Counts {
    logins: AtomicU64,
    requests: AtomicU64,
    /// Between two polls of the same host, in microseconds.
    gaps: Mutex<Histogram<u64>>,
}

impl Host {
    /// The measuring script ran: once in every poll.
    fn polled(&self) {
        let mut last = self.last_poll.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(before) = last.replace(now) {
            let gap = u64::try_from((now - before).as_micros()).unwrap_or(u64::MAX);
            self.counts.gaps.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(gap);
        }
    }
}

/// Listens until it is killed, or until the longest time that a bench may take.
pub async fn run(args: &ShoreArgs) -> Result<()> {
    ensure!(args.hosts <= MAX_HOSTS, "at most {MAX_HOSTS} hosts fit the addresses");
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()));
    let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
    let config = Arc::new(russh::server::Config {
        keys: vec![key],
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: None,
        nodelay: true,
        ..russh::server::Config::default()
    });
    let counts = Arc::new(Counts {
        logins: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        gaps: Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3)?),
    });
    let mut tasks = JoinSet::new();
    let mut hosts = Vec::new();
    for index in 0..args.hosts {
        let place = SocketAddr::from((address(index), args.port));
        let listener = TcpListener::bind(place).await.with_context(|| format!("cannot listen on {place}"))?;
        let host = Arc::new(Host {
            index,
            sandboxes: args.sandboxes,
            counts: Arc::clone(&counts),
            last_poll: Mutex::new(None),
        });
        hosts.push(Arc::clone(&host));
        tasks.spawn(ssh::serve(listener, Arc::clone(&config), host));
    }
    let asked = TcpListener::bind((Ipv4Addr::LOCALHOST, args.counts)).await.context("cannot listen for counts")?;
    std::fs::write(&args.fingerprint, fingerprint)?;
    let telling = async {
        loop {
            let (mut stream, _) = asked.accept().await.context("nobody can ask any more")?;
            // Who asks and goes away misses it.
            let _ended = stream.write_all(tell(&counts, &hosts).as_bytes()).await;
        }
    };
    tokio::select! {
        ended = telling => ended,
        // A listener that fails is a host that is away: the others go on.
        () = async { while tasks.join_next().await.is_some() {} } => Ok(()),
        () = tokio::time::sleep(LIFETIME) => Ok(()),
    }
}

/// The counts as JSON; counting begins anew. A host that was not polled for a while has a gap that is still open: it counts as it is.
fn tell(counts: &Counts, hosts: &[Arc<Host>]) -> String {
    let open = hosts.iter().filter_map(|host| *host.last_poll.lock().unwrap_or_else(PoisonError::into_inner));
    let oldest = open.map(|last| last.elapsed()).max().unwrap_or_default();
    let mut gaps = counts.gaps.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile| gaps.value_at_quantile(quantile);
    let said = json!({
        "logins": counts.logins.load(Ordering::Relaxed),
        "requests": counts.requests.swap(0, Ordering::Relaxed),
        "polls": gaps.len(),
        "gap_p50_us": at(0.5),
        "gap_p99_us": at(0.99),
        "gap_max_us": gaps.max(),
        "open_gap_us": u64::try_from(oldest.as_micros()).unwrap_or(u64::MAX),
    });
    gaps.reset();
    said.to_string()
}
