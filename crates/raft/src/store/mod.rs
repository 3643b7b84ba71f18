//! What a node keeps on disk: the log and vote in sled, the amnesia guard and snapshots as files beside it.
//!
//! ```text
//! <data>/identity     who this node is, its keys (mode 0600)
//! <data>/guard        what it promised: vote and a lower bound of its log (see [`guard`])
//! <data>/log/         sled: log entries, vote, purge marker
//! <data>/snapshots/   state machine snapshots
//! ```
//!
//! A storage error is final: nothing here retries after a failed write, and the node that met one ends.

pub(crate) mod durable;
pub(crate) mod files;
pub(crate) mod guard;
pub(crate) mod keeper;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod reader;
pub(crate) mod records;
pub(crate) mod repair;
pub(crate) mod snapshots;
pub(crate) mod tail;
pub(crate) mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod suite_tests;
