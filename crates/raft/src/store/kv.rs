//! The little that the log needs of a key-value store, and sled as one.
//!
//! It is a trait so that sled stays replaceable and tests can make it fail. Nothing but this file and [`super::repair`] knows
//! sled.

use std::{io, ops::Range, path::Path};

/// Writes that become durable together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    operations: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.operations.push((key, Some(value)));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.operations.push((key, None));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// Keys and values.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An ordered key-value store. Writes are visible at once and durable after [`Kv::flush`], in the order they were made: what
/// survives a crash is everything flushed and perhaps a prefix of the rest.
pub(crate) trait Kv: Send + Sync + 'static {
    /// One value.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Pairs in key order, at most `limit`.
    fn scan(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Pairs>;

    /// Keys in reverse order, at most `limit`.
    fn keys_back(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Vec<Vec<u8>>>;

    /// Applies a batch.
    fn write(&self, batch: Batch) -> io::Result<()>;

    /// Returns once everything written before is on disk. After an error the store must not be used again.
    fn flush(&self) -> io::Result<()>;
}

/// sled's page cache in bytes: the log's recent end is cached above it, so this only serves lagging peers.
const CACHE_BYTES: u64 = 64 << 20;

/// sled in a folder.
pub(crate) struct SledKv {
    db: sled::Db,
}

impl SledKv {
    pub(crate) fn open(dir: &Path) -> sled::Result<Self> {
        // Flushes are ours to make; a background flusher would only compete with them.
        let db = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
        Ok(Self { db })
    }
}

impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.db.get(key).map_err(plain)?.map(|value| value.to_vec()))
    }

    fn scan(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Pairs> {
        let mut pairs = Vec::new();
        for pair in self.db.range(keys).take(limit) {
            let (key, value) = pair.map_err(plain)?;
            pairs.push((key.to_vec(), value.to_vec()));
        }
        Ok(pairs)
    }

    fn keys_back(&self, keys: Range<Vec<u8>>, limit: usize) -> io::Result<Vec<Vec<u8>>> {
        let keys = self.db.range(keys).rev().take(limit).map(|pair| pair.map(|(key, _)| key.to_vec()));
        keys.collect::<sled::Result<_>>().map_err(plain)
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut ours = sled::Batch::default();
        for (key, value) in batch.operations {
            match value {
                Some(value) => ours.insert(key, value),
                None => ours.remove(key),
            }
        }
        self.db.apply_batch(ours).map_err(plain)
    }

    fn flush(&self) -> io::Result<()> {
        self.db.flush().map(|_| ()).map_err(plain)
    }
}

/// What the disk refused stays what it is; everything else sled complains of is damage.
fn plain(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
