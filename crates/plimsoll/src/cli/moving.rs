//! `plimsoll pause`, `resume`, `freeze`, `thaw`, `migrate` and `snapshot`: sandboxes that outlive their containers and hosts.

use super::{args::Output, drain, lasting, print, sandboxes, snapshots};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use plimsoll_client::{
    Accepted, Client, Error, Wait,
    wire::{Moved, Operation, OperationState, Paused, Problem, ResumeSandbox, Sandbox, WorkKind},
};
use plimsoll_types::{Code, HostName, SandboxId};
use std::time::Duration;

/// How often an operation is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(300);

/// Commands about sandboxes that outlive their containers and hosts.
#[derive(Debug, Subcommand)]
pub enum MovingCommand {
    /// Put a sandbox away: its files are kept in a snapshot, its CPU, memory and place are freed.
    #[command(
        after_help = "`plimsoll resume` brings it back by the same id, on any host. Files stay; processes start anew.\n\
        To keep processes and memory and stop only for a while, use `plimsoll freeze`."
    )]
    Pause {
        /// Which.
        sandbox: SandboxId,
        /// Answer at once with the operation instead of waiting until it is paused.
        #[arg(long)]
        no_wait: bool,
    },
    /// Bring a paused sandbox back, by the same id, on any host.
    Resume(ResumeArgs),
    /// Hold a sandbox still in memory, within milliseconds; it keeps its place on the host.
    Freeze {
        /// Which.
        sandbox: SandboxId,
    },
    /// Let a frozen sandbox go on.
    Thaw {
        /// Which.
        sandbox: SandboxId,
    },
    /// Move a running sandbox to another host; prints how long it was down and what was sent and fetched.
    #[command(
        after_help = "Files stay; processes start anew on the other host. Whatever fails before the switch leaves it running where it was."
    )]
    Migrate {
        /// Which.
        sandbox: SandboxId,
        /// To which host, for operators [default: the one with the most room].
        #[arg(long, value_name = "HOST")]
        to: Option<HostName>,
        /// Answer at once with the operation instead of waiting until it runs there.
        #[arg(long)]
        no_wait: bool,
    },
    /// Snapshots: what sandboxes can start from.
    #[command(subcommand)]
    Snapshot(snapshots::SnapshotCommand),
    /// Even out how full hosts are, with the fewest moves.
    Rebalance(drain::RebalanceArgs),
}

/// `plimsoll resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Which.
    pub sandbox: SandboxId,
    /// On which host, for operators [default: the one that fits best, those that hold its layers first].
    #[arg(long, value_name = "HOST")]
    pub to: Option<HostName>,
    /// How long it lives from now, such as 2h; `never` to keep it [default: as before].
    #[arg(long)]
    pub lifetime: Option<String>,
    /// Answer at once instead of waiting until it runs.
    #[arg(long)]
    pub no_wait: bool,
}

/// Runs one of them.
pub async fn run(client: &Client, output: Output, command: &MovingCommand) -> Result<()> {
    match command {
        MovingCommand::Pause { sandbox, no_wait } => pause(client, output, *sandbox, *no_wait).await,
        MovingCommand::Resume(args) => resume(client, output, args).await,
        MovingCommand::Freeze { sandbox } => print::result(output, &client.freeze(*sandbox).await?, still),
        MovingCommand::Thaw { sandbox } => print::result(output, &client.thaw(*sandbox).await?, still),
        MovingCommand::Migrate { sandbox, to, no_wait } => {
            migrate(client, output, *sandbox, to.as_ref(), *no_wait).await
        }
        MovingCommand::Snapshot(command) => snapshots::run(client, output, command).await,
        MovingCommand::Rebalance(args) => drain::rebalance(client, output, args).await,
    }
}

async fn pause(client: &Client, output: Output, id: SandboxId, no_wait: bool) -> Result<()> {
    let paused = match client.pause(id, Wait::No).await? {
        Accepted::Done(paused) => paused,
        Accepted::UnderWay(operation) if no_wait => return print::result(output, &*operation, accepted),
        Accepted::UnderWay(operation) => {
            ended(client, *operation, &format!("pausing {id}")).await?;
            let sandbox = client.sandbox(id).await?;
            Paused { snapshot_id: sandbox.base, sandbox }
        }
    };
    print::result(output, &paused, |paused| {
        let from = paused.snapshot_id.map(|snapshot| format!("; its files are in {snapshot}")).unwrap_or_default();
        format!("{id}  {}{from}", paused.sandbox.phase)
    })
}

async fn resume(client: &Client, output: Output, args: &ResumeArgs) -> Result<()> {
    let lifetime = args.lifetime.as_deref().map(super::parse::lifetime).transpose().context("--lifetime")?;
    let how = ResumeSandbox {
        host: args.to.as_ref().map(ToString::to_string),
        lifetime_s: lifetime.map(|lifetime| lifetime.map_or(0, |lifetime| (lifetime.0 / 1000).max(1))),
    };
    let spinner = print::spinner(format!("resuming {}", args.sandbox));
    let resumed = client.resume(args.sandbox, &how, sandboxes::wait(args.no_wait)).await;
    spinner.finish_and_clear();
    print::result(output, &resumed?, sandboxes::provided)
}

async fn migrate(client: &Client, output: Output, id: SandboxId, to: Option<&HostName>, no_wait: bool) -> Result<()> {
    let sandbox = match client.migrate(id, to.map(HostName::as_str), Wait::No).await? {
        Accepted::Done(sandbox) => sandbox,
        Accepted::UnderWay(operation) if no_wait => return print::result(output, &*operation, accepted),
        Accepted::UnderWay(operation) => {
            let to = operation.to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
            ended(client, *operation, &format!("moving {id}{to}")).await?;
            client.sandbox(id).await?
        }
    };
    print::result(output, &sandbox, |sandbox| {
        sandbox.moved.as_ref().map_or_else(|| still(sandbox), |moved| format!("{id}  {}", moved_text(moved)))
    })
}

/// `moved from a to b: down 1s 200ms, 3.1 MiB sent`.
pub(super) fn moved_text(moved: &Moved) -> String {
    let downtime = lasting::shown(Duration::from_millis(moved.downtime_ms));
    format!("moved from {} to {}: {downtime} down, {} sent and fetched", moved.from, moved.to, moved.bytes)
}

fn still(sandbox: &Sandbox) -> String {
    let frozen = sandbox.frozen_since.map(|since| format!(", frozen since {since}")).unwrap_or_default();
    format!("{}  {}{frozen}", sandbox.id, sandbox.phase)
}

/// What is printed of an operation that is not waited for.
pub(super) fn accepted(operation: &Operation) -> String {
    format!(
        "{}  {} of {} is under way; `plimsoll inspect {2}` shows it",
        operation.id, operation.kind, operation.sandbox
    )
}

/// Waits until an operation is done, showing how far it is. It is looked at instead of waited for in one request: however long it takes,
/// nothing between here and the node cuts it off.
///
/// # Errors
/// Why it was given up, with its code.
pub(super) async fn ended(client: &Client, mut operation: Operation, what: &str) -> Result<Operation> {
    let spinner = print::spinner(what.to_owned());
    while operation.state == OperationState::Running {
        let stage = operation.stage.map(|stage| format!(" ({stage})")).unwrap_or_default();
        spinner.set_message(format!("{what}{stage}"));
        tokio::time::sleep(LOOK).await;
        operation = match client.operation(operation.id).await {
            Ok(now) => now,
            // A node that restarts or loses its leader for a moment is no reason to stop watching.
            Err(Error::Unreachable(_) | Error::Interrupted { .. }) => operation,
            Err(error) => {
                spinner.finish_and_clear();
                return Err(error.into());
            }
        };
    }
    spinner.finish_and_clear();
    match operation.state {
        OperationState::Running | OperationState::Done => Ok(operation),
        OperationState::GivenUp => Err(given_up(&operation).into()),
    }
}

/// Reasons begin with their code where there is one.
fn given_up(operation: &Operation) -> Error {
    let reason = operation.reason.as_deref().unwrap_or_default();
    let coded = reason.split_once(": ").and_then(|(code, rest)| Some((code.parse::<Code>().ok()?, rest)));
    let otherwise = match operation.kind {
        // The sandbox ended or lost its host: nothing failed.
        _ if reason.starts_with("ended: ") => Code::Conflict,
        WorkKind::Snapshot | WorkKind::Checkpoint | WorkKind::Pause => Code::SnapshotFailed,
        WorkKind::Migrate => Code::MoveFailed,
    };
    let (code, why) = coded.unwrap_or((otherwise, reason));
    Problem::new(code, format!("{} of {} was given up: {why}", operation.kind, operation.sandbox)).into()
}
