//! `plimsoll cp`: files and folders between this machine and a sandbox, streamed both ways.

use super::{
    parse::{CopySide, copy_side, wrong},
    print,
};
use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use plimsoll_client::{ByteStream, Client, WriteFile, wire::EntryKind};
use plimsoll_types::SandboxId;
use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// Bytes of a tar on their way between the thread that packs and the connection.
const PIPE: usize = 256 << 10;

/// Copies one way or the other.
pub async fn run(client: &Client, from: &str, to: &str) -> Result<()> {
    match (copy_side(from)?, copy_side(to)?) {
        (CopySide::Here(from), CopySide::There(sandbox, to)) => upload(client, &from, sandbox, &to).await,
        (CopySide::There(sandbox, from), CopySide::Here(to)) => download(client, sandbox, &from, &to).await,
        (CopySide::Here(_), CopySide::Here(_)) => {
            wrong("neither side is in a sandbox; write sb-…:/path for one of them")
        }
        (CopySide::There(..), CopySide::There(..)) => wrong("both sides are in sandboxes; copy through this machine"),
    }
}

async fn upload(client: &Client, from: &Path, sandbox: SandboxId, to: &str) -> Result<()> {
    let about = tokio::fs::metadata(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    let shown = format!("{} → {to}", from.display());
    if about.is_dir() {
        let (writer, reader) = tokio::io::duplex(PIPE);
        let folder = from.to_path_buf();
        let packing = tokio::task::spawn_blocking(move || pack(&folder, SyncIoBridge::new(writer)));
        let bar = print::bytes_bar(shown, None);
        let body = counted(ReaderStream::new(reader), &bar);
        client.import_tar(sandbox, to, body).await?;
        bar.finish_and_clear();
        return packing.await?.with_context(|| format!("cannot pack {}", from.display()));
    }
    let target = if to.ends_with('/') { format!("{to}{}", name_of(from)?) } else { to.to_owned() };
    let file = tokio::fs::File::open(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    let bar = print::bytes_bar(shown, Some(about.len()));
    let options = WriteFile { mode: Some(about.permissions().mode() & 0o777), ..WriteFile::default() };
    client.write_file(sandbox, &target, &options, counted(ReaderStream::new(file), &bar)).await?;
    bar.finish_and_clear();
    Ok(())
}

fn pack(folder: &Path, writer: impl io::Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", folder)?;
    archive.into_inner()?.flush()
}

fn counted<S>(
    stream: S,
    bar: &indicatif::ProgressBar,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send + 'static
where
    S: futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send + 'static,
{
    let bar = bar.clone();
    stream.inspect_ok(move |piece| bar.inc(piece.len() as u64))
}

async fn download(client: &Client, sandbox: SandboxId, from: &str, to: &Path) -> Result<()> {
    let about = client.stat_file(sandbox, from).await?;
    let shown = format!("{from} → {}", to.display());
    match about.kind {
        EntryKind::Directory => {
            let bar = print::bytes_bar(shown, None);
            unpack(client.export_tar(sandbox, from).await?, to, &bar).await?;
            bar.finish_and_clear();
            Ok(())
        }
        EntryKind::File => {
            let bar = print::bytes_bar(shown, Some(about.size));
            let target = if to.is_dir() { to.join(name_of(Path::new(from))?) } else { to.to_path_buf() };
            save(client.read_file(sandbox, from).await?, &target, &bar).await?;
            bar.finish_and_clear();
            Ok(())
        }
        EntryKind::Symlink => bail!("{from} is a symbolic link; copy what it points to"),
        EntryKind::Other => bail!("{from} is neither a file nor a folder"),
    }
}

/// Writes a file beside its place first, so that a broken copy never looks whole.
async fn save(mut body: ByteStream, target: &Path, bar: &indicatif::ProgressBar) -> Result<()> {
    let part = target.with_file_name(format!(".{}.part-{}", name_of(target)?, std::process::id()));
    let written = async {
        let mut file =
            tokio::fs::File::create_new(&part).await.with_context(|| format!("cannot write {}", part.display()))?;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            file.write_all(&piece).await?;
            bar.inc(piece.len() as u64);
        }
        file.flush().await?;
        tokio::fs::rename(&part, target).await.with_context(|| format!("cannot write {}", target.display()))
    };
    let done = written.await;
    if done.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    }
    done
}

/// Unpacks below a folder; the tar crate keeps every entry inside it.
async fn unpack(body: ByteStream, to: &Path, bar: &indicatif::ProgressBar) -> Result<()> {
    tokio::fs::create_dir_all(to).await.with_context(|| format!("cannot make {}", to.display()))?;
    let body = counted(body.map_err(io::Error::other), bar);
    let reader = SyncIoBridge::new(StreamReader::new(Box::pin(body)));
    let folder: PathBuf = to.to_path_buf();
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(reader);
        archive.set_overwrite(true);
        archive.unpack(&folder)
    });
    unpacking.await?.with_context(|| format!("cannot unpack into {}", to.display()))
}

fn name_of(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no file name", path.display()))
}
