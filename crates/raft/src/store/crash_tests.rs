//! What must hold after a crash: the store is copied while it is being written, damaged, wiped and swapped, and opened again.

use super::{
    guard::Guard,
    kv::{Batch, Kv, Pairs, SledKv},
    log::LogStore,
    repair,
    suite_tests::OWNER,
};
use crate::{
    error::Error,
    identity::Owner,
    types::{Entry, LeaderId, LogId, Payload, Proposal, TypeConfig, Vote},
};
use openraft::{
    RaftLogReader,
    storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt},
    vote::RaftLeaderIdExt,
};
use plimsoll_types::NodeId;
use std::{
    fs, io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new_committed(term, 1), index)
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let byte = u8::try_from(index % 251).unwrap();
    Entry { log_id: id(term, index), payload: Payload::Normal(Proposal(vec![byte; bytes].into())) }
}

fn new_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Guard::create(dir.path(), OWNER.cluster, OWNER.node).unwrap();
    dir
}

fn open(dir: &Path) -> Result<LogStore, Error> {
    LogStore::open(dir, OWNER)
}

async fn fill(store: &mut LogStore, indexes: Range<u64>, bytes: usize) {
    for start in indexes.clone().step_by(100) {
        let entries = (start..(start + 100).min(indexes.end)).map(|index| entry(1, index, bytes));
        store.blocking_append(entries).await.unwrap();
    }
}

async fn check(store: &mut LogStore, indexes: Range<u64>, bytes: usize) {
    let entries = store.get_log_reader().await.try_get_log_entries(0..u64::MAX).await.unwrap();
    let expected: Vec<_> = indexes.map(|index| entry(1, index, bytes)).collect();
    assert_eq!(entries.len(), expected.len());
    assert!(entries == expected, "every entry reads back as it was written");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        // A file may be renamed while its folder is read; it is found under its other name then or was not needed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_all_sizes_survive_reopening() {
    for bytes in [0, 1, 5 << 10, (5 << 10) + 1, 200_000] {
        let dir = new_dir();
        let mut store = open(dir.path()).unwrap();
        fill(&mut store, 1..40, bytes).await;
        check(&mut store, 1..40, bytes).await;
        drop(store);
        check(&mut open(dir.path()).unwrap(), 1..40, bytes).await;
    }
}

/// A process that is killed leaves what it wrote to files, and nothing else: so a copy of the files, taken at any moment, must
/// hold whatever had been acknowledged before the copy began.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_a_copy_taken_at_any_moment() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    store.save_vote(&Vote::new(3, 1)).await.unwrap();
    let (acknowledged, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (acknowledged, done) = (Arc::clone(&acknowledged), Arc::clone(&done));
        tokio::spawn(async move {
            for index in 1.. {
                store.blocking_append([entry(1, index, 300)]).await.unwrap();
                acknowledged.store(index, Ordering::SeqCst);
                if index % 500 == 0 {
                    store.purge(id(1, index - 100)).await.unwrap();
                }
                if done.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    };
    let mut checked = 0;
    for round in 1..=12 {
        while acknowledged.load(Ordering::SeqCst) < round * 150 {
            tokio::task::yield_now().await;
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        let mut copied = match open(image.path()) {
            Ok(store) => store,
            // A copy is not a snapshot: sled's file can be torn in a way that no crash makes. It must then say so.
            Err(error @ Error::Corrupt(_)) => {
                assert!(error.to_string().contains("damaged"), "{error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let state = copied.get_log_state().await.unwrap();
        assert!(
            state.last_log_id.unwrap().index >= before,
            "acknowledged up to {before}, found {:?}",
            state.last_log_id
        );
        assert_eq!(copied.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
        checked += 1;
    }
    done.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(checked >= 6, "only {checked} of 12 copies could be opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_sled_snapshot_is_moved_aside_and_a_whole_one_is_not() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 1..3_000, 200).await;
    drop(store);
    drop(open(dir.path()).unwrap());
    // sled writes one when it opens a folder with a log.
    let log = dir.path().join("log");
    let snaps = || -> Vec<_> {
        let names = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("snap.")).collect()
    };
    wait_released(dir.path());
    let whole = snaps();
    assert!(whole.iter().any(|name| name.starts_with("snap.")), "{whole:?}");
    repair::open_sled(&log).map(drop).unwrap();
    assert!(!snaps().iter().any(|name| name.starts_with("damaged-")), "a whole one stays");

    for name in snaps() {
        let file = fs::OpenOptions::new().write(true).open(log.join(name)).unwrap();
        file.set_len(5).unwrap();
    }
    assert!(SledKv::open(&log).is_err(), "sled alone does not open");
    check(&mut open(dir.path()).unwrap(), 1..3_000, 200).await;
    assert!(snaps().iter().any(|name| name.starts_with("damaged-")));
}

/// Returns once the folder can be opened by another: what the writer had left to do is done then.
fn wait_released(dir: &Path) {
    repair::open_sled(&dir.join("log")).map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_or_older_log_behind_a_guard_is_refused() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 1..50, 100).await;
    drop(store);
    wait_released(dir.path());
    let older = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), older.path());

    let mut store = open(dir.path()).unwrap();
    store.save_vote(&Vote::new(7, 1)).await.unwrap();
    fill(&mut store, 50..60, 100).await;
    drop(store);
    wait_released(dir.path());

    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let error = open(dir.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("forgotten its vote") && error.contains("join again"), "{error}");

    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(older.path(), &dir.path().join("log"));
    let error = open(dir.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("forgotten its vote"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_is_refused_but_a_truncated_one_is_not() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 1..50, 100).await;
    drop(store);
    wait_released(dir.path());
    let older = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), older.path());
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 50..100, 100).await;
    drop(store);
    wait_released(dir.path());
    let newer = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), newer.path());

    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(older.path(), &dir.path().join("log"));
    let error = open(dir.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("acknowledged entry 99") && error.contains("ends at entry 49"), "{error}");

    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(newer.path(), &dir.path().join("log"));
    let mut store = open(dir.path()).unwrap();
    store.truncate_after(Some(id(1, 20))).await.unwrap();
    drop(store);
    check(&mut open(dir.path()).unwrap(), 1..21, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_follows_votes_at_once_and_the_log_in_steps() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    let promise = || Guard::open(dir.path(), OWNER.cluster, OWNER.node).unwrap().promise().clone();
    store.save_vote(&Vote::new(5, 2)).await.unwrap();
    assert_eq!(promise().vote, Some(Vote::new(5, 2)), "on disk before the vote is answered");
    fill(&mut store, 1..9_000, 10).await;
    let start = std::time::Instant::now();
    while promise().last_index.is_none_or(|index| index <= 4_000) {
        assert!(start.elapsed().as_secs() < 20, "it is renewed beside the appends: {:?}", promise());
        std::thread::yield_now();
    }
    drop(store);
    wait_released(dir.path());
    assert_eq!(promise().last_index, Some(8_999), "exact after a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_folder_is_refused() {
    let dir = new_dir();
    drop(open(dir.path()).unwrap());
    wait_released(dir.path());
    let stranger = Owner { node: NodeId(2), ..OWNER };
    let error = LogStore::open(dir.path(), stranger).map(drop).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "the guard is another node's: {error}");
    Guard::create(dir.path(), stranger.cluster, stranger.node).unwrap();
    wait_released(dir.path());
    let error = LogStore::open(dir.path(), stranger).map(drop).unwrap_err().to_string();
    assert!(error.contains("the log is of node 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_many_entries_survives_reopening_at_any_point() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 1..12_000, 50).await;
    store.purge(id(1, 11_500)).await.unwrap();
    // The mark is on disk and the entries go in the background: an image taken now holds most of them still.
    let image = tempfile::tempdir().unwrap();
    drop(store);
    wait_released(dir.path());
    copy(dir.path(), image.path());
    for dir in [dir.path(), image.path()] {
        let mut store = open(dir).unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 11_500)), Some(id(1, 11_999))));
        check(&mut store, 11_501..12_000, 50).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_a_lost_node_and_no_panic() {
    let dir = new_dir();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store, 1..5_000, 300).await;
    drop(store);
    wait_released(dir.path());
    let db = dir.path().join("log/db");
    let mut content = fs::read(&db).unwrap();
    let whole = content.clone();
    // Damage of different density and place makes sled fail in different ways.
    for (skip, step) in [(1_000, 97), (0, 4_099), (100_000, 13), (300_000, 997)] {
        content.clone_from(&whole);
        content.iter_mut().skip(skip).step_by(step).for_each(|byte| *byte ^= 0x5a);
        fs::write(&db, &content).unwrap();
        let error = open(dir.path()).map(drop).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{skip} {step}: {error}");
    }
}

/// A store whose flush can be made to fail or to wait.
struct Failing {
    kv: SledKv,
    broken: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    flushes: Arc<AtomicU64>,
}

impl Kv for Failing {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.kv.get(key)
    }

    fn scan(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Pairs> {
        self.kv.scan(keys, limit)
    }

    fn keys_back(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Vec<Vec<u8>>> {
        self.kv.keys_back(keys, limit)
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        self.kv.write(batch)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if self.broken.load(Ordering::SeqCst) {
            Err(io::Error::other("no space left on the disk"))
        } else {
            self.kv.flush()
        }
    }
}

/// A log on a store that a test can break, hold and count.
struct Rig {
    store: LogStore,
    broken: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    flushes: Arc<AtomicU64>,
}

fn rig(dir: &Path) -> Rig {
    let (broken, held, flushes) = (Arc::default(), Arc::default(), Arc::default());
    fs::create_dir_all(dir.join("log")).unwrap();
    let kv = Failing {
        kv: SledKv::open(&dir.join("log")).unwrap(),
        broken: Arc::clone(&broken),
        held: Arc::clone(&held),
        flushes: Arc::clone(&flushes),
    };
    Rig { store: LogStore::start(Arc::new(kv), dir, OWNER).unwrap(), broken, held, flushes }
}

/// A callback for an append, and what tells that it was called.
fn callback() -> (IOFlushed<TypeConfig>, tokio::sync::oneshot::Receiver<io::Result<()>>) {
    let (sent, flushed) = <TypeConfig as openraft::type_config::TypeConfigExt>::oneshot::<io::Result<()>>();
    (IOFlushed::signal(sent), flushed)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_its_flush_is_under_way() {
    let dir = new_dir();
    let Rig { mut store, held, flushes, .. } = rig(dir.path());
    let before = flushes.load(Ordering::SeqCst);
    held.store(true, Ordering::SeqCst);
    let (sent, mut flushed) = callback();
    store.append([entry(1, 1, 10)], sent).await.unwrap();
    while flushes.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    let early = flushed.try_recv();
    held.store(false, Ordering::SeqCst);
    assert!(early.is_err(), "acknowledged before it was on disk");
    flushed.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_flush_nothing_is_acknowledged_or_tried_again() {
    let dir = new_dir();
    let Rig { mut store, broken, flushes, .. } = rig(dir.path());
    fill(&mut store, 1..10, 10).await;
    broken.store(true, Ordering::SeqCst);
    store.blocking_append([entry(1, 10, 10)]).await.unwrap_err();
    broken.store(false, Ordering::SeqCst);
    let before = flushes.load(Ordering::SeqCst);
    store.blocking_append([entry(1, 11, 10)]).await.unwrap_err();
    store.save_vote(&Vote::new(9, 1)).await.unwrap_err();
    store.purge(id(1, 5)).await.unwrap_err();
    assert_eq!(flushes.load(Ordering::SeqCst), before, "the disk is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_whose_flush_fails_is_not_answered() {
    let dir = new_dir();
    let Rig { mut store, broken, .. } = rig(dir.path());
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    store.save_vote(&Vote::new(2, 1)).await.unwrap_err();
    assert_eq!(store.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(1, 1)));
    let promise = Guard::open(dir.path(), OWNER.cluster, OWNER.node).unwrap().promise().clone();
    assert_eq!(promise.vote, Some(Vote::new(1, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_share_a_flush() {
    let dir = new_dir();
    let Rig { mut store, flushes, .. } = rig(dir.path());
    let before = flushes.load(Ordering::SeqCst);
    let mut waiting = Vec::new();
    for index in 1..=200 {
        let (sent, flushed) = callback();
        store.append([entry(1, index, 100)], sent).await.unwrap();
        waiting.push(flushed);
    }
    for flushed in waiting {
        flushed.await.unwrap().unwrap();
    }
    let used = flushes.load(Ordering::SeqCst) - before;
    assert!(used < 100, "200 appends took {used} flushes");
}
