//! The simulation: a control plane and Docker hosts in memory, in virtual time, with faults on demand and by seed.
//!
//! It decides nothing that the real adapters would not: what it answers, a raft node or a Docker daemon could have
//! answered. Use it inside a tokio runtime whose clock is paused (`#[tokio::test(start_paused = true)]`).
#![allow(clippy::expect_used, clippy::panic, reason = "development only: a broken simulation must stop the test")]

pub mod clock;
pub mod cluster;
pub mod fleet;
pub mod host;
pub mod invariants;
pub mod ledger;
pub mod lifeline;
pub mod oracle;
mod quorum;
pub mod registry;
mod replica;

pub use clock::SimClock;
pub use cluster::{LedgerFaults, SimCluster};
pub use fleet::{SimDial, SimFleet};
pub use host::{Fault, HostOp, HostSize, Mishap, Moment, SimHost, When};
pub use ledger::SimLedger;
pub use lifeline::Lifeline;
pub use oracle::{Oracle, Violation};
pub use registry::{RegistryOp, SimRegistry};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere is the report already, so a poisoned lock is no second one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
