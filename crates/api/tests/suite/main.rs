//! The HTTP surface on a loopback listener: the real router, the real engine, simulated hosts and control plane.
#![allow(missing_docs, reason = "tests say what they are by their names")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is the report")]

mod access;
mod bad_input;
mod document;
mod draining;
mod events;
mod exec;
mod files;
mod operators;
mod outliving;
mod restoring;
mod sandboxes;
mod snapshots;
mod world;
