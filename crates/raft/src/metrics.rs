//! The node's metrics, named and described in one place.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

const TERM: &str = "plimsoll_raft_term";
const IS_LEADER: &str = "plimsoll_raft_is_leader";
const COMMIT_INDEX: &str = "plimsoll_raft_commit_index";
const APPLIED_INDEX: &str = "plimsoll_raft_applied_index";
const LAST_INDEX: &str = "plimsoll_raft_last_index";
const FLUSH_SECONDS: &str = "plimsoll_raft_flush_seconds";
const BATCH_ENTRIES: &str = "plimsoll_raft_batch_entries";
const PROPOSALS: &str = "plimsoll_raft_proposals_total";
const PROPOSAL_SECONDS: &str = "plimsoll_raft_proposal_seconds";
const LEADER_CHANGES: &str = "plimsoll_raft_leader_changes_total";
const SNAPSHOT_SECONDS: &str = "plimsoll_raft_snapshot_seconds";
const PEER_CONNECTS: &str = "plimsoll_raft_peer_connects_total";

/// Describes every metric of this crate to the installed recorder.
pub fn describe() {
    describe_gauge!(TERM, "The raft term as this node knows it.");
    describe_gauge!(IS_LEADER, "1 while this node leads, else 0.");
    describe_gauge!(COMMIT_INDEX, "The last log index this node knows to be committed and has stored.");
    describe_gauge!(APPLIED_INDEX, "The last log index applied to this node's state.");
    describe_gauge!(LAST_INDEX, "The last log index this node has.");
    describe_histogram!(FLUSH_SECONDS, Unit::Seconds, "How long one flush of the log to disk took.");
    describe_histogram!(BATCH_ENTRIES, "Log entries that shared one flush.");
    describe_counter!(PROPOSALS, "Proposals made on this node, by result: applied, no_quorum, overloaded, refused.");
    describe_histogram!(PROPOSAL_SECONDS, Unit::Seconds, "From a proposal on this node until it was applied here.");
    describe_counter!(LEADER_CHANGES, "How often this node learned of another leader or term.");
    describe_histogram!(SNAPSHOT_SECONDS, Unit::Seconds, "How long writing a snapshot of the state took.");
    describe_counter!(PEER_CONNECTS, "Connections made to peers, by result: ok, failed, refused.");
}

pub(crate) fn flush(took: Duration) {
    histogram!(FLUSH_SECONDS).record(took);
}

#[expect(clippy::cast_precision_loss, reason = "histograms take floats; a batch is far below 2^52")]
pub(crate) fn batch(entries: usize) {
    histogram!(BATCH_ENTRIES).record(entries as f64);
}

pub(crate) fn proposal(result: &'static str, took: Duration) {
    counter!(PROPOSALS, "result" => result).increment(1);
    histogram!(PROPOSAL_SECONDS).record(took);
}

pub(crate) fn snapshot(took: Duration) {
    histogram!(SNAPSHOT_SECONDS).record(took);
}

pub(crate) fn leader_changed() {
    counter!(LEADER_CHANGES).increment(1);
}

pub(crate) fn connect(result: &'static str) {
    counter!(PEER_CONNECTS, "result" => result).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; indexes stay far below 2^52")]
pub(crate) fn progress(term: u64, leads: bool, last: Option<u64>, committed: Option<u64>, applied: Option<u64>) {
    gauge!(TERM).set(term as f64);
    gauge!(IS_LEADER).set(if leads { 1.0 } else { 0.0 });
    gauge!(LAST_INDEX).set(last.unwrap_or(0) as f64);
    gauge!(COMMIT_INDEX).set(committed.unwrap_or(0) as f64);
    gauge!(APPLIED_INDEX).set(applied.unwrap_or(0) as f64);
}
