//! The metrics of this crate, described once.
//!
//! No label may come from a sandbox: the number of series stays bounded by hosts × operations × codes.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use plimsoll_lifecycle::ports::HostError;
use std::time::Duration;

const OPERATIONS: &str = "plimsoll_host_operations_total";
const SECONDS: &str = "plimsoll_host_operation_seconds";
const CONNECTS: &str = "plimsoll_ssh_connects_total";
const RECONNECTS: &str = "plimsoll_ssh_reconnects_total";
const CONNECTIONS: &str = "plimsoll_ssh_connections";
const STREAMS: &str = "plimsoll_host_streams";
const SANDBOX_MEMORY: &str = "plimsoll_host_sandboxes_memory_bytes";
const SANDBOX_CPU: &str = "plimsoll_host_sandboxes_cpu_cores";

/// Describes every metric of this crate to the installed recorder.
pub fn describe() {
    describe_counter!(OPERATIONS, "Operations on hosts by kind and result (`ok` or the error's code).");
    describe_histogram!(SECONDS, Unit::Seconds, "How long operations on hosts took, by kind.");
    describe_counter!(CONNECTS, "SSH connections tried, by host and result (`ok` or the error's code).");
    describe_counter!(RECONNECTS, "SSH connections that were lost and opened again, by host.");
    describe_gauge!(CONNECTIONS, "SSH connections open now, by host.");
    describe_gauge!(STREAMS, "Long-lived streams (exec, files, logs) open now, by host.");
    describe_gauge!(
        SANDBOX_MEMORY,
        Unit::Bytes,
        "Memory all our running containers on a host use, page cache left out."
    );
    describe_gauge!(SANDBOX_CPU, "CPUs all our running containers on a host use.");
}

pub(crate) fn operation(host: &str, op: &'static str, error: Option<&HostError>, took: Duration) {
    let result = error.map_or("ok", |error| error.code.as_str());
    counter!(OPERATIONS, "host" => host.to_owned(), "op" => op, "result" => result).increment(1);
    histogram!(SECONDS, "op" => op).record(took.as_secs_f64());
}

pub(crate) fn connect(host: &str, error: Option<&HostError>) {
    let result = error.map_or("ok", |error| error.code.as_str());
    counter!(CONNECTS, "host" => host.to_owned(), "result" => result).increment(1);
}

pub(crate) fn reconnect(host: &str) {
    counter!(RECONNECTS, "host" => host.to_owned()).increment(1);
}

/// Counts something open for as long as it lives.
pub(crate) struct Open(metrics::Gauge);

impl Open {
    pub(crate) fn connection(host: &str) -> Self {
        Self::new(gauge!(CONNECTIONS, "host" => host.to_owned()))
    }

    pub(crate) fn stream(host: &str) -> Self {
        Self::new(gauge!(STREAMS, "host" => host.to_owned()))
    }

    fn new(gauge: metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

pub(crate) fn sandboxes(host: &str, memory_bytes: u64, cpu_milli: u64) {
    #[allow(clippy::cast_precision_loss)]
    let (memory, cpu) = (memory_bytes as f64, cpu_milli as f64 / 1000.0);
    gauge!(SANDBOX_MEMORY, "host" => host.to_owned()).set(memory);
    gauge!(SANDBOX_CPU, "host" => host.to_owned()).set(cpu);
}
