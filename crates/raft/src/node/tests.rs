//! Nodes on loopback, whole: disk, TLS and all.

use super::Node;
use crate::options::{Options, Timers};
use plimsoll_lifecycle::ports::{Ledger, LedgerError, Membership, ledger};
use plimsoll_state::{
    Command, Policy,
    command::{ForgetIdempotency, InitCluster},
};
use plimsoll_testkit::ports;
use plimsoll_types::Timestamp;
use std::{net::SocketAddr, path::Path, time::Duration};

mod cluster;
mod joining;
mod restoring;
mod single;

/// How long a condition may take to come true; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition.
async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "timed out waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Shorter than the defaults, so that tests do not wait for elections; long enough for a loaded machine.
fn timers() -> Timers {
    Timers {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
        ..Timers::default()
    }
}

fn options(dir: &Path) -> Options {
    let address = SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap()));
    let mut options = Options::new(dir, address, address.to_string(), format!("http://{address}/"));
    options.timers = timers();
    options
}

fn command(number: u64) -> Command {
    Command::ForgetIdempotency(ForgetIdempotency { before: Timestamp(number) })
}

/// What gives a new cluster its identity; before it nobody can join.
fn founding(node: &Node) -> Command {
    let init = InitCluster { cluster: node.cluster(), policy: Policy::default(), at: Timestamp(1) };
    Command::InitCluster(init)
}

async fn leads(node: &Node) {
    wait_for("the node to lead", async || node.leader().is_self).await;
}

fn applied(node: &Node) -> u64 {
    ledger::read(node, |state| state.applied)
}

async fn propose(node: &Node, number: u64) -> Result<u64, LedgerError> {
    node.propose(command(number)).await.map(|applied| applied.index)
}
