//! Development only: simulated hosts and faults, an in-memory ledger, an oracle, and the real multi-host lab.
//!
//! No crate that ships depends on it.

pub mod lab;
pub mod ports;
pub mod sim;
pub mod wait;
