//! The gateway from outside: what it does with connections that say nothing, and when the process runs out of files.

#![allow(clippy::unwrap_used)]

use plimsoll_engine::{ClusterSecret, Engine, EngineOptions};
use plimsoll_gateway::{Error, Options, serve};
use plimsoll_testkit::sim::{SimClock, SimCluster, SimFleet};
use plimsoll_types::NodeId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Builder,
    sync::watch,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// One test at a time: one of them takes the files away from the whole process.
static ALONE: Mutex<()> = Mutex::new(());
/// What the gateway promises; a connection that is cut this late was cut for that reason.
const LOGIN: Duration = Duration::from_secs(30);
/// Longer than anything here takes; a test that reaches it has failed.
const LONG: Duration = Duration::from_secs(20);

/// Runs a test while no other one runs: its runtime needs files of its own, so it is made inside the lock as well.
fn alone(paused: bool, test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap().block_on(test);
}

/// A gateway in front of a cluster without sandboxes.
async fn gateway() -> (SocketAddr, CancellationToken, JoinHandle<Result<(), Error>>) {
    let (clock, cluster) = (SimClock::new(), SimCluster::new(1, 7));
    let (fleet, ledger) = (SimFleet::new(7, clock), cluster.ledger(NodeId(1)));
    let options = EngineOptions::new(ClusterSecret::new([42; 32]));
    let (_, provider) = Engine::new(options, ledger.clone(), fleet.dialer(&ledger), Arc::new(clock));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let options = Options { host_key_seed: [7; 32], provider };
    (address, shutdown.clone(), tokio::spawn(serve(options, listener, shutdown)))
}

/// Reads the server's first line.
async fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_gives_its_place_back() {
    alone(true, silence());
}

async fn silence() {
    let (address, shutdown, served) = gateway().await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(greeting(&mut silent).await.starts_with("SSH-2.0-"));
    let greeted = Instant::now();
    // Time passes by itself once everybody waits.
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let waited = greeted.elapsed();
    assert!(waited <= LOGIN + Duration::from_secs(1), "it was only closed after {waited:?}");
    let mut next = TcpStream::connect(address).await.unwrap();
    assert!(greeting(&mut next).await.starts_with("SSH-2.0-"));
    shutdown.cancel();
    served.await.unwrap().unwrap();
}

/// Counts what is logged as an error.
struct Errors(watch::Sender<usize>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("plimsoll_gateway")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.send_modify(|count| *count += 1);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_shortage_of_files_passes() {
    alone(false, shortage());
}

async fn shortage() {
    let errors = watch::Sender::new(0);
    let mut seen = errors.subscribe();
    tracing::subscriber::set_global_default(Errors(errors)).unwrap();
    let (address, shutdown, served) = gateway().await;
    let socket = TcpSocket::new_v4().unwrap();

    // Every file that is opened from here on would have a number beyond the limit.
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1), ..usual }).unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let noticed = tokio::time::timeout(LONG, seen.wait_for(|count| *count >= 2)).await.is_ok();
    setrlimit(Resource::Nofile, usual).unwrap();

    assert!(noticed, "nothing was said of the shortage");
    assert!(!served.is_finished(), "the gateway ended");
    let greeted = tokio::time::timeout(LONG, greeting(&mut client)).await;
    assert!(greeted.is_ok_and(|line| line.starts_with("SSH-2.0-")), "who waited was not served");
    shutdown.cancel();
    served.await.unwrap().unwrap();
}
