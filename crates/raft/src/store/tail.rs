//! The log's recent end in memory: what was appended but is not in sled yet, and what is likely to be read again.
//!
//! It is also where reads learn how far the log reaches; sled may still hold entries that were purged or truncated.

use crate::types::{Entry, LogId, Payload, Vote};
use std::collections::VecDeque;

/// Entries kept in memory. Followers that lag by less are served without reading sled; more would only cost memory.
const KEPT_ENTRIES: usize = 8_192;
/// Bytes kept in memory, whatever their number.
const KEPT_BYTES: usize = 32 << 20;

#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries from this index on are not in sled yet and must stay here.
    unwritten: u64,
    /// The first entry of the log, in memory or not.
    start: u64,
    /// The last entry, or the last purged one if there is none.
    pub(crate) last: Option<LogId>,
    /// Everything up to here is gone.
    pub(crate) purged: Option<LogId>,
    /// The vote on disk.
    pub(crate) vote: Option<Vote>,
    /// Counts truncations, so that a reader notices one that happened while it read.
    pub(crate) truncations: u64,
}

/// What opening a log found in it.
pub(crate) struct Found {
    /// The first entry's index.
    pub(crate) start: u64,
    /// The last entries.
    pub(crate) entries: Vec<Entry>,
    /// The last entry, or the last purged one.
    pub(crate) last: Option<LogId>,
}

/// What an entry costs in memory.
pub(crate) fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Blank => 0,
        Payload::Normal(proposal) => proposal.0.len(),
        Payload::Membership(_) => 1024,
    };
    payload + 64
}

pub(crate) fn next(id: &Option<LogId>) -> u64 {
    id.as_ref().map_or(0, |id| id.index + 1)
}

impl Tail {
    /// The tail of a log that was just opened.
    pub(crate) fn opened(found: Found, purged: Option<LogId>, vote: Option<Vote>) -> Self {
        let Found { start, entries, last } = found;
        let unwritten = next(&last);
        let bytes = entries.iter().map(size).sum();
        let mut tail = Self { entries: entries.into(), bytes, unwritten, start, last, purged, vote, truncations: 0 };
        tail.evict();
        tail
    }

    /// The first index the log holds, and the one after the last.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.start, next(&self.last))
    }

    /// The first index that is in memory; the end of the log if none is.
    pub(crate) fn first(&self) -> u64 {
        self.entries.front().map_or_else(|| next(&self.last), |entry| entry.log_id.index)
    }

    /// Adds entries. `false` if they would leave a hole; then nothing was added.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        // A log that never held anything may start anywhere.
        if self.last.is_none() {
            self.start = entries.first().map_or(0, |entry| entry.log_id.index);
        }
        let expected = if self.last.is_none() { self.start } else { next(&self.last) };
        if (expected..).zip(entries).any(|(expected, entry)| entry.log_id.index != expected) {
            return false;
        }
        for entry in entries {
            self.bytes += size(entry);
            self.last = Some(entry.log_id);
            self.entries.push_back(entry.clone());
        }
        true
    }

    /// Notes that everything before `index` is in sled.
    pub(crate) fn written(&mut self, index: u64) {
        self.unwritten = index;
        self.evict();
    }

    /// Forgets everything after `last`.
    pub(crate) fn truncate(&mut self, last: Option<LogId>) {
        self.truncations += 1;
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= next(&last)) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, size);
        }
        self.unwritten = self.unwritten.min(next(&last));
        self.last = last.min(self.last).max(self.purged);
        self.start = self.start.min(next(&self.last));
    }

    /// Forgets everything up to `upto`.
    pub(crate) fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(self.purged);
        self.start = self.start.max(upto.index + 1);
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, size);
        }
        self.unwritten = self.unwritten.max(upto.index + 1);
    }

    /// Entries of a range that starts in memory, until `most` bytes are exceeded.
    pub(crate) fn read(&self, start: u64, end: u64, most: usize) -> Vec<Entry> {
        let skip = usize::try_from(start.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let mut left = most;
        let mut entries = Vec::new();
        for entry in self.entries.iter().skip(skip).take_while(|entry| entry.log_id.index < end) {
            entries.push(entry.clone());
            left = left.saturating_sub(size(entry));
            if left == 0 {
                break;
            }
        }
        entries
    }

    fn evict(&mut self) {
        while self.entries.len() > KEPT_ENTRIES || self.bytes > KEPT_BYTES {
            match self.entries.front() {
                Some(entry) if entry.log_id.index < self.unwritten => {
                    self.bytes -= self.entries.pop_front().as_ref().map_or(0, size);
                }
                Some(_) | None => return,
            }
        }
    }
}
