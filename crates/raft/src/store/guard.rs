//! The amnesia guard: a small synced file outside sled that says what this node promised.
//!
//! **What it guarantees.** Whenever the node answers a vote, the guard on disk holds that vote. It also holds a lower bound of
//! the last log index: at most [`STEP_ENTRIES`] entries or [`STEP_TIME`], and what a renewal takes, behind what was acknowledged, whichever
//! comes first, and lowered before a legitimate truncation. So if sled opens with an older vote, or with a log that ends before that
//! bound, sled has lost something it had flushed, and the node refuses to run instead of voting twice or helping to lose a
//! committed entry. **What it cannot see:** a sled folder that lost less than one step and no vote, and a data folder that was
//! replaced as a whole, guard included, by an older copy of itself. A node whose folder was lost as a whole has no identity
//! either and can only join again under a new id.
//!
//! The bound is not written with every append, because that would cost each a second sync; [`super::keeper`] renews it beside them.

use super::files;
use crate::{
    error::{Error, Result},
    types::Vote,
};
use plimsoll_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Entries after which the bound is renewed. Larger hides a larger loss, smaller costs more syncs under load.
pub(crate) const STEP_ENTRIES: u64 = 4_096;
/// Time after which the bound is renewed if the log has grown.
pub(crate) const STEP_TIME: Duration = Duration::from_secs(1);

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promise {
    pub(crate) version: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// The last vote that was answered.
    pub(crate) vote: Option<Vote>,
    /// The log reached at least this far.
    pub(crate) last_index: Option<u64>,
}

/// The file and what it says.
#[derive(Debug)]
pub(crate) struct Guard {
    path: PathBuf,
    promise: Promise,
    /// How far the log reaches on disk: what the bound is renewed to. Never above the log's end.
    reached: Option<u64>,
    renewed: Instant,
}

impl Guard {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("guard")
    }

    /// Writes the guard of a node that has promised nothing yet.
    pub(crate) fn create(data_dir: &Path, cluster: ClusterId, node: NodeId) -> Result<()> {
        let promise = Promise { version: 1, cluster, node, vote: None, last_index: None };
        Self { path: Self::path(data_dir), promise, reached: None, renewed: Instant::now() }.save()
    }

    /// Reads the guard of this node.
    pub(crate) fn open(data_dir: &Path, cluster: ClusterId, node: NodeId) -> Result<Self> {
        let path = Self::path(data_dir);
        let Some(content) = files::read(&path)? else {
            return Err(Error::Corrupt(format!(
                "{} is missing, so what this node promised is unknown",
                path.display()
            )));
        };
        let promise = parse(&content).ok_or_else(|| Error::Corrupt(format!("{} is damaged", path.display())))?;
        if promise.cluster != cluster || promise.node != node {
            let (theirs, other) = (promise.cluster, promise.node);
            return Err(Error::Corrupt(format!(
                "{} is of node {other} of cluster {theirs}, but the folder's identity is node {node} of {cluster}",
                path.display()
            )));
        }
        Ok(Self { path, promise, reached: None, renewed: Instant::now() })
    }

    /// Compares what sled holds with what was promised.
    pub(crate) fn check(&self, vote: Option<&Vote>, last_index: Option<u64>) -> Result<()> {
        if let Some(promised) = &self.promise.vote
            && !vote.is_some_and(|vote| vote >= promised)
        {
            let found = vote.map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(Error::Corrupt(format!(
                "this node has forgotten its vote: it promised {promised}, its log holds {found}"
            )));
        }
        if last_index < self.promise.last_index {
            let promised = self.promise.last_index.unwrap_or_default();
            let found = last_index.map_or_else(|| "is empty".to_owned(), |index| format!("ends at entry {index}"));
            return Err(Error::Corrupt(format!(
                "this node has forgotten entries: it acknowledged entry {promised}, its log {found}"
            )));
        }
        Ok(())
    }

    /// Records a vote; must return before the vote is answered.
    pub(crate) fn promise_vote(&mut self, vote: Vote) -> Result<()> {
        self.promise.vote = Some(vote);
        self.save()
    }

    /// Notes how far the log reaches on disk; true if a step has passed, so that the bound is to be renewed.
    pub(crate) fn aim(&mut self, last_index: Option<u64>) -> bool {
        self.reached = last_index;
        let grown = next(last_index).saturating_sub(next(self.promise.last_index));
        grown >= STEP_ENTRIES || (grown > 0 && self.renewed.elapsed() >= STEP_TIME)
    }

    /// Renews the bound to what was noted last.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.settle(self.reached)
    }

    /// Writes the bound if it differs; called on shutdown and by [`Guard::renew`].
    pub(crate) fn settle(&mut self, last_index: Option<u64>) -> Result<()> {
        if last_index > self.promise.last_index {
            self.promise.last_index = last_index;
            self.save()?;
            self.renewed = Instant::now();
        }
        Ok(())
    }

    /// Lowers the bound before a truncation down to `last_index`.
    pub(crate) fn retreat(&mut self, last_index: Option<u64>) -> Result<()> {
        self.reached = self.reached.min(last_index);
        if last_index < self.promise.last_index {
            self.promise.last_index = last_index;
            self.save()?;
        }
        Ok(())
    }

    /// What was promised.
    #[cfg(test)]
    pub(crate) fn promise(&self) -> &Promise {
        &self.promise
    }

    fn save(&self) -> Result<()> {
        let body = serde_json::to_string(&self.promise).map_err(|error| Error::Stopped(error.to_string()))?;
        files::replace(&self.path, format!("{body}\n{}\n", checksum(&body)).as_bytes())
    }
}

fn next(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index + 1)
}

fn parse(content: &[u8]) -> Option<Promise> {
    let (body, check) = std::str::from_utf8(content).ok()?.split_once('\n')?;
    if check.trim() != checksum(body) {
        return None;
    }
    serde_json::from_str(body).ok().filter(|promise: &Promise| promise.version == 1)
}

fn checksum(body: &str) -> String {
    use std::fmt::Write;
    ring::digest::digest(&ring::digest::SHA256, body.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
