//! State machine snapshots as files: written beside their place, synced, renamed. Never values of sled.
//!
//! ```text
//! "PLSNAP1\n" | length of the header (u32) | header (MessagePack) | state | SHA-256 of everything before
//! ```

use super::files;
use crate::{
    error::{Error, Result},
    types::SnapshotMeta,
};
use plimsoll_state::State;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const MAGIC: &[u8; 8] = b"PLSNAP1\n";
/// Snapshots kept: the newest, and the one before in case the newest turns out to be damaged. The log is kept long enough
/// to continue from either.
const KEPT: usize = 2;
/// Largest header: a membership of a few nodes.
const MAX_HEADER: u32 = 1 << 20;

/// Bytes after which writing one rests: some milliseconds of work. A small cluster's has fewer in all.
const PIECE: usize = 1 << 20;
/// How long a rest is, in times of what the piece took.
const REST: u32 = 2;
/// The longest rest: a slow disk is rest enough.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// What stands before the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) meta: SnapshotMeta,
    /// Every node that was ever a member: ids are never used again, and removed nodes are turned away.
    #[serde(default)]
    pub(crate) members_ever: BTreeSet<u64>,
}

/// A whole snapshot on disk. One that was received from a leader is deleted when dropped, unless it was installed.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    temporary: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.temporary {
            // If it was installed it has been renamed; if not, the next start clears it away too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl SnapshotFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    fn at(path: PathBuf, temporary: bool) -> Self {
        Self(Arc::new(Inner { path, temporary }))
    }
}

/// The folder of snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots {
    dir: PathBuf,
    serial: AtomicU64,
}

impl Snapshots {
    /// Opens the folder and clears away what a crash left half written.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let dir = data_dir.join("snapshots");
        files::create_dir(&dir)?;
        for path in list(&dir)? {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(|error| Error::path("remove", &path, error))?;
            }
        }
        Ok(Self { dir, serial: AtomicU64::new(0) })
    }

    /// Writes a snapshot and makes it the current one; gently where requests are served meanwhile.
    pub(crate) fn save(&self, header: &Header, state: &State, pace: Pace) -> io::Result<SnapshotFile> {
        let temporary = self.temporary();
        let file = BufWriter::new(Paced { file: File::create(&temporary)?, pace, unsynced: 0, since: Instant::now() });
        let mut writer = Hashing { inner: file, context: Context::new(&SHA256) };
        writer.write_all(MAGIC)?;
        let bytes = rmp_serde::to_vec_named(header).map_err(io::Error::other)?;
        writer.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes())?;
        writer.write_all(&bytes)?;
        state.write_snapshot(&mut writer).map_err(io::Error::other)?;
        let digest = writer.context.clone().finish();
        writer.inner.write_all(digest.as_ref())?;
        writer.inner.into_inner().map_err(io::IntoInnerError::into_error)?.file.sync_all()?;
        self.publish(&temporary, &header.meta)
    }

    /// Takes over a snapshot that was received (and is synced) and makes it the current one.
    pub(crate) fn adopt(&self, file: &SnapshotFile, meta: &SnapshotMeta) -> io::Result<SnapshotFile> {
        if file.path() == self.place(meta) {
            return Ok(file.clone());
        }
        let temporary = self.temporary();
        fs::copy(file.path(), &temporary)?;
        File::open(&temporary)?.sync_all()?;
        self.publish(&temporary, meta)
    }

    /// A file to receive a snapshot into.
    pub(crate) fn receive(&self) -> io::Result<(File, SnapshotFile)> {
        let path = self.temporary();
        let file = File::create(&path)?;
        Ok((file, SnapshotFile::at(path, true)))
    }

    /// The newest snapshot that is whole. Damaged ones are renamed, so that nobody takes them for whole again.
    pub(crate) fn current(&self) -> io::Result<Option<(Header, SnapshotFile)>> {
        for path in newest_first(&self.dir)? {
            match verify(&path) {
                Ok(header) => return Ok(Some((header, SnapshotFile::at(path, false)))),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a snapshot is damaged; it is set aside");
                    fs::rename(&path, path.with_extension("damaged"))?;
                }
            }
        }
        Ok(None)
    }

    fn place(&self, meta: &SnapshotMeta) -> PathBuf {
        let (index, term) = meta.last_log_id.as_ref().map_or((0, 0), |id| (id.index, id.leader_id.term));
        self.dir.join(format!("{index:020}-{term}.snapshot"))
    }

    fn temporary(&self) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{}-{serial}.tmp", std::process::id()))
    }

    fn publish(&self, temporary: &Path, meta: &SnapshotMeta) -> io::Result<SnapshotFile> {
        let place = self.place(meta);
        fs::rename(temporary, &place)?;
        File::open(&self.dir)?.sync_all()?;
        for old in newest_first(&self.dir)?.into_iter().skip(KEPT) {
            fs::remove_file(old)?;
        }
        Ok(SnapshotFile::at(place, false))
    }
}

/// Reads a snapshot whose digest was checked, or is checked on the way.
pub(crate) fn load(path: &Path) -> io::Result<(Header, State)> {
    let header = verify(path)?;
    let mut reader = BufReader::new(File::open(path)?);
    let start = read_header(&mut reader)?.1;
    let end = fs::metadata(path)?.len() - SHA256_OUTPUT_LEN as u64;
    let state = State::read_snapshot(reader.take(end - start)).map_err(io::Error::other)?;
    Ok((header, state))
}

/// Checks a snapshot's digest and reads its header.
pub(crate) fn verify(path: &Path) -> io::Result<Header> {
    let length = fs::metadata(path)?.len();
    let body = length.checked_sub(SHA256_OUTPUT_LEN as u64).ok_or_else(|| damaged("it is too short"))?;
    let mut reader = BufReader::new(File::open(path)?);
    let mut context = Context::new(&SHA256);
    let mut left = body;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(damaged("it became shorter"));
        }
        context.update(&buffer[..read]);
        left -= read as u64;
    }
    let mut digest = [0; SHA256_OUTPUT_LEN];
    reader.read_exact(&mut digest)?;
    if context.finish().as_ref() != digest {
        return Err(damaged("its digest differs"));
    }
    Ok(read_header(&mut BufReader::new(File::open(path)?))?.0)
}

fn read_header(reader: &mut impl Read) -> io::Result<(Header, u64)> {
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if &magic != MAGIC || length > MAX_HEADER {
        return Err(damaged("it is not a snapshot of this format"));
    }
    let mut bytes = vec![0; length as usize];
    reader.read_exact(&mut bytes)?;
    let header = rmp_serde::from_slice(&bytes).map_err(io::Error::other)?;
    Ok((header, MAGIC.len() as u64 + 4 + u64::from(length)))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot is damaged: {what}"))
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    read().map_err(|error| Error::path("list", dir, error))
}

/// Names sort by index; the newest is the last.
fn newest_first(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
    paths.sort();
    paths.reverse();
    Ok(paths)
}

/// How a snapshot is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// With a rest after each piece: every node writes its own at about the same time, and neither the processors nor the disk should
    /// have only that to do while requests wait.
    Gentle,
    /// At once: nobody is served yet.
    Fast,
}

/// A file that is written at a pace.
struct Paced {
    file: File,
    pace: Pace,
    /// Bytes of the piece that were written.
    unsynced: usize,
    /// When the rest after the last piece was over.
    since: Instant,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= PIECE && self.pace == Pace::Gentle {
            // Not all at the end: the log's flushes would wait for it.
            self.file.sync_data()?;
            std::thread::sleep((self.since.elapsed() * REST).min(LONGEST_REST));
            (self.unsynced, self.since) = (0, Instant::now());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Hashing<W> {
    inner: W,
    context: Context,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
