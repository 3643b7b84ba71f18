//! `plimsoll-bench`: what Plimsoll costs and what it is worth, each experiment beside what a user would pick instead, in the same run on the
//! same machine. It loads only what it starts itself, on loopback and in the lab.

mod create;
mod etcd;
mod failover;
mod fleet;
mod full;
mod load;
mod memory;
mod migrate;
mod mirror;
mod node;
mod nodes;
mod place;
mod proc;
mod report;
mod shore;
mod stage;
mod wire;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use std::{io::Write as _, path::PathBuf, process::ExitCode};

/// Measures Plimsoll beside what you would pick instead, in the same run: tables, JSON and SVG.
///
/// Nothing outside this machine is touched. Real hosts are the lab's (Linux, root, docker.io, docker-registry); etcd is Debian's
/// (apt-get install etcd-server). Build it with the nodes that it runs:
///
///   cargo build --profile bench-run -p plimsoll -p plimsoll-bench --bins
///
/// and leave the machine alone meanwhile: the load that it had before is in the results. Decisions per second, without anything
/// around them, are `cargo bench -p plimsoll-bench`.
#[derive(Debug, Parser)]
#[command(name = "plimsoll-bench", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    experiment: Experiment,
}

/// What every experiment is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Where results go: <experiment>.md, .json and .svg.
    #[arg(long, global = true, default_value = "bench/results")]
    results: PathBuf,
    /// A folder on the disk to measure; what is written there is removed.
    #[arg(long, global = true, default_value = "/tmp")]
    scratch: PathBuf,
}

impl Common {
    /// A folder that goes when it is dropped.
    fn scratch(&self, name: &str) -> Result<Scratch> {
        let path = self.scratch.join(format!("plimsoll-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }
}

/// A folder of an experiment's.
struct Scratch(PathBuf);

impl Scratch {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// Placements over HTTP against 1 and 3 nodes with simulated hosts; etcd's puts and fdatasync beside it (about five minutes).
    Place(place::PlaceArgs),
    /// SIGKILL for the leader under load, again and again; etcd beside it (about five minutes).
    Failover(failover::FailoverArgs),
    /// From request to running on a real host; the bare Docker API and Swarm beside it (about five minutes).
    Create(create::CreateArgs),
    /// From one real host to another with 1 and 100 MB changed; the bare Docker commands beside it (about five minutes).
    Migrate(migrate::MigrateArgs),
    /// Hosts simulated on the wire, polled by a real node at the real interval: its CPU, memory and lateness (about six minutes).
    Fleet(fleet::FleetArgs),
    /// Placements until simulated hosts are full and beyond: how fast, and with what answer, refusals come (half a minute).
    Full(full::FullArgs),
    /// Memory, copies of the state and restarts of a node with many live sandboxes on simulated hosts (two minutes; 100,000 take more).
    Memory(memory::MemoryArgs),
    /// All of them, one after the other (about three quarters of an hour); one that fails does not keep the others from being run.
    All(AllArgs),
    /// A node with simulated hosts; the experiments start them.
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// Hosts that are simulated on the wire; the experiments start them.
    #[command(hide = true)]
    Shore(shore::ShoreArgs),
}

/// How all are run.
#[derive(Clone, Copy, Debug, clap::Args)]
struct AllArgs {
    /// More clients, hosts, sandboxes, rounds and megabytes (about two hours).
    #[arg(long)]
    full: bool,
}

/// Every experiment in three quarters of an hour.
const QUICK: &[&str] = &[
    "place --repeats 5 --seconds 2 --clients 1,16,64,256,1000",
    "place --repeats 3 --seconds 2 --hosts 10,10000 --clients 64 --rates 1000",
    "full",
    "failover",
    "fleet",
    "memory --sandboxes 10000,100000",
    "create --singles 20 --bursts 2",
    "migrate",
];
/// Every experiment as large as it is meant.
const FULL: &[&str] = &[
    "place --clients 1,16,64,256,1000",
    "place --creates 0 --clients 1,16,64,256,1000",
    "place --hosts 10,100,1000,10000 --clients 1,64 --rates 1000",
    "full --hosts 100 --clients 256",
    "failover",
    "fleet --hosts 10,100,1000,2000",
    "memory --sandboxes 10000,100000 --hosts 500",
    "create",
    "migrate --sizes 1,100,1024",
];

async fn all(args: &AllArgs, common: &Common) -> Result<()> {
    let mut failed = Vec::new();
    for line in if args.full { FULL } else { QUICK } {
        let words = std::iter::once("plimsoll-bench").chain(line.split(' '));
        let experiment = Cli::try_parse_from(words)?.experiment;
        let _shown = writeln!(std::io::stderr(), "=== {line} ===");
        if let Err(error) = Box::pin(run(&Cli { common: common.clone(), experiment })).await {
            let _shown = writeln!(std::io::stderr(), "{line}: {error:#}");
            failed.push(*line);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}

async fn run(cli: &Cli) -> Result<()> {
    let common = &cli.common;
    let report = match &cli.experiment {
        Experiment::Node(args) => return node::run(args).await,
        Experiment::Shore(args) => return shore::run(args).await,
        Experiment::All(args) => return Box::pin(all(args, common)).await,
        Experiment::Place(args) => place::run(args, common).await,
        Experiment::Failover(args) => failover::run(args, common).await,
        Experiment::Create(args) => create::run(args, common).await,
        Experiment::Fleet(args) => fleet::run(args, common).await,
        Experiment::Full(args) => full::run(args, common).await,
        Experiment::Memory(args) => memory::run(args, common).await,
        Experiment::Migrate(args) => migrate::run(args, common).await,
    };
    report?.publish(&common.results)
}

/// As the plimsoll binary has it: the nodes of some experiments are processes of this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended =
        tokio::runtime::Runtime::new().context("cannot start threads").and_then(|runtime| runtime.block_on(run(&cli)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_all_is_a_command() {
        for line in QUICK.iter().chain(FULL) {
            let words = std::iter::once("plimsoll-bench").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
