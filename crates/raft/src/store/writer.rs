//! The one thread that writes the log. Appends that arrive while it flushes share the next flush.
//!
//! It stops at the first error and fails everything after it: after a failed fsync nobody knows what is on disk.

use super::{
    keeper::Keeper,
    kv::{Batch, Kv},
    records,
    tail::{Tail, next},
};
use crate::{
    metrics,
    types::{Entry, LogId, TypeConfig, Vote},
};
use openraft::storage::IOFlushed;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Entries written with one flush at most, so that one flush cannot take for ever while callers wait.
const BATCH_ENTRIES: usize = 8_192;
/// Entries deleted at once when nothing else is to do: an append that comes meanwhile waits for it, about ten milliseconds for a thousand.
const PURGE_KEYS: usize = 256;
/// Entries deleted at once from the end: sled holds a whole batch in memory (500,000 deletions took 4.3 GB).
const TRUNCATE_KEYS: usize = 1_000;
/// Entries deleted along with an append: more than most appends bring, so that purging keeps up, and too few to hold one up.
const PURGE_RIDING: usize = 128;

/// What the thread is asked to do. Each holds a permit that bounds the queue.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) permit: OwnedSemaphorePermit,
}

pub(crate) enum Work {
    Append { entries: Vec<Entry>, flushed: IOFlushed<TypeConfig> },
    Vote { vote: Vote, done: Done },
    Truncate { last: Option<LogId>, done: Done },
    Purge { upto: LogId, done: Done },
}

pub(crate) type Done = oneshot::Sender<io::Result<()>>;

/// What the thread and the log's other half share.
#[derive(Default)]
pub(crate) struct Shared {
    tail: Mutex<Tail>,
    /// The last committed entry; written along with the next flush, never with one of its own.
    committed: Mutex<Option<LogId>>,
}

impl Shared {
    pub(crate) fn new(tail: Tail, committed: Option<LogId>) -> Self {
        Self { tail: Mutex::new(tail), committed: Mutex::new(committed) }
    }

    // A panic while the lock was held has ended the node already; what it guards is in memory only.
    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn committed(&self) -> MutexGuard<'_, Option<LogId>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Writer {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) guard: Keeper,
    pub(crate) shared: Arc<Shared>,
    /// The last entry on disk.
    pub(crate) last: Option<u64>,
    pub(crate) committed_written: Option<LogId>,
    /// Entries below this index are to be deleted, if not 0.
    pub(crate) purge_below: u64,
}

impl Writer {
    /// Runs until the queue's other end is dropped.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let mut failed: Option<String> = None;
        while let Some(jobs) = self.receive(queue) {
            if failed.is_none() {
                // sled panics on some kinds of damage; that is a storage error like any other.
                failed = match catch_unwind(AssertUnwindSafe(|| self.round(jobs))) {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("the store panicked".to_owned()),
                };
                if let Some(reason) = &failed {
                    tracing::error!(reason, "the log cannot be written; this node ends");
                }
            } else {
                for job in jobs {
                    job.work.answer(Err(stopped(&failed)));
                }
            }
        }
        if failed.is_none()
            && let Err(error) = self.settle()
        {
            tracing::error!(%error, "the guard could not be written at shutdown");
        }
    }

    /// Waits for work; an empty round is for what can wait until nothing else does. `None` when the queue has ended.
    fn receive(&self, queue: &Receiver<Job>) -> Option<Vec<Job>> {
        let first = if self.purge_below > 0 {
            match queue.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return None,
            }
        } else {
            match queue.recv_timeout(super::guard::STEP_TIME) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        let mut jobs = Vec::new();
        let mut entries = 0;
        let mut next = first;
        while let Some(job) = next {
            if let Work::Append { entries: more, .. } = &job.work {
                entries += more.len();
            }
            jobs.push(job);
            next = if entries < BATCH_ENTRIES { queue.try_recv().ok() } else { None };
        }
        Some(jobs)
    }

    fn round(&mut self, jobs: Vec<Job>) -> io::Result<()> {
        let mut group = Vec::new();
        let mut jobs = jobs.into_iter();
        let result = (|| {
            for Job { work, permit } in jobs.by_ref() {
                drop(permit);
                match work {
                    Work::Append { entries, flushed } => group.push((entries, flushed)),
                    Work::Vote { vote, done } => self.alone(&mut group, done, |writer| writer.vote(vote))?,
                    Work::Truncate { last, done } => self.alone(&mut group, done, |writer| writer.truncate(last))?,
                    Work::Purge { upto, done } => self.alone(&mut group, done, |writer| writer.purge(upto))?,
                }
            }
            if group.is_empty() {
                self.append(&mut group)?;
                if self.purge_some(PURGE_KEYS)? {
                    self.flush()?;
                }
            } else {
                // It goes with the flush of what is appended.
                self.purge_some(PURGE_RIDING)?;
                self.append(&mut group)?;
            }
            self.guard.advance(self.last)
        })();
        if let Err(error) = &result {
            let failed = Some(error.to_string());
            let rest = group.into_iter().map(|(entries, flushed)| Work::Append { entries, flushed });
            for work in rest.chain(jobs.map(|job| job.work)) {
                work.answer(Err(stopped(&failed)));
            }
        }
        result
    }

    /// Writes what was gathered, then does one thing by itself and answers it.
    fn alone(
        &mut self,
        group: &mut Vec<(Vec<Entry>, IOFlushed<TypeConfig>)>,
        done: Done,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let result = self.append(group).and_then(|()| work(self));
        let answer = result.as_ref().map_err(|error| stopped(&Some(error.to_string()))).copied();
        // Whoever asked may have given up; the work is done all the same.
        let _ = done.send(answer);
        result
    }

    /// One batch, one flush, then the callbacks.
    fn append(&mut self, group: &mut Vec<(Vec<Entry>, IOFlushed<TypeConfig>)>) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut count = 0usize;
        let mut last = self.last;
        for (entries, _) in group.iter() {
            for entry in entries {
                records::put(&mut batch, entry)?;
                last = Some(entry.log_id.index);
            }
            count += entries.len();
        }
        let committed = self.take_committed(last)?;
        if let Some((_, bytes)) = &committed {
            batch.put(records::COMMITTED.to_vec(), bytes.clone());
        }
        if batch.is_empty() && group.is_empty() {
            return Ok(());
        }
        let result = self.kv.write(batch).and_then(|()| if count > 0 { self.flush() } else { Ok(()) });
        if let Err(error) = result {
            let failed = Some(error.to_string());
            group.drain(..).for_each(|(_, flushed)| flushed.io_completed(Err(stopped(&failed))));
            return Err(error);
        }
        if count > 0 {
            metrics::batch(count);
            self.last = last;
            self.shared.tail().written(next_index(last));
        }
        if let Some((id, _)) = committed {
            self.committed_written = Some(id);
        }
        group.drain(..).for_each(|(_, flushed)| flushed.io_completed(Ok(())));
        Ok(())
    }

    /// The committed mark, if it is news and all it covers is written with it or before it.
    fn take_committed(&self, last: Option<u64>) -> io::Result<Option<(LogId, Vec<u8>)>> {
        let committed = *self.shared.committed();
        match committed {
            Some(id) if committed > self.committed_written && Some(id.index) <= last => {
                Ok(Some((id, records::encode(&id)?)))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn vote(&mut self, vote: Vote) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.put(records::VOTE.to_vec(), records::encode(&vote)?);
        self.kv.write(batch)?;
        self.flush()?;
        // The guard comes second: a crash in between leaves it behind sled, which is allowed.
        self.guard.now(|guard| guard.promise_vote(vote))?;
        self.shared.tail().vote = Some(vote);
        Ok(())
    }

    /// Deletes from the end backwards, so that a crash in the middle leaves no hole.
    fn truncate(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = next(&last);
        // The guard comes first: a crash in between leaves it behind sled, which is allowed.
        self.guard.now(|guard| guard.retreat(last.map(|id| id.index)))?;
        loop {
            let mut keys = self.kv.keys_back(records::keys(from..u64::MAX), TRUNCATE_KEYS)?;
            let Some(lowest) = keys.last().map(|key| records::index_of(key)).transpose()? else { break };
            if keys.len() == TRUNCATE_KEYS {
                // Entries go whole: the lowest may have parts that were not listed. It has fewer parts than a chunk has keys.
                keys.retain(|key| records::index_of(key).is_ok_and(|index| index > lowest));
            }
            let mut batch = Batch::default();
            keys.into_iter().for_each(|key| batch.delete(key));
            self.kv.write(batch)?;
            self.flush()?;
        }
        self.last = self.last.min(last.map(|id| id.index));
        Ok(())
    }

    /// The mark first; the entries below it are garbage from then on and go little by little.
    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.put(records::PURGED.to_vec(), records::encode(&upto)?);
        self.kv.write(batch)?;
        self.flush()?;
        self.last = self.last.max(Some(upto.index));
        self.purge_below = self.purge_below.max(upto.index + 1);
        Ok(())
    }

    /// Deletes some of what was purged, the last of it first: all of it is garbage. True if there was something to delete.
    fn purge_some(&mut self, most: usize) -> io::Result<bool> {
        if self.purge_below == 0 {
            return Ok(false);
        }
        let keys = self.kv.keys_back(records::keys(0..self.purge_below), most)?;
        if keys.is_empty() {
            self.purge_below = 0;
            return Ok(false);
        }
        let mut batch = Batch::default();
        keys.into_iter().for_each(|key| batch.delete(key));
        self.kv.write(batch)?;
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.append(&mut Vec::new())?;
        self.flush()?;
        self.guard.now(|guard| guard.settle(self.last))
    }

    fn flush(&self) -> io::Result<()> {
        let start = Instant::now();
        self.kv.flush()?;
        metrics::flush(start.elapsed());
        Ok(())
    }
}

impl Work {
    fn answer(self, result: io::Result<()>) {
        match self {
            Self::Append { flushed, .. } => flushed.io_completed(result),
            Self::Vote { done, .. } | Self::Truncate { done, .. } | Self::Purge { done, .. } => {
                let _ = done.send(result);
            }
        }
    }
}

fn next_index(last: Option<u64>) -> u64 {
    last.map_or(0, |index| index + 1)
}

/// The error that everything after a failure gets.
fn stopped(reason: &Option<String>) -> io::Error {
    io::Error::other(format!("the log store failed: {}", reason.as_deref().unwrap_or("unknown reason")))
}
