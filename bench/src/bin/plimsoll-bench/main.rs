//! `plimsoll-bench`: what Plimsoll costs and what it is worth, each experiment beside what a user would pick instead, in the same run on the
//! same machine. It loads only what it starts itself, on loopback and in the lab.

mod create;
mod etcd;
mod failover;
mod load;
mod migrate;
mod node;
mod nodes;
mod place;
mod report;
mod stage;
mod wire;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

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
    /// All of them, one after the other, as they are by default.
    All,
    /// A node with simulated hosts; the experiments start them.
    #[command(hide = true)]
    Node(node::NodeArgs),
}

async fn run(cli: &Cli) -> Result<()> {
    let common = &cli.common;
    let report = match &cli.experiment {
        Experiment::Node(args) => return node::run(args).await,
        Experiment::All => {
            for name in ["place", "failover", "create", "migrate"] {
                let one = Cli::try_parse_from(["plimsoll-bench", name])?;
                Box::pin(run(&Cli { common: common.clone(), experiment: one.experiment })).await?;
            }
            return Ok(());
        }
        Experiment::Place(args) => place::run(args, common).await,
        Experiment::Failover(args) => failover::run(args, common).await,
        Experiment::Create(args) => create::run(args, common).await,
        Experiment::Migrate(args) => migrate::run(args, common).await,
    };
    report?.publish(&common.results)
}

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
