//! Many callers at once, each of whom asks again when it is cut off, as ensure allows.

use crate::cli::Cli;
use anyhow::Result;
use plimsoll_testkit::wait::wait_for;
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Ensures the sessions `<prefix>-0` to `<prefix>-<count - 1>` at the same time, small sandboxes all of them.
#[must_use]
pub fn ensure_many(cli: &Cli, prefix: &str, count: usize, patience: Duration) -> Vec<JoinHandle<Result<Value>>> {
    let sessions = (0..count).map(|number| format!("{prefix}-{number}"));
    let calls = sessions.map(|session| {
        let cli = cli.clone();
        tokio::spawn(async move {
            let args = ["ensure", &session, "--cpu", "0.1", "--memory", "64M", "--disk", "16M"];
            wait_for(&session, patience, || cli.json(&args)).await
        })
    });
    calls.collect()
}
