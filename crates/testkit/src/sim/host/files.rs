//! The filesystem of a simulated container: a tree in memory behind the files port.

use super::{HostOp, line::Line};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::ports::{ByteStream, EntryKind, FileEntry, Files, HostError, HostFailure, WriteOptions};
use plimsoll_types::{Bytes as Size, Code};
use std::{collections::BTreeMap, io::Read};

/// How much of a file is sent at once.
const CHUNK: usize = 64 * 1024;

/// Files by absolute path; folders exist as long as something stands below them, or were made explicitly (`None`).
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Option<SimFile>>);

#[derive(Clone, Debug)]
struct SimFile {
    content: Bytes,
    mode: u32,
    owner: (u32, u32),
}

fn missing(path: &str) -> HostError {
    HostError::new(HostFailure::Permanent, Code::FileNotFound, format!("{path}: no such file or directory"))
}

fn wrong(path: &str, what: &str) -> HostError {
    HostError::new(HostFailure::Permanent, Code::FileError, format!("{path}: {what}"))
}

/// Absolute, without `.` and `..`: the root is its own parent, so nothing leads out.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Who a new file belongs to, in a container whose only accounts are `root` and `user`.
fn owner(said: Option<&str>) -> Result<(u32, u32), HostError> {
    let Some(said) = said else { return Ok((1000, 1000)) };
    let id = |name: &str| match name {
        "root" => Some(0),
        "user" => Some(1000),
        number => number.parse().ok(),
    };
    let (uid, gid) = said.split_once(':').unwrap_or((said, said));
    id(uid).zip(id(gid)).ok_or_else(|| wrong(said, "the sandbox knows no such owner"))
}

fn below(folder: &str) -> String {
    if folder == "/" { folder.into() } else { format!("{folder}/") }
}

impl Tree {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts another tree's paths over this one's.
    pub(super) fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes everything below a folder out.
    pub(super) fn split_off(&mut self, folder: &str) -> Self {
        let taken = self.subtree(folder);
        Self(taken.into_iter().filter_map(|path| self.0.remove_entry(&path)).collect())
    }

    pub(super) fn remove_below(&mut self, folder: &str) {
        drop(self.split_off(folder));
    }

    /// Forgets the second half, as if a copy had broken off.
    pub(super) fn halve(&mut self) {
        let kept = self.0.len() / 2;
        self.0 = std::mem::take(&mut self.0).into_iter().take(kept).collect();
    }

    pub(super) fn size(&self) -> Size {
        let files = self.0.values().flatten();
        Size(files.map(|file| u64::try_from(file.content.len()).unwrap_or(u64::MAX)).sum())
    }

    /// A file's content, if it is text.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let file = self.0.get(path)?.as_ref()?;
        String::from_utf8(file.content.to_vec()).ok()
    }

    fn is_folder(&self, path: &str) -> bool {
        path == "/" || matches!(self.0.get(path), Some(None)) || self.0.keys().any(|key| key.starts_with(&below(path)))
    }

    fn entry(&self, path: &str) -> Result<FileEntry, HostError> {
        let made =
            |kind, size, mode, (uid, gid)| FileEntry { path: path.into(), kind, size, mode, uid, gid, modified_s: 0 };
        match self.0.get(path) {
            Some(Some(file)) => {
                let size = u64::try_from(file.content.len()).unwrap_or(u64::MAX);
                Ok(made(EntryKind::File, size, file.mode, file.owner))
            }
            Some(None) | None if self.is_folder(path) => Ok(made(EntryKind::Directory, 0, 0o755, (1000, 1000))),
            Some(None) | None => Err(missing(path)),
        }
    }

    fn put(&mut self, path: &str, content: Bytes, mode: u32, owner: (u32, u32)) -> Result<(), HostError> {
        if self.is_folder(path) {
            return Err(wrong(path, "is a directory"));
        }
        self.0.insert(path.into(), Some(SimFile { content, mode, owner }));
        Ok(())
    }

    fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>, HostError> {
        if self.entry(folder)?.kind != EntryKind::Directory {
            return Err(wrong(folder, "is not a directory"));
        }
        let prefix = below(folder);
        let mut paths = std::collections::BTreeSet::new();
        for rest in self.0.keys().filter_map(|key| key.strip_prefix(&prefix)) {
            let ends = rest.match_indices('/').map(|(at, _)| at).chain([rest.len()]);
            let depth = if recursive { usize::MAX } else { 1 };
            paths.extend(ends.take(depth).filter_map(|end| rest.get(..end)).map(|part| format!("{prefix}{part}")));
        }
        paths.iter().map(|path| self.entry(path)).collect()
    }

    fn subtree(&self, path: &str) -> Vec<String> {
        let prefix = below(path);
        self.0.keys().filter(|key| *key == path || key.starts_with(&prefix)).cloned().collect()
    }

    fn archive(&self, path: &str) -> Result<Bytes, HostError> {
        let broken = |error: std::io::Error| wrong(path, &error.to_string());
        let mut builder = tar::Builder::new(Vec::new());
        for key in self.subtree(path) {
            let Some(Some(file)) = self.0.get(&key) else { continue };
            let name = key.strip_prefix(&below(path)).or_else(|| key.rsplit('/').next()).unwrap_or(&key);
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(file.content.len()).unwrap_or(u64::MAX));
            header.set_mode(file.mode);
            header.set_cksum();
            builder.append_data(&mut header, name, file.content.as_ref()).map_err(broken)?;
        }
        builder.into_inner().map(Bytes::from).map_err(broken)
    }

    fn unpack(&mut self, folder: &str, archive: &[u8]) -> Result<(), HostError> {
        let broken = |error: std::io::Error| wrong(folder, &error.to_string());
        for entry in tar::Archive::new(archive).entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
            let path = clean(&format!("{folder}/{}", clean(&name)));
            if entry.header().entry_type().is_dir() {
                self.0.entry(path).or_insert(None);
                continue;
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(broken)?;
            let mode = entry.header().mode().map_err(broken)?;
            self.put(&path, content.into(), mode, (1000, 1000))?;
        }
        Ok(())
    }
}

async fn collect(mut body: ByteStream) -> Result<Bytes, HostError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole.freeze())
}

fn pieces(content: &Bytes) -> ByteStream {
    let chunks: Vec<_> =
        (0..content.len()).step_by(CHUNK).map(|at| Ok(content.slice(at..content.len().min(at + CHUNK)))).collect();
    Box::pin(stream::iter(chunks))
}

/// One node's view of a host's files.
pub(super) struct SimFiles(pub(super) Line);

impl SimFiles {
    async fn with<T: Send + 'static>(
        &self,
        container: &str,
        body: impl Fn(&mut Tree) -> Result<T, HostError> + Send + Sync + 'static,
    ) -> Result<T, HostError> {
        let container = container.to_owned();
        self.0.call(HostOp::Files, move |docker, _| docker.with_files(&container, &body)).await
    }
}

#[async_trait]
impl Files for SimFiles {
    async fn read(&self, container: &str, path: &str) -> Result<ByteStream, HostError> {
        let path = clean(path);
        let content = self.with(container, move |tree| match tree.0.get(&path) {
            Some(Some(file)) => Ok(file.content.clone()),
            Some(None) | None if tree.is_folder(&path) => Err(wrong(&path, "is a directory")),
            Some(None) | None => Err(missing(&path)),
        });
        Ok(pieces(&content.await?))
    }

    async fn write(
        &self,
        container: &str,
        path: &str,
        options: WriteOptions,
        body: ByteStream,
    ) -> Result<(), HostError> {
        let path = clean(path);
        let content = collect(body).await?;
        let (mode, owner) = (options.mode.unwrap_or(0o644), owner(options.owner.as_deref())?);
        self.with(container, move |tree| tree.put(&path, content.clone(), mode, owner)).await
    }

    async fn list(
        &self,
        container: &str,
        path: &str,
        recursive: bool,
        limit: usize,
    ) -> Result<Vec<FileEntry>, HostError> {
        let path = clean(path);
        let list = self.with(container, move |tree| {
            let entries = tree.list(&path, recursive)?;
            if entries.len() > limit {
                Err(wrong(&path, &format!("has more than {limit} entries")))
            } else {
                Ok(entries)
            }
        });
        list.await
    }

    async fn stat(&self, container: &str, path: &str) -> Result<FileEntry, HostError> {
        let path = clean(path);
        self.with(container, move |tree| tree.entry(&path)).await
    }

    async fn rename(&self, container: &str, from: &str, to: &str) -> Result<(), HostError> {
        let (from, to) = (clean(from), clean(to));
        let rename = self.with(container, move |tree| {
            tree.entry(&from)?;
            for key in tree.subtree(&from) {
                if let (Some(file), Some(rest)) = (tree.0.remove(&key), key.strip_prefix(&from)) {
                    tree.0.insert(format!("{to}{rest}"), file);
                }
            }
            Ok(())
        });
        rename.await
    }

    async fn remove(&self, container: &str, path: &str, recursive: bool) -> Result<(), HostError> {
        let path = clean(path);
        let remove = self.with(container, move |tree| {
            let kind = tree.entry(&path)?.kind;
            if kind == EntryKind::Directory && !recursive && !tree.list(&path, false)?.is_empty() {
                return Err(wrong(&path, "directory not empty"));
            }
            for key in tree.subtree(&path) {
                tree.0.remove(&key);
            }
            Ok(())
        });
        remove.await
    }

    async fn export_tar(&self, container: &str, path: &str) -> Result<ByteStream, HostError> {
        let path = clean(path);
        let archive = self.with(container, move |tree| {
            tree.entry(&path)?;
            tree.archive(&path)
        });
        Ok(pieces(&archive.await?))
    }

    async fn import_tar(&self, container: &str, path: &str, body: ByteStream) -> Result<(), HostError> {
        let path = clean(path);
        let archive = collect(body).await?;
        let import = self.with(container, move |tree| {
            tree.0.entry(path.clone()).or_insert(None);
            tree.unpack(&path, &archive)
        });
        import.await
    }
}
