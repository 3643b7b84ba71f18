//! The backup format: what a cluster is founded again from, should all its nodes be lost. Magic, version, a
//! header, the state as in [`crate::snapshot`], and a checksum over everything before it.
//!
//! What is secret in state is in here as state has it: hashes of API keys, environments sealed with the cluster's secret. That secret
//! itself is not.

use crate::{SnapshotError, State, hashing::Hashing, model::Hold};
use plimsoll_types::{ClusterId, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    sync::Arc,
};

/// First bytes of every backup.
const MAGIC: [u8; 8] = *b"PLIMSBAK";
/// Changes only when an older release could not read the new format at all.
const VERSION: u32 = 1;
/// Largest header: it holds a dozen numbers.
const HEADER_MAX: u32 = 64 << 10;
/// SHA-256 at the end.
const CHECKSUM: u64 = 32;
/// By how much a restored cluster's log is ahead of its backup's: more than can have been committed in between, so that no index, and
/// no event's position, ever stands for two things.
const AHEAD: u64 = 1_000_000_000;

/// What stands before the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose state it is. Containers carry this id, so the restored cluster keeps it.
    pub cluster: ClusterId,
    /// When it was made.
    pub made_at: Timestamp,
    /// The release that made it.
    pub version: String,
    /// The last raft index in it.
    pub applied: u64,
    /// Hosts in it.
    pub hosts: u64,
    /// Sandboxes in it, terminated ones included.
    pub sandboxes: u64,
    /// Snapshots in it.
    pub snapshots: u64,
    /// API keys in it (hashes).
    pub keys: u64,
    /// Sandboxes whose secret environment is in it, sealed: of use only with the cluster's secret.
    pub sealed: u64,
    /// Tells the cluster's secret from another one, and nothing else about it.
    pub secret: String,
}

/// A backup that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file or stream failed.
    #[error("the backup could not be written or read")]
    Io(#[from] io::Error),
    /// The bytes are something else.
    #[error("this is no backup of a Plimsoll cluster")]
    Foreign,
    /// A newer release wrote it.
    #[error(
        "the backup has format version {0}, this release reads version {VERSION}; use the release that made it, or a newer one"
    )]
    Version(u32),
    /// It was changed or cut short.
    #[error("the backup is damaged: {0}; take another copy of it")]
    Damaged(String),
    /// The state in it cannot be read.
    #[error("the state in the backup cannot be read")]
    State(#[from] SnapshotError),
}

impl Header {
    /// Describes a state; `None` for one that is no cluster yet. `secret` tells the cluster's secret from another one.
    #[must_use]
    pub fn of(state: &State, made_at: Timestamp, version: &str, secret: String) -> Option<Self> {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let sealed = state.sandboxes.values().filter(|it| it.phase.is_live() && it.spec.sealed_env.is_some());
        Some(Self {
            cluster: state.cluster?,
            made_at,
            version: version.to_owned(),
            applied: state.applied,
            hosts: count(state.hosts.len()),
            sandboxes: count(state.sandboxes.len()),
            snapshots: count(state.snapshots.len()),
            keys: count(state.keys.len()),
            sealed: count(sealed.count()),
            secret,
        })
    }
}

/// Writes a backup.
///
/// # Errors
/// When the writer fails.
pub fn write(header: &Header, state: &State, writer: &mut impl Write) -> Result<(), BackupError> {
    let text = rmp_serde::to_vec_named(header).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut body = Hashing { inner: &mut *writer, hash: Sha256::new() };
    body.write_all(&MAGIC)?;
    body.write_all(&VERSION.to_be_bytes())?;
    body.write_all(&length.to_be_bytes())?;
    body.write_all(&text)?;
    state.write_snapshot(&mut body)?;
    let checksum = body.hash.finalize();
    writer.write_all(&checksum)?;
    Ok(writer.flush()?)
}

/// Reads a backup's header, after its checksum was compared over the whole of it.
///
/// # Errors
/// When it is not a whole, undamaged backup of this or an earlier release.
pub fn check(reader: &mut (impl Read + Seek)) -> Result<Header, BackupError> {
    inspect(reader).map(|(header, _)| header)
}

/// Reads a whole backup.
///
/// # Errors
/// As [`check`].
pub fn read(reader: &mut (impl Read + Seek)) -> Result<(Header, State), BackupError> {
    let (header, body) = inspect(reader)?;
    reader.seek(SeekFrom::Start(body.start))?;
    let state = State::read_snapshot(reader.by_ref().take(body.end - body.start))?;
    if state.cluster != Some(header.cluster) {
        return Err(BackupError::Damaged("its header names another cluster than its state".into()));
    }
    Ok((header, state))
}

impl State {
    /// This state as the beginning of a new log: on hold, above every index and every node's number that the old one can have given.
    #[must_use]
    pub fn begun_again(mut self, node: NodeId, hold: Hold) -> Self {
        self.applied = self.applied.saturating_add(AHEAD);
        self.highest_node = self.highest_node.max(Some(node));
        let change = "restored from a backup; on hold".into();
        let event =
            crate::Event { index: self.applied, seq: 0, at: hold.since, kind: crate::EventKind::Cluster { change } };
        self.events.push_back(Arc::new(event));
        crate::apply::trim(&mut self);
        self.hold = Some(hold);
        self
    }

    /// Adds an API key to a state that no log stands behind yet.
    pub fn add_key(&mut self, key: crate::ApiKey) {
        self.index.key_hashes.insert(key.hash, key.id);
        self.keys.insert(key.id, Arc::new(key));
    }

    /// A number for a node that no node of this cluster has had.
    #[must_use]
    pub fn unused_node(&self) -> NodeId {
        // The founder's is 1 and stands nowhere.
        NodeId(self.highest_node.map_or(1, |node| node.0.max(1)).saturating_add(1))
    }
}

/// Checks everything but the state itself; answers with the header and where the state is.
fn inspect(reader: &mut (impl Read + Seek)) -> Result<(Header, std::ops::Range<u64>), BackupError> {
    let length = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(0))?;
    let magic: [u8; 8] = front(reader).map_err(|_| BackupError::Foreign)?;
    if magic != MAGIC {
        return Err(BackupError::Foreign);
    }
    let version = u32::from_be_bytes(front(reader)?);
    if version != VERSION {
        return Err(BackupError::Version(version));
    }
    let size = u32::from_be_bytes(front(reader)?);
    let start = 16 + u64::from(size);
    let end = length.checked_sub(CHECKSUM).filter(|end| *end >= start && size <= HEADER_MAX);
    let end = end.ok_or_else(|| BackupError::Damaged("it ends too early".into()))?;
    checksum(reader, end)?;
    reader.seek(SeekFrom::Start(16))?;
    let header = rmp_serde::from_read(BufReader::new(reader.by_ref().take(u64::from(size))));
    let header = header.map_err(|error| BackupError::Damaged(format!("its header cannot be read: {error}")))?;
    Ok((header, start..end))
}

fn checksum(reader: &mut (impl Read + Seek), end: u64) -> Result<(), BackupError> {
    reader.seek(SeekFrom::Start(0))?;
    let mut body = Hashing { inner: io::sink(), hash: Sha256::new() };
    let copied = io::copy(&mut reader.by_ref().take(end), &mut body)?;
    let stored: [u8; 32] = front(reader)?;
    if copied != end || body.hash.finalize()[..] != stored {
        return Err(BackupError::Damaged("its checksum differs".into()));
    }
    Ok(())
}

fn front<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Damaged("it ends too early".into()),
        _ => BackupError::Io(error),
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outcome, testing::*};
    use std::io::Cursor;

    fn sample() -> (Header, State) {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        (Header::of(&state, at(90), "1.2.3", "ab".into()).unwrap(), state)
    }

    fn bytes() -> Vec<u8> {
        let (header, state) = sample();
        let mut bytes = Vec::new();
        write(&header, &state, &mut bytes).unwrap();
        bytes
    }

    fn error(bytes: &[u8]) -> BackupError {
        let (checked, read) = (super::check(&mut Cursor::new(bytes)), read(&mut Cursor::new(bytes)));
        let checked = checked.unwrap_err();
        assert_eq!(checked.to_string(), read.unwrap_err().to_string());
        checked
    }

    #[test]
    fn what_was_written_is_read() {
        let (header, state) = sample();
        assert_eq!((header.hosts, header.sandboxes, header.sealed), (2, 1, 0));
        assert_eq!(super::check(&mut Cursor::new(bytes())).unwrap(), header);
        assert_eq!(read(&mut Cursor::new(bytes())).unwrap(), (header, state));
    }

    #[test]
    fn foreign_newer_cut_and_damaged_backups_are_told_apart() {
        let good = bytes();
        assert!(matches!(error(b"PK\x03\x04 is something else"), BackupError::Foreign));
        assert!(matches!(error(b""), BackupError::Foreign));
        let mut newer = good.clone();
        newer[11] = 9;
        assert!(matches!(error(&newer), BackupError::Version(9)));
        for cut in 8..good.len() {
            assert!(matches!(error(&good[..cut]), BackupError::Damaged(_)), "cut at {cut}");
        }
        for place in 12..good.len() {
            let mut flipped = good.clone();
            flipped[place] ^= 1;
            assert!(matches!(error(&flipped), BackupError::Damaged(_)), "flipped at {place}");
        }
        assert!(matches!(error(&[good.as_slice(), b"x"].concat()), BackupError::Damaged(_)));
    }

    #[test]
    fn a_state_that_begins_again_is_ahead_of_itself_and_on_hold() {
        let (_, state) = sample();
        let (before, node) = (state.applied, state.unused_node());
        let mut again = state.begun_again(node, Hold { since: at(99), reason: "restored".into() });
        assert_eq!((again.applied, again.unused_node()), (before + AHEAD, NodeId(3)));
        assert!(again.hold.is_some());
        sound(&again);
        assert_eq!(again.apply(again.applied + 1, &resume(100)), Outcome::Done);
        sound(&again);
    }
}
