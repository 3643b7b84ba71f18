//! `plimsoll cluster backup`: a copy of the cluster's state as a file that is whole or not there.

use super::{args::Output, context, parse, print};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures_util::StreamExt as _;
use plimsoll_client::{Client, wire::Time};
use plimsoll_state::backup::{self, Header};
use plimsoll_types::Bytes;
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// `plimsoll cluster backup`
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds all that the cluster knows: hosts, sandboxes, snapshots' records, policy, hashes of API keys, events. It is made with 0600.
It does not hold:
  - the cluster's secret, which sandboxes' secret environments are sealed with. It is in the file `identity` of every node's data folder
    and never changes: copy that file once (from /var/lib/plimsoll/identity) and keep it apart from the backups, guarded like a password
  - what is on the hosts and in the registry: containers, workspaces, snapshots' images
  - API keys themselves: keep yours, or restore with --new-key

  plimsoll cluster backup /backups/plimsoll-$(date +%F).backup
  plimsoll cluster backup --check /backups/plimsoll-2026-01-31.backup
  plimsoll cluster backup - | age -r age1… > cluster.backup.age")]
pub struct BackupArgs {
    /// Where to write it; `-` for standard output.
    pub file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Write nothing: compare FILE's checksum and show what it holds. Needs no cluster.
    #[arg(long, conflicts_with = "force")]
    pub check: bool,
}

/// A backup as it is shown.
#[derive(Serialize)]
struct Shown {
    file: String,
    size: u64,
    #[serde(flatten)]
    header: Header,
}

/// Asks any node for a copy and keeps it.
pub async fn run(client: &Client, output: Output, args: &BackupArgs) -> Result<()> {
    if args.file.as_os_str() == "-" {
        return to_stdout(client).await;
    }
    if args.file.exists() && !args.force {
        bail!(parse::Usage(format!("{} exists; name another file, or replace it with --force", args.file.display())));
    }
    let bar = print::bytes_bar("backup".into(), None);
    let header = fetch(client, &args.file, &bar).await;
    bar.finish_and_clear();
    shown(output, &args.file, header?)
}

/// Compares a file's checksum and shows its header.
///
/// # Errors
/// When it is no whole backup.
pub fn check(output: Output, path: &Path) -> Result<()> {
    shown(output, path, open(path)?.1)
}

/// Opens a backup and compares its checksum.
///
/// # Errors
/// When it is no whole backup of this or an earlier release; says which.
pub fn open(path: &Path) -> Result<(File, Header)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = backup::check(&mut file).with_context(|| path.display().to_string())?;
    Ok((file, header))
}

async fn to_stdout(client: &Client) -> Result<()> {
    if std::io::stdout().is_terminal() {
        bail!(parse::Usage("a backup is not text; name a file, or send standard output somewhere".into()));
    }
    let mut pieces = client.backup().await?;
    while let Some(piece) = pieces.next().await {
        std::io::stdout().write_all(&piece?).context("cannot write to standard output")?;
    }
    std::io::stdout().flush().context("cannot write to standard output")
}

/// The file gets its name only after it was read back whole and is on disk.
async fn fetch(client: &Client, path: &Path, bar: &indicatif::ProgressBar) -> Result<Header> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut name = path.file_name().context("name a file, not a folder")?.to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let temporary = folder.join(name);
    let written = async {
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let mut file = open.with_context(|| format!("cannot write {}", temporary.display()))?;
        let mut pieces = client.backup().await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            bar.inc(piece.len() as u64);
            file.write_all(&piece).with_context(|| format!("cannot write {}", temporary.display()))?;
        }
        file.sync_all().with_context(|| format!("cannot write {}", temporary.display()))?;
        let header = open_whole(&temporary)?;
        fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
        context::sync_folder(folder)?;
        Ok(header)
    };
    let header = written.await;
    if header.is_err() {
        // What is left of it is of no use; that it cannot be removed is not what went wrong.
        let _ = fs::remove_file(&temporary);
    }
    header
}

fn open_whole(path: &Path) -> Result<Header> {
    open(path).map(|(_, header)| header).context("the copy did not arrive whole; try again")
}

fn shown(output: Output, path: &Path, header: Header) -> Result<()> {
    let size = fs::metadata(path).map(|found| found.len()).unwrap_or_default();
    let shown = Shown { file: path.display().to_string(), size, header };
    print::result(output, &shown, |shown| {
        let header = &shown.header;
        print::facts(&[
            ("backup", format!("{} ({})", shown.file, Bytes(shown.size))),
            ("cluster", header.cluster.to_string()),
            ("made", format!("{} by plimsoll {}, at entry {}", Time(header.made_at), header.version, header.applied)),
            (
                "holds",
                format!(
                    "{} hosts, {} sandboxes, {} snapshots, {} API keys",
                    header.hosts, header.sandboxes, header.snapshots, header.keys
                ),
            ),
            ("sealed", sealed(header)),
        ])
    })
}

fn sealed(header: &Header) -> String {
    match header.sealed {
        0 => String::new(),
        count => format!(
            "{count} sandboxes have secrets; to restore them, keep a node's identity file as well (its secret is {})",
            header.secret
        ),
    }
}
