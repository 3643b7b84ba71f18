//! The raft log as openraft sees it: appends return at once, everything else once it is on disk.

use super::{
    durable, files,
    guard::Guard,
    keeper::Keeper,
    kv::Kv,
    reader::LogReader,
    records, repair,
    tail::{Found, Tail, next},
    writer::{Job, Shared, Work, Writer},
};
use crate::{
    error::{Error, Result},
    identity::Owner,
    types::{Entry, LogId, TypeConfig, Vote},
};
use openraft::{
    LogState,
    storage::{IOFlushed, RaftLogStorage},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Weak,
        mpsc::{Sender, channel},
    },
};
use tokio::sync::{Semaphore, oneshot};

/// Jobs that may wait for the writer. Raft waits when they are used up; more would only hide a slow disk.
const QUEUE_JOBS: usize = 256;

/// Most bytes of entries loaded into memory when the log is opened.
const OPEN_BYTES: usize = 16 << 20;

/// A node's log and vote.
#[derive(Clone)]
pub(crate) struct LogStore {
    kv: Arc<dyn Kv>,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    jobs: Sender<Job>,
}

impl LogStore {
    /// Opens the log in `data_dir/log`, proves that it can be written durably and compares it with the guard.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged, foreign or forgetful log, [`Error::NotDurable`], [`Error::InUse`].
    pub(crate) fn open(data_dir: &Path, owner: Owner) -> Result<Self> {
        // sled notices some kinds of damage only by panicking, and some only when it first writes.
        catch_unwind(AssertUnwindSafe(|| Self::open_or_panic(data_dir, owner))).unwrap_or_else(|_| {
            Err(Error::Corrupt(format!("the log in {} is damaged: sled panicked while reading it", data_dir.display())))
        })
    }

    fn open_or_panic(data_dir: &Path, owner: Owner) -> Result<Self> {
        let dir = data_dir.join("log");
        files::create_dir(&dir)?;
        let kv: Arc<dyn Kv> = Arc::new(repair::open_sled(&dir)?);
        durable::prove(kv.as_ref())?;
        // sled syncs neither its `conf` nor the names of its files.
        for name in ["conf", "db"] {
            files::sync_file(&dir.join(name))?;
        }
        for dir in [&dir.join("blobs"), &dir, data_dir] {
            files::sync_dir(dir)?;
        }
        Self::start(kv, data_dir, owner)
    }

    /// Starts the writer on an opened store.
    pub(crate) fn start(kv: Arc<dyn Kv>, data_dir: &Path, owner: Owner) -> Result<Self> {
        let guard = Guard::open(data_dir, owner.cluster, owner.node)?;
        let damaged =
            |error: io::Error| Error::Corrupt(format!("the log in {} is damaged: {error}", data_dir.display()));
        claim(kv.as_ref(), owner)?;
        let purged: Option<LogId> = records::mark(kv.as_ref(), records::PURGED).map_err(damaged)?;
        let vote: Option<Vote> = records::mark(kv.as_ref(), records::VOTE).map_err(damaged)?;
        let committed: Option<LogId> = records::mark(kv.as_ref(), records::COMMITTED).map_err(damaged)?;
        let found = scan(kv.as_ref(), purged).map_err(damaged)?;
        let last = found.last;
        guard.check(vote.as_ref(), last.map(|id| id.index))?;

        let shared = Arc::new(Shared::new(Tail::opened(found, purged, vote), committed));
        let (jobs, queue) = channel();
        let writer = Writer {
            kv: Arc::clone(&kv),
            guard: Keeper::start(guard).map_err(|error| Error::io("cannot start the guard's thread", error))?,
            shared: Arc::clone(&shared),
            last: last.map(|id| id.index),
            committed_written: committed,
            purge_below: next(&purged),
        };
        std::thread::Builder::new()
            .name("plimsoll-log".into())
            .spawn(move || writer.run(&queue))
            .map_err(|error| Error::io("cannot start the log's thread", error))?;
        Ok(Self { kv, shared, permits: Arc::new(Semaphore::new(QUEUE_JOBS)), jobs })
    }

    /// What has been purged: the state machine must have a snapshot that covers it.
    pub(crate) fn purged(&self) -> Option<u64> {
        self.shared.tail().purged.map(|id| id.index)
    }

    /// Whether anything was ever written: a vote, an entry or a purge mark.
    pub(crate) fn is_pristine(&self) -> bool {
        let tail = self.shared.tail();
        tail.vote.is_none() && tail.last.is_none()
    }

    /// Tells when the store has been let go of entirely.
    pub(crate) fn alive(&self) -> Weak<dyn Kv> {
        Arc::downgrade(&self.kv)
    }

    async fn submit(&self, work: Work) -> io::Result<()> {
        // The semaphore bounds the channel; neither it nor the writer is ever closed while this end lives.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        self.jobs.send(Job { work, permit }).map_err(|_| io::Error::other("the log's thread has ended"))
    }

    async fn finish(&self, work: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Work) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.submit(work(done)).await?;
        answer.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }
}

/// Writes whose log this is, or checks it.
fn claim(kv: &dyn Kv, owner: Owner) -> Result<()> {
    let failed = |error: io::Error| Error::store("cannot read or write the log's owner", error);
    match records::mark::<Owner>(kv, records::OWNER).map_err(failed)? {
        Some(found) if found == owner => Ok(()),
        Some(found) => Err(Error::Corrupt(format!(
            "the log is of node {} of cluster {}, not of node {} of {}",
            found.node, found.cluster, owner.node, owner.cluster
        ))),
        None => {
            let mut batch = super::kv::Batch::default();
            batch.put(records::OWNER.to_vec(), records::encode(&owner).map_err(failed)?);
            kv.write(batch).and_then(|()| kv.flush()).map_err(failed)
        }
    }
}

/// Checks that the log has no hole and answers its end, as far as it fits into memory.
fn scan(kv: &dyn Kv, purged: Option<LogId>) -> io::Result<Found> {
    // A log that was never purged may start anywhere.
    let mut expected = purged.map(|id| id.index + 1);
    let (mut start, mut last) = (expected, purged);
    let mut kept: Vec<Entry> = Vec::new();
    loop {
        let entries = records::read(kv, expected.unwrap_or(0)..u64::MAX, OPEN_BYTES)?;
        let Some(end) = entries.last().map(|entry| entry.log_id) else {
            return Ok(Found { start: start.unwrap_or(0), entries: kept, last });
        };
        start = start.or(entries.first().map(|entry| entry.log_id.index));
        for entry in &entries {
            if expected.is_some_and(|expected| expected != entry.log_id.index) {
                return Err(records::damaged(&format!("there is a hole before entry {}", entry.log_id.index)));
            }
            expected = Some(entry.log_id.index + 1);
        }
        last = Some(end);
        kept = entries;
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let tail = self.shared.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(Arc::clone(&self.kv), Arc::clone(&self.shared))
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.finish(|done| Work::Vote { vote, done }).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut mark = self.shared.committed();
        *mark = (*mark).max(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(*self.shared.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if !self.shared.tail().append(&entries) {
            return Err(io::Error::other("an append would leave a hole in the log"));
        }
        self.submit(Work::Append { entries, flushed: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.shared.tail().truncate(last_log_id);
        self.finish(|done| Work::Truncate { last: last_log_id, done }).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.shared.tail().purge(log_id);
        self.finish(|done| Work::Purge { upto: log_id, done }).await
    }
}
