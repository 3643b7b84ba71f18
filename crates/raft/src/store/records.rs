//! How log entries and marks are laid out as keys and values.
//!
//! An entry is MessagePack with named fields, cut into parts: sled writes large pages to separate files ("blobs") which it
//! never syncs, and parts this small keep pages below that size.

use super::kv::{Batch, Kv};
use crate::types::Entry;
use serde::{Serialize, de::DeserializeOwned};
use std::{io, ops::Range};

/// Bytes of one part. sled moves pages above 128 KiB (a quarter of a segment) to such files; a leaf holds at most 17 values
/// before it splits, or 20 after a merge, and 20 of these are 100 KiB. The largest command makes 820 of them.
pub(crate) const PART_BYTES: usize = 5 << 10;

/// Pairs read from the store at once.
const SCAN_PAIRS: usize = 1024;

pub(crate) const VOTE: &[u8] = b"meta/vote";
pub(crate) const PURGED: &[u8] = b"meta/purged";
pub(crate) const COMMITTED: &[u8] = b"meta/committed";
pub(crate) const OWNER: &[u8] = b"meta/owner";

/// `log/`, the index, the part.
fn key(index: u64, part: u16) -> Vec<u8> {
    let mut key = b"log/".to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// The keys of these entries.
pub(crate) fn keys(indexes: Range<u64>) -> Range<Vec<u8>> {
    key(indexes.start, 0)..key(indexes.end, 0)
}

/// The index a key belongs to.
pub(crate) fn index_of(key: &[u8]) -> io::Result<u64> {
    key.get(4..12)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| damaged("a log key is malformed"))
}

pub(crate) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| damaged(&format!("a stored record cannot be read: {error}")))
}

/// Reads a mark.
pub(crate) fn mark<T: DeserializeOwned>(kv: &dyn Kv, key: &[u8]) -> io::Result<Option<T>> {
    kv.get(key)?.map(|bytes| decode(&bytes)).transpose()
}

/// Adds an entry to a batch. The first part opens with the number of parts.
pub(crate) fn put(batch: &mut Batch, entry: &Entry) -> io::Result<()> {
    let bytes = encode(entry)?;
    let parts = bytes.len().div_ceil(PART_BYTES);
    let count = u16::try_from(parts).map_err(|_| io::Error::other("a log entry is too large"))?;
    for (part, chunk) in (0u16..).zip(bytes.chunks(PART_BYTES)) {
        let mut value = Vec::with_capacity(chunk.len() + 2);
        if part == 0 {
            value.extend_from_slice(&count.to_be_bytes());
        }
        value.extend_from_slice(chunk);
        batch.put(key(entry.log_id.index, part), value);
    }
    Ok(())
}

/// Reads entries in order until `most` bytes are exceeded; at least one if there is one. Holes are errors.
pub(crate) fn read(kv: &dyn Kv, indexes: Range<u64>, most: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut at = keys(indexes);
    let mut open: Option<(u64, u16, Vec<u8>)> = None; // index, parts still missing, bytes
    let mut total = 0;
    loop {
        let pairs = kv.scan(at.clone(), SCAN_PAIRS)?;
        let more = pairs.len() == SCAN_PAIRS;
        for (key, value) in pairs {
            let index = index_of(&key)?;
            at.start = key;
            at.start.push(0); // The next key after this one.
            let (missing, mut bytes) = match open.take() {
                Some((same, missing, bytes)) if same == index => (missing, bytes),
                Some(_) => return Err(damaged(&format!("log entry before {index} is incomplete"))),
                None => {
                    let count = value.first_chunk::<2>().copied().map(u16::from_be_bytes).unwrap_or_default();
                    (count, Vec::new())
                }
            };
            bytes.extend_from_slice(if bytes.is_empty() { value.get(2..).unwrap_or_default() } else { &value });
            total += value.len();
            match missing {
                0 => return Err(damaged(&format!("log entry {index} is malformed"))),
                1 => entries.push(decode::<Entry>(&bytes)?),
                more => open = Some((index, more - 1, bytes)),
            }
            if total >= most && open.is_none() {
                return Ok(entries);
            }
        }
        if !more {
            break;
        }
    }
    if open.is_some() {
        return Err(damaged("the last log entry is incomplete"));
    }
    Ok(entries)
}
