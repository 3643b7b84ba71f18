//! `make demo`: three real hosts, three nodes, a dozen sandboxes, a killed leader, a drained host and one cut off; every claim is checked as it is shown.

#![allow(clippy::print_stdout)] // it is a show

mod acts;
mod outlive;
mod stage;

use anyhow::Result;
use plimsoll_testkit::lab::Lab;
use stage::Stage;
use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    if let Err(why) = Lab::supported() {
        println!("The demonstration needs Linux, root and a few Debian packages: {why}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let logs = std::env::temp_dir().join(format!("plimsoll-demo-{}", std::process::id()));
    match runtime.block_on(interruptible(logs.clone())) {
        Ok(()) => {
            let _ = std::fs::remove_dir_all(&logs);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nThe demonstration failed: {error:#}\nLogs are in {}", logs.display());
            ExitCode::FAILURE
        }
    }
}

/// Plays it; an interrupt ends it early and cleans up as well.
async fn interruptible(logs: PathBuf) -> Result<()> {
    tokio::select! {
        played = play(logs) => played,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

async fn play(logs: PathBuf) -> Result<()> {
    let mut stage = Stage::build(logs).await?;
    acts::hosts(&stage).await?;
    let dozen = acts::a_dozen_sandboxes(&stage).await?;
    acts::files_and_commands(&stage, &dozen).await?;
    acts::more_than_fits(&stage).await?;
    acts::metrics(&stage).await?;
    acts::the_leader_dies(&mut stage).await?;
    outlive::paused_here_resumed_there(&stage, &dozen[0]).await?;
    outlive::moved_while_it_runs(&stage, &dozen[1]).await?;
    outlive::a_host_is_drained(&stage).await?;
    outlive::a_host_is_cut_off(&stage).await?;
    acts::everything_goes(&stage).await?;
    stage.strike().await
}
