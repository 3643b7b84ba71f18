//! The adapter against real hosts: sshd and dockerd in namespaces of their own.
//!
//! On a machine that cannot run the lab each test says so in one loud line and passes; with `CI=true` that is a failure.

// A panic in a helper of a test is the report, as in the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "real/common.rs"]
mod common;
#[path = "real/connection.rs"]
mod connection;
#[path = "real/containers.rs"]
mod containers;
#[path = "real/exec.rs"]
mod exec;
#[path = "real/files.rs"]
mod files;
#[path = "real/freezing.rs"]
mod freezing;
#[path = "real/registry.rs"]
mod registry;
#[path = "real/snapshots.rs"]
mod snapshots;
#[path = "real/trouble.rs"]
mod trouble;
