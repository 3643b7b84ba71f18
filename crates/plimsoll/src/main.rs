//! The `plimsoll` binary: one node of the control plane, and the command line that talks to it.

mod cli;
mod config;
mod daemon;
mod telemetry;

use clap::Parser as _;
use cli::args::{Cli, ClusterCommand, Command};
use std::process::ExitCode;

/// Placing is made of many small records that come and go on several threads: with the system's allocator a quarter of a busy leader's
/// time went there. Built without huge pages, which doubled an idle node's memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::failure(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let ended = runtime.block_on(async {
        match &cli.command {
            Command::Dev(args) => daemon::dev(args).await.map(|()| 0),
            Command::Init(args) => daemon::init(args, cli.output).await.map(|()| 0),
            Command::Join(args) => daemon::join(args, cli.output).await.map(|()| 0),
            Command::Cluster(ClusterCommand::Restore(args)) => daemon::restore(args, cli.output).await.map(|()| 0),
            Command::Server(args) => daemon::server(args).await.map(|()| 0),
            _ => cli::run(&cli).await,
        }
    });
    // A read from a terminal cannot be cancelled; it must not hold up the exit.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => cli::failure(&error),
    }
}
