//! Reading the log: from memory where possible, else from sled.
//!
//! Reads of sled happen on the caller's task: they are of a bounded size, and mostly served from its cache.

use super::{kv::Kv, records, writer::Shared};
use crate::types::{Entry, TypeConfig, Vote};
use futures_util::{Stream, TryStreamExt, stream};
use openraft::RaftLogReader;
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// Bytes of entries sent to a peer at once, except that one larger entry goes alone. Fits a frame of the peer protocol.
const SEND_BYTES: usize = 4 << 20;

/// Reads the log while others write it.
#[derive(Clone)]
pub(crate) struct LogReader {
    kv: Arc<dyn Kv>,
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(kv: Arc<dyn Kv>, shared: Arc<Shared>) -> Self {
        Self { kv, shared }
    }

    fn read(&self, start: u64, end: u64, most: usize) -> io::Result<Vec<Entry>> {
        loop {
            let (from, to, until, truncations) = {
                let tail = self.shared.tail();
                let (first, last) = tail.bounds();
                let (from, to) = (start.max(first), end.min(last));
                if from >= tail.first() {
                    return Ok(tail.read(from, to, most));
                }
                (from, to, to.min(tail.first()), tail.truncations)
            };
            if from >= to {
                return Ok(Vec::new());
            }
            let mut entries = records::read(self.kv.as_ref(), from..until, most)?;
            let tail = self.shared.tail();
            if tail.truncations != truncations {
                continue; // What was read may belong to another leader's log by now.
            }
            // Entries that were purged meanwhile may be missing from the front.
            entries.retain(|entry| entry.log_id.index >= tail.bounds().0);
            let contiguous = entries.windows(2).all(|pair| pair[0].log_id.index + 1 == pair[1].log_id.index);
            let reached = entries.last().map_or(from, |entry| entry.log_id.index + 1);
            let bytes: usize = entries.iter().map(super::tail::size).sum();
            if !contiguous || (reached < until && bytes < most && reached >= tail.bounds().0 && tail.bounds().0 <= from)
            {
                return Err(records::damaged(&format!("the log has a hole after entry {reached}")));
            }
            if reached == until && until < to && bytes < most {
                if tail.first() > until {
                    drop(tail);
                    entries.extend(self.read(until, to, most - bytes)?); // The tail moved on meanwhile.
                } else {
                    entries.extend(tail.read(until, to, most - bytes));
                }
            }
            return Ok(entries);
        }
    }
}

/// A range as its first index and the one after its last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX)
    }

    /// Piece by piece: what is applied at once may be larger than memory should hold.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = bounds(&range);
        let reader = self.clone();
        let pieces = stream::try_unfold((reader, start), move |(reader, start)| async move {
            let entries = if start < end { reader.read(start, end, SEND_BYTES)? } else { Vec::new() };
            let Some(last) = entries.last() else { return io::Result::Ok(None) };
            let next = last.log_id.index + 1;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (reader, next))))
        });
        Box::pin(pieces.try_flatten())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, SEND_BYTES)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.tail().vote)
    }
}
