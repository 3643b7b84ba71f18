//! `plimsoll host drain`, `host undrain` and `rebalance`: emptying hosts and evening them out.

use super::{args::Output, hosts, lasting, parse, print};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use plimsoll_client::{
    Client, Error,
    wire::{DrainHost, DrainStatus, Host, LeftBehind, Rebalance, RebalanceHosts},
};
use plimsoll_types::HostName;
use std::time::Duration;

/// How often a drain is looked at while it is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks in a row must find that nothing moves any more: between two moves there is a moment when nothing does.
const SETTLED: u32 = 5;

/// Commands that empty hosts.
#[derive(Debug, Subcommand)]
pub enum DrainCommand {
    /// Move everything off a host, running sandboxes too, and place nothing new there.
    #[command(
        after_help = "Waits until the host is empty and can be taken away, or until nothing more can move: then it lists what is left and why,\n\
        and exits with 1. The host stays drained until `plimsoll host undrain`."
    )]
    Drain(DrainArgs),
    /// Place on a drained host again.
    Undrain {
        /// Which.
        name: HostName,
    },
}

/// `plimsoll host drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Which.
    pub name: HostName,
    /// Most moves at once [default: the policy's drain_parallel].
    #[arg(long, value_name = "N")]
    pub parallel: Option<u32>,
    /// Begin moves for so long, such as 30m; what is left then stays [default: without end].
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<String>,
    /// Why, for whoever finds it drained.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Only show what would move where, and what could not.
    #[arg(long)]
    pub dry_run: bool,
    /// Answer at once instead of waiting until it is empty.
    #[arg(long)]
    pub no_wait: bool,
}

/// `plimsoll rebalance`
#[derive(Debug, Args)]
pub struct RebalanceArgs {
    /// Only show what would move.
    #[arg(long)]
    pub dry_run: bool,
    /// How far apart hosts may be, in thousandths of what may be reserved on them [default: 200].
    #[arg(long, value_name = "PERMILLE", value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub spread: Option<u32>,
}

/// Runs one of them.
pub async fn run(client: &Client, output: Output, command: &DrainCommand) -> Result<()> {
    match command {
        DrainCommand::Drain(args) => drain(client, output, args).await,
        DrainCommand::Undrain { name } => {
            print::result(output, &client.undrain_host(name.as_str()).await?, hosts::state)
        }
    }
}

async fn drain(client: &Client, output: Output, args: &DrainArgs) -> Result<()> {
    let deadline = args.deadline.as_deref().map(parse::duration).transpose().context("--deadline")?;
    let wish = DrainHost {
        parallel: args.parallel,
        deadline_s: deadline.map(lasting::whole_seconds),
        reason: args.reason.clone(),
        dry_run: args.dry_run,
    };
    let begun = client.drain_host(args.name.as_str(), &wish).await?;
    if args.dry_run || args.no_wait {
        return print::result(output, &begun, |status| described(status, args.dry_run));
    }
    let ended = watch(client, begun).await?;
    print::result(output, &ended, |status| described(status, false))?;
    match (ended.left.len(), ended.drain) {
        (0, _) => Ok(()),
        (_, None) => anyhow::bail!("{} was undrained meanwhile", args.name),
        (left, Some(_)) => anyhow::bail!("{left} of its sandboxes cannot move off {}; it stays drained", args.name),
    }
}

/// Shows a drain's progress until the host is empty or nothing more moves.
async fn watch(client: &Client, begun: DrainStatus) -> Result<DrainStatus> {
    let bar = print::count_bar(format!("draining {}", begun.host));
    let mut status = begun;
    let mut settled = 0;
    // Undrained by somebody else: there is nothing to wait for.
    while !status.empty && settled < SETTLED && status.drain.is_some() {
        bar.set_length(u64::from(status.moved).saturating_add(status.left.len() as u64));
        bar.set_position(status.moved.into());
        bar.set_message(format!("draining {}: {} on their way", status.host, status.moving));
        tokio::time::sleep(LOOK).await;
        status = match client.drain_status(status.host.as_str()).await {
            Ok(now) => now,
            // A node that restarts or loses its leader for a moment is no reason to stop watching.
            Err(Error::Unreachable(_) | Error::Interrupted { .. }) => status,
            Err(error) => {
                bar.finish_and_clear();
                return Err(error.into());
            }
        };
        settled = if status.settled { settled + 1 } else { 0 };
    }
    bar.finish_and_clear();
    Ok(status)
}

fn described(status: &DrainStatus, dry_run: bool) -> String {
    if status.empty {
        return format!("{} is empty; it can be taken away", status.host);
    }
    let row = |left: &LeftBehind| {
        let to = left.to.as_ref().map_or_else(|| "nowhere".to_owned(), ToString::to_string);
        vec![left.sandbox.to_string(), left.phase.to_string(), to, left.why.clone()]
    };
    let table = print::table(&["SANDBOX", "PHASE", "GOES TO", "WHY"], status.left.iter().map(row));
    let stuck = status.left.iter().filter(|left| left.to.is_none()).count();
    let head = if dry_run {
        format!("{} of {} sandboxes on {} could move now", status.left.len() - stuck, status.left.len(), status.host)
    } else {
        format!(
            "{} moved off {}, {} on their way, {} left",
            status.moved,
            status.host,
            status.moving,
            status.left.len()
        )
    };
    format!("{head}\n{table}")
}

/// `, draining (reason)`, for a host's state.
pub(super) fn note(host: &Host) -> String {
    let Some(drain) = &host.drain else { return String::new() };
    let reason = if drain.reason.is_empty() { String::new() } else { format!(" ({})", drain.reason) };
    let what = if host.sandboxes == 0 { "drained" } else { "draining" };
    format!(", {what}{reason}")
}

/// `plimsoll rebalance`
pub async fn rebalance(client: &Client, output: Output, args: &RebalanceArgs) -> Result<()> {
    let spinner = print::spinner("looking for moves".into());
    let wanted = RebalanceHosts { dry_run: args.dry_run, spread_permille: args.spread };
    let answer = client.rebalance(&wanted).await;
    spinner.finish_and_clear();
    let answer = answer?;
    print::result(output, &answer, moves)?;
    let refused = answer.moves.iter().filter(|item| !item.begun).count();
    if refused > 0 && !args.dry_run {
        anyhow::bail!("{refused} of {} moves were not begun", answer.moves.len());
    }
    Ok(())
}

fn moves(answer: &Rebalance) -> String {
    if answer.moves.is_empty() {
        return "hosts are even enough; nothing to move".to_owned();
    }
    let rows = answer.moves.iter().map(|item| {
        let state = match (item.begun, answer.dry_run) {
            (true, _) => "begun",
            (false, true) => "proposed",
            (false, false) => "refused",
        };
        vec![
            item.sandbox.to_string(),
            item.from.to_string(),
            item.to.to_string(),
            state.to_owned(),
            item.reason.clone(),
        ]
    });
    print::table(&["SANDBOX", "FROM", "TO", "STATE", "WHY"], rows)
}
