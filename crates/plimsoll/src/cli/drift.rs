//! `plimsoll cluster drift`, `hold` and `resume`: what hosts hold, compared with what state says, and what is done about it.

use super::{args::Output, parse, print};
use anyhow::{Result, bail};
use clap::Args;
use plimsoll_client::{
    Client,
    wire::{Drift, DriftLine, DriftSettled, DriftVerdict, SettleDrift},
};
use serde_json::json;

/// `plimsoll cluster drift`
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a container, or a sandbox that should have one:
  adopt    a container that state does not know, or knows an earlier generation of. --adopt makes it the sandbox's present one. Of a
           sandbox that state does not know, image, command, environment, limits, ports, session and tenant are read from the container;
           its deadline, policies, constraints, labels, secrets and disk size are not there, and become the defaults
  orphan   a container that nothing needs. --remove-orphans removes it
  lost     state has it on a host, and no host has a container of it. --mark-lost counts it as failed, which frees its session and room
  unknown  hosts that do not answer may have it
  same     as state says

Without --apply nothing changes. What is done is done in this order: lost, adopt, orphans; doing it again does what is left.")]
pub struct DriftArgs {
    /// Do what the other options name. The cluster must be on hold.
    #[arg(long)]
    pub apply: bool,
    /// Take over what state does not know, or knows an earlier generation of.
    #[arg(long, requires = "apply")]
    pub adopt: bool,
    /// Remove containers that nothing needs.
    #[arg(long, requires = "apply")]
    pub remove_orphans: bool,
    /// Count sandboxes that are nowhere as failed.
    #[arg(long, requires = "apply")]
    pub mark_lost: bool,
    /// Also list what is as state says.
    #[arg(long)]
    pub all: bool,
}

/// Compares, and settles what is named.
pub async fn run(client: &Client, output: Output, args: &DriftArgs) -> Result<()> {
    let wish = SettleDrift { adopt: args.adopt, remove_orphans: args.remove_orphans, mark_lost: args.mark_lost };
    if args.apply && wish == SettleDrift::default() {
        bail!(parse::Usage("--apply does nothing by itself: add --adopt, --remove-orphans or --mark-lost".into()));
    }
    let spinner = print::spinner("looking at every host".into());
    let found = if args.apply { client.settle_drift(wish).await } else { client.drift().await };
    spinner.finish_and_clear();
    let found = found?;
    print::result(output, &found, |found| described(found, args.all))?;
    let refused = found.settled.iter().filter(|it| it.refused.is_some()).count();
    if refused > 0 {
        bail!("{refused} of {} could not be settled", found.settled.len());
    }
    Ok(())
}

/// Puts the cluster on hold.
pub async fn hold(client: &Client, output: Output, reason: &str) -> Result<()> {
    client.hold_cluster(reason).await?;
    print::result(output, &json!({ "hold": reason }), |_| {
        "on hold: nothing is started, moved or removed until `plimsoll cluster resume`".to_owned()
    })
}

/// Ends a hold.
pub async fn resume(client: &Client, output: Output, force: bool) -> Result<()> {
    let spinner = print::spinner("looking at every host".into());
    let resumed = client.resume_cluster(force).await;
    spinner.finish_and_clear();
    resumed?;
    print::result(output, &json!({ "resumed": true }), |_| {
        "resumed: hosts are made as state says; no sandbox expires within 30 minutes".to_owned()
    })
}

fn described(found: &Drift, all: bool) -> String {
    let mut parts = Vec::new();
    if !found.settled.is_empty() {
        parts.push(print::table(&["DONE", "SANDBOX", "HOST", "RESULT"], found.settled.iter().map(settled)));
    }
    let shown = || found.lines.iter().filter(|line| all || line.verdict != DriftVerdict::Same || !line.why.is_empty());
    if shown().next().is_some() {
        let header = ["VERDICT", "SANDBOX", "SESSION", "HOST", "GEN", "CONTAINER", "STATE SAYS", "WHY"];
        parts.push(print::table(&header, shown().map(row)));
    }
    for silent in &found.silent {
        parts.push(format!("host {} does not answer: {}", silent.host, silent.why));
    }
    parts.push(sum(found));
    parts.join("\n\n")
}

fn sum(found: &Drift) -> String {
    let count = |verdict: DriftVerdict| found.counts.get(verdict.as_str()).copied().unwrap_or_default();
    let counts: Vec<String> = DriftVerdict::ALL.map(|it| format!("{} {}", count(it), it.as_str())).into();
    let mut text = format!("{} hosts looked at: {}", found.hosts, counts.join(", "));
    match found.snapshots_unrecorded {
        Some(count) if count > 0 => {
            text.push_str(&format!(
                "\n{count} snapshots in the registry have no record; after a hold they are deleted"
            ));
        }
        Some(_) | None => {}
    }
    if let Some(hold) = &found.hold {
        text.push_str(&format!("\non hold since {} ({})", hold.since, hold.reason));
        let open = [DriftVerdict::Adopt, DriftVerdict::Lost, DriftVerdict::Unknown].map(count).iter().sum::<u64>();
        if open == 0 && found.silent.is_empty() {
            text.push_str("; nothing is left to settle: plimsoll cluster resume");
        }
    }
    text
}

fn row(line: &DriftLine) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let short = |id: &String| id.chars().take(12).collect::<String>();
    let container = line.container.as_ref().map(|id| match &line.container_state {
        Some(state) => format!("{} {state}", short(id)),
        None => short(id),
    });
    vec![
        line.verdict.as_str().to_owned(),
        line.sandbox.to_string(),
        text(line.session.as_ref().map(ToString::to_string)),
        text(line.host.as_ref().map(ToString::to_string)),
        line.generation.to_string(),
        text(container),
        text(line.phase.map(|phase| phase.to_string())),
        line.why.clone(),
    ]
}

fn settled(it: &DriftSettled) -> Vec<String> {
    let done = match it.verdict {
        DriftVerdict::Adopt => "taken over",
        DriftVerdict::Orphan => "removed",
        DriftVerdict::Lost => "counts as failed",
        DriftVerdict::Unknown | DriftVerdict::Same => "left as it is",
    };
    let host = it.host.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let result = it.refused.as_ref().map_or_else(|| done.to_owned(), |why| format!("not done: {why}"));
    vec![it.verdict.as_str().to_owned(), it.sandbox.to_string(), host, result]
}
