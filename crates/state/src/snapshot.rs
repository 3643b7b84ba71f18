//! The snapshot format: magic, version, MessagePack with named fields, checksum. Fields that a release does not know are
//! passed over and fields that are missing get their defaults, so adjacent releases read each other's. Streams both ways.

use crate::{State, hashing::Hashing, index::Index};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, BufWriter, Read, Write};

/// First bytes of every snapshot.
const MAGIC: [u8; 8] = *b"PLIMSOLL";
/// Changes only when an older release could not read the new format rightly; added fields do not change it. The first one held the sessions,
/// which are derived since.
const VERSION: u32 = 2;
/// The oldest that is still read.
const OLDEST: u32 = 1;

/// A snapshot that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file or stream failed, or ended too early.
    #[error("the state snapshot could not be written or read")]
    Io(#[from] io::Error),
    /// The bytes are something else.
    #[error("this is no state snapshot: it does not begin with the magic bytes")]
    Foreign,
    /// A release that is not adjacent wrote it.
    #[error("the state snapshot has format version {0}, this release reads versions {OLDEST} to {VERSION}")]
    Version(u32),
    /// It was damaged or cut short; take another copy.
    #[error("the state snapshot is damaged: {0}")]
    Damaged(String),
}

impl State {
    /// A copy to write a snapshot from while the original goes on: records are shared, and indexes, which a snapshot does not hold,
    /// are left out. It answers no queries.
    #[must_use]
    pub fn to_snapshot(&self) -> Self {
        Self {
            cluster: self.cluster,
            policy: self.policy.clone(),
            hosts: self.hosts.clone(),
            next_host: self.next_host,
            sandboxes: self.sandboxes.clone(),
            snapshots: self.snapshots.clone(),
            idempotency: self.idempotency.clone(),
            keys: self.keys.clone(),
            join_tokens: self.join_tokens.clone(),
            highest_node: self.highest_node,
            events: self.events.clone(),
            events_dropped: self.events_dropped,
            hold: self.hold.clone(),
            applied: self.applied,
            index: Index::default(),
        }
    }

    /// Writes the state, in small pieces through a buffer of its own.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_snapshot(&self, writer: &mut impl Write) -> Result<(), SnapshotError> {
        writer.write_all(&MAGIC)?;
        writer.write_all(&VERSION.to_be_bytes())?;
        let mut body = BufWriter::new(Hashing { inner: &mut *writer, hash: Sha256::new() });
        encode(self, &mut body)?;
        let body = body.into_inner().map_err(io::IntoInnerError::into_error)?;
        let checksum = body.hash.finalize();
        writer.write_all(&checksum)?;
        Ok(writer.flush()?)
    }

    /// Reads what [`State::write_snapshot`] wrote, to the end of the reader, and makes the derived indexes afresh.
    ///
    /// # Errors
    /// When the reader fails, or the bytes are not a whole, undamaged snapshot of this or an adjacent release.
    pub fn read_snapshot(reader: impl Read) -> Result<Self, SnapshotError> {
        let mut reader = BufReader::new(reader);
        let magic: [u8; 8] = header(&mut reader)?;
        if magic != MAGIC {
            return Err(SnapshotError::Foreign);
        }
        let version = u32::from_be_bytes(header(&mut reader)?);
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(SnapshotError::Version(version));
        }
        let mut body = Hashing { inner: &mut reader, hash: Sha256::new() };
        let mut state = Self::deserialize(&mut rmp_serde::Deserializer::new(&mut body)).map_err(decode_error)?;
        let counted = body.hash.finalize();
        let mut stored = [0; 32];
        reader.read_exact(&mut stored).map_err(short)?;
        if counted[..] != stored {
            return Err(SnapshotError::Damaged("its checksum differs".into()));
        }
        if reader.read(&mut [0])? != 0 {
            return Err(SnapshotError::Damaged("something follows its end".into()));
        }
        state.index = Index::rebuild(&state);
        Ok(state)
    }

    /// SHA-256 of the state as a snapshot holds it: equal on every replica of one release that applied the same index.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut sink = BufWriter::new(Hashing { inner: io::sink(), hash: Sha256::new() });
        // A sink cannot fail; should encoding ever do, the text of the error makes the digests differ and be noticed.
        let failed = encode(self, &mut sink).err().map(|error| error.to_string());
        match (failed, sink.into_inner()) {
            (None, Ok(sink)) => sink.hash.finalize().into(),
            (failed, _) => Sha256::digest(failed.unwrap_or_default()).into(),
        }
    }
}

fn encode(state: &State, writer: &mut impl Write) -> Result<(), SnapshotError> {
    let mut serializer = rmp_serde::Serializer::new(writer).with_struct_map();
    state.serialize(&mut serializer).map_err(|error| SnapshotError::Io(io::Error::other(error)))
}

/// Too short a file is foreign or cut: its reader needs to know which, not that a read failed.
fn header<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(short)?;
    Ok(bytes)
}

fn short(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it ends too early".into()),
        _ => SnapshotError::Io(error),
    }
}

fn decode_error(error: rmp_serde::decode::Error) -> SnapshotError {
    match error {
        rmp_serde::decode::Error::InvalidMarkerRead(error) | rmp_serde::decode::Error::InvalidDataRead(error) => {
            short(error)
        }
        other => SnapshotError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, testing::*};
    use proptest::prelude::*;

    fn bytes(state: &State) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.write_snapshot(&mut bytes).unwrap();
        bytes
    }

    fn sample() -> State {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        let mut keyed = place(2, 1);
        keyed.idempotency = key("k", 1);
        check_place(&mut state, keyed, crate::PlaceOutcome::Created(id(2)));
        check(&mut state, &set_deadline(1, 100), &crate::Outcome::Done);
        state
    }

    #[test]
    fn a_restored_state_is_the_same_and_goes_on_the_same() {
        let mut state = sample();
        let mut restored = State::read_snapshot(bytes(&state).as_slice()).unwrap();
        assert_eq!(restored, state);
        for state in [&mut state, &mut restored] {
            check_one(state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        }
        assert_eq!(restored.digest(), state.digest());
        assert_ne!(restored.digest(), sample().digest());
    }

    #[test]
    fn fields_of_a_newer_release_are_passed_over_and_missing_ones_get_defaults() {
        #[derive(Serialize)]
        struct Newer<'a> {
            invented: Vec<&'a str>,
            cluster: Option<plimsoll_types::ClusterId>,
            hosts: &'a std::collections::BTreeMap<plimsoll_types::HostId, NewerHost<'a>>,
            next_host: u32,
        }
        #[derive(Serialize)]
        struct NewerHost<'a> {
            invented: u8,
            #[serde(flatten)]
            host: &'a crate::Host,
        }
        let state = cluster_with(1);
        let hosts = state.hosts.iter().map(|(id, host)| (*id, NewerHost { invented: 1, host })).collect();
        let newer = Newer { invented: vec!["x"], cluster: state.cluster, hosts: &hosts, next_host: 1 };
        let body = rmp_serde::to_vec_named(&newer).unwrap();
        let parts = [&MAGIC[..], &VERSION.to_be_bytes(), &body, &Sha256::digest(&body)].concat();
        let read = State::read_snapshot(parts.as_slice()).unwrap();
        assert_eq!((&read.hosts, read.cluster), (&state.hosts, state.cluster));
        sound(&read);
    }

    #[test]
    fn foreign_newer_cut_and_damaged_snapshots_are_told_apart() {
        let good = bytes(&sample());
        assert!(matches!(State::read_snapshot(&b"SQLite format 3\0"[..]), Err(SnapshotError::Foreign)));
        let mut older = good.clone();
        older[11] = 1;
        assert_eq!(State::read_snapshot(older.as_slice()).unwrap(), sample());
        let mut newer = good.clone();
        newer[11] = 9;
        assert!(matches!(State::read_snapshot(newer.as_slice()), Err(SnapshotError::Version(9))));
        for cut in 0..good.len() {
            let error = State::read_snapshot(&good[..cut]).expect_err("cut short");
            assert!(matches!(error, SnapshotError::Damaged(_)), "cut at {cut}: {error:?}");
        }
        for place in 12..good.len() {
            let mut flipped = good.clone();
            flipped[place] ^= 1;
            assert!(State::read_snapshot(flipped.as_slice()).is_err(), "flipped at {place}");
        }
        let longer = [good.as_slice(), b"x"].concat();
        assert!(matches!(State::read_snapshot(longer.as_slice()), Err(SnapshotError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(garbage in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(State::read_snapshot(garbage.as_slice()).is_err());
            let dressed = [&MAGIC[..], &VERSION.to_be_bytes(), &garbage].concat();
            prop_assert!(State::read_snapshot(dressed.as_slice()).is_err());
        }
    }
}
