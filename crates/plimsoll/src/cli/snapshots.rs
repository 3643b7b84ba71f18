//! `plimsoll snapshot …`

use super::{
    args::Output,
    moving::{accepted, ended},
    print, sandboxes,
};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use plimsoll_client::{Accepted, Client, SnapshotFilter, Wait, wire::Snapshot};
use plimsoll_types::{SandboxId, SnapshotName};
use serde_json::json;

/// Snapshots in one page of a list: the most the API gives.
const PAGE: u32 = 1000;

/// `plimsoll snapshot …`
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot of a running sandbox, which goes on.
    #[command(
        after_help = "It holds the root filesystem and /workspace as they stand at one moment, never secret environment. Start from it with\n\
        `plimsoll create --snapshot NAME`. It is kept until `plimsoll snapshot rm`, whatever becomes of the sandbox."
    )]
    Create {
        /// Of which sandbox.
        sandbox: SandboxId,
        /// What to call it; names are unique.
        #[arg(long)]
        name: Option<SnapshotName>,
        /// Answer at once with the operation instead of waiting until it is taken.
        #[arg(long)]
        no_wait: bool,
    },
    /// List snapshots, checkpoints and pauses included.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those taken of this sandbox.
        #[arg(long)]
        sandbox: Option<SandboxId>,
    },
    /// Show everything about one snapshot.
    Inspect {
        /// Which: its id or name.
        snapshot: String,
    },
    /// Delete snapshots that no sandbox needs to come back.
    Rm {
        /// Which: ids or names.
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
}

/// Runs one of the snapshot commands.
pub async fn run(client: &Client, output: Output, command: &SnapshotCommand) -> Result<()> {
    match command {
        SnapshotCommand::Create { sandbox, name, no_wait } => {
            create(client, output, *sandbox, name.as_ref(), *no_wait).await
        }
        SnapshotCommand::Ls { sandbox } => list(client, output, *sandbox).await,
        SnapshotCommand::Inspect { snapshot } => print::result(output, &client.snapshot(snapshot).await?, described),
        SnapshotCommand::Rm { snapshots } => remove(client, output, snapshots).await,
    }
}

async fn create(
    client: &Client,
    output: Output,
    sandbox: SandboxId,
    name: Option<&SnapshotName>,
    no_wait: bool,
) -> Result<()> {
    let taken = match client.take_snapshot(sandbox, name, Wait::No).await? {
        Accepted::Done(snapshot) => snapshot,
        Accepted::UnderWay(operation) if no_wait => return print::result(output, &*operation, accepted),
        Accepted::UnderWay(operation) => {
            let operation = ended(client, *operation, &format!("taking a snapshot of {sandbox}")).await?;
            let id = operation.snapshot.context("the operation names no snapshot; see `plimsoll snapshot ls`")?;
            client.snapshot(&id.to_string()).await?
        }
    };
    print::result(output, &taken, |taken| {
        let name = taken.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let size = taken.size.map(|size| format!(", {size}")).unwrap_or_default();
        format!("{}{name}  {}{size}", taken.id, taken.phase)
    })
}

async fn list(client: &Client, output: Output, sandbox: Option<SandboxId>) -> Result<()> {
    let mut filter = SnapshotFilter { sandbox, limit: Some(PAGE), after: None };
    let mut all = Vec::new();
    loop {
        let page = client.snapshots(&filter).await?;
        all.extend(page.items);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    print::result(output, &all, |all| {
        let now = sandboxes::now();
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let rows = all.iter().map(|snapshot| {
            vec![
                snapshot.id.to_string(),
                known(snapshot.name.as_ref().map(ToString::to_string)),
                snapshot.kind.to_string(),
                snapshot.phase.to_string(),
                snapshot.sandbox.to_string(),
                known(snapshot.size.map(|size| size.to_string())),
                sandboxes::ago(snapshot.taken_at.unwrap_or(snapshot.created_at), now),
                if snapshot.used_by.is_some() { "yes" } else { "" }.to_owned(),
            ]
        });
        print::table(&["SNAPSHOT", "NAME", "KIND", "PHASE", "OF", "SIZE", "AGE", "IN USE"], rows)
    })
}

fn described(snapshot: &Snapshot) -> String {
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    print::facts(&[
        ("snapshot", snapshot.id.to_string()),
        ("name", text(snapshot.name.as_ref())),
        ("tenant", snapshot.tenant.to_string()),
        ("kind", snapshot.kind.to_string()),
        ("phase", snapshot.phase.to_string()),
        ("of", format!("{} (generation {})", snapshot.sandbox, snapshot.generation)),
        ("image", snapshot.image.to_string()),
        ("asked for", snapshot.created_at.to_string()),
        ("taken", text(snapshot.taken_at)),
        ("on", text(snapshot.host.as_ref())),
        ("repository", text(snapshot.repository.as_ref())),
        ("digest", text(snapshot.digest)),
        ("size", text(snapshot.size)),
        ("sent", text(snapshot.sent)),
        ("layers", text(snapshot.layers)),
        ("architecture", text(snapshot.architecture.as_ref())),
        ("needed by", text(snapshot.used_by)),
    ])
}

async fn remove(client: &Client, output: Output, snapshots: &[String]) -> Result<()> {
    let mut removed = Vec::new();
    let mut failed = None;
    for snapshot in snapshots {
        match client.delete_snapshot(snapshot).await {
            Ok(()) => removed.push(snapshot),
            Err(error) => failed = failed.or(Some(anyhow::Error::from(error).context(snapshot.clone()))),
        }
    }
    print::result(output, &json!({ "removed": removed }), |_| {
        removed.iter().map(|snapshot| snapshot.as_str()).collect::<Vec<_>>().join("\n")
    })?;
    failed.map_or(Ok(()), Err)
}
