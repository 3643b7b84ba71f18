//! The engine's counters and histograms: every name, label and unit in one place. Labels are few and bounded; no id is ever one.
//! Its gauges are in [`crate::scrape`].

use crate::{Error, questions::PlaceAnswer};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use plimsoll_lifecycle::planner::Step;
use plimsoll_state::WorkKind;
use plimsoll_types::{Bytes, Code, HostName, Millis};
use std::time::Duration;

/// Describes every metric of the engine; call it once, after the recorder was installed.
pub fn describe() {
    describe_counter!(
        "plimsoll_placements_total",
        "Placements by outcome: created, session_live, replayed or an error code."
    );
    describe_histogram!(
        "plimsoll_placement_seconds",
        Unit::Seconds,
        "From request to committed placement, on the leader."
    );
    describe_histogram!("plimsoll_placement_batch_size", "Placements in one log entry.");
    describe_histogram!("plimsoll_create_seconds", Unit::Seconds, "From acceptance to running.");
    describe_counter!("plimsoll_create_failures_total", "Failed tries to create, by error code.");
    describe_histogram!("plimsoll_step_seconds", Unit::Seconds, "Host-side steps that were done, by step.");
    describe_counter!("plimsoll_host_polls_total", "Polls of hosts by result: ok or error.");
    describe_histogram!("plimsoll_host_poll_seconds", Unit::Seconds, "How long polls took.");
    describe_histogram!("plimsoll_host_poll_lag_seconds", Unit::Seconds, "How much later than due polls began.");
    describe_counter!(
        "plimsoll_reconciled_total",
        "What reconciliation set right: removed containers, failed sandboxes."
    );
    describe_counter!(
        "plimsoll_operations_total",
        "Operations on sandboxes by kind and result: done, ended, given_up or an error code."
    );
    describe_histogram!("plimsoll_operation_seconds", Unit::Seconds, "From an operation's beginning to its end.");
    describe_histogram!("plimsoll_migration_downtime_seconds", Unit::Seconds, "How long moved sandboxes stood still.");
    describe_counter!("plimsoll_migration_bytes_total", Unit::Bytes, "Bytes sent and fetched to move sandboxes.");
    describe_counter!("plimsoll_restores_total", "Sandboxes that began again elsewhere because their host was lost.");
    describe_histogram!(
        "plimsoll_restore_window_seconds",
        Unit::Seconds,
        "Work that was lost with a host: from the snapshot to the last sign of life."
    );
    describe_counter!(
        "plimsoll_collected_total",
        "What was collected: snapshots, orphans in the registry, images on hosts."
    );
}

pub(crate) fn placement(answer: &Result<PlaceAnswer, Error>, took: Duration) {
    let outcome = match answer {
        Ok(PlaceAnswer::Created(_)) => "created",
        Ok(PlaceAnswer::SessionLive(_)) => "session_live",
        Ok(PlaceAnswer::Replayed(_)) => "replayed",
        Err(error) => error.code.as_str(),
    };
    counter!("plimsoll_placements_total", "outcome" => outcome).increment(1);
    histogram!("plimsoll_placement_seconds").record(took.as_secs_f64());
}

#[allow(clippy::cast_precision_loss, reason = "histograms are of floats; 2^53 is beyond every count and size here")]
const fn float(n: u64) -> f64 {
    n as f64
}

fn count(n: usize) -> f64 {
    float(u64::try_from(n).unwrap_or(u64::MAX))
}

pub(crate) fn batch(size: usize) {
    histogram!("plimsoll_placement_batch_size").record(count(size));
}

pub(crate) fn created(took: Millis) {
    histogram!("plimsoll_create_seconds").record(float(took.0) / 1000.0);
}

pub(crate) fn create_failed(code: Code) {
    counter!("plimsoll_create_failures_total", "code" => code.as_str()).increment(1);
}

pub(crate) fn step(step: &Step, took: Duration) {
    let name = match step {
        Step::EnsureImage(_) => "ensure_image",
        Step::CreateContainer(_) => "create_container",
        Step::StartContainer(_) => "start_container",
        Step::WriteSecrets(_) => "write_secrets",
        Step::AwaitReady(_) => "await_ready",
        Step::RemoveContainer(_) => "remove_container",
        Step::RemoveWorkspace(_) => "remove_workspace",
        Step::Freeze(_) => "freeze",
        Step::Thaw(_) => "thaw",
        Step::CommitImage(_) => "commit_image",
        Step::PushImage(_) => "push_image",
        Step::PullImage(_) => "pull_image",
        Step::Fence(..) => "fence",
        Step::RemoveImage(_) => "remove_image",
        Step::Await(_)
        | Step::Commit(..)
        | Step::RecordSnapshot
        | Step::Switch
        | Step::GiveUp(_)
        | Step::Lose(..)
        | Step::Fail(..) => return,
    };
    histogram!("plimsoll_step_seconds", "step" => name).record(took.as_secs_f64());
}

pub(crate) fn polled(host: &HostName, good: bool, took: Duration) {
    let result = if good { "ok" } else { "error" };
    counter!("plimsoll_host_polls_total", "host" => host.to_string(), "result" => result).increment(1);
    histogram!("plimsoll_host_poll_seconds", "host" => host.to_string()).record(took.as_secs_f64());
}

pub(crate) fn poll_began(late: Duration) {
    histogram!("plimsoll_host_poll_lag_seconds").record(late.as_secs_f64());
}

pub(crate) fn reconciled(what: &'static str) {
    counter!("plimsoll_reconciled_total", "what" => what).increment(1);
}

/// An operation that ended.
pub(crate) fn operation(kind: WorkKind, result: &'static str, took: Option<Millis>) {
    counter!("plimsoll_operations_total", "kind" => kind.as_str(), "result" => result).increment(1);
    if let Some(took) = took {
        histogram!("plimsoll_operation_seconds", "kind" => kind.as_str()).record(float(took.0) / 1000.0);
    }
}

pub(crate) fn moved(downtime: Millis, bytes: Bytes) {
    histogram!("plimsoll_migration_downtime_seconds").record(float(downtime.0) / 1000.0);
    counter!("plimsoll_migration_bytes_total").increment(bytes.0);
}

pub(crate) fn restored(window: Millis) {
    counter!("plimsoll_restores_total").increment(1);
    histogram!("plimsoll_restore_window_seconds").record(float(window.0) / 1000.0);
}

pub(crate) fn collected(what: &'static str, count: usize) {
    counter!("plimsoll_collected_total", "what" => what).increment(u64::try_from(count).unwrap_or(u64::MAX));
}
