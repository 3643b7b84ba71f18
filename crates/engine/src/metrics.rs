//! The engine's metrics: every name, label and unit in one place. Labels are few and bounded; no id is ever one.

use crate::{Error, node::Node, questions::PlaceAnswer};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use plimsoll_lifecycle::planner::Step;
use plimsoll_types::{Code, HostName, MeasuredLoad, Millis, Phase, Resources};
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
    describe_gauge!("plimsoll_queue_sandboxes", "Sandboxes that wait for room.");
    describe_gauge!("plimsoll_placements_waiting", "Placements that wait for the placer.");
    describe_gauge!("plimsoll_sandboxes", "Sandboxes by phase and host; no host is an empty label.");
    describe_histogram!("plimsoll_create_seconds", Unit::Seconds, "From acceptance to running.");
    describe_counter!("plimsoll_create_failures_total", "Failed tries to create, by error code.");
    describe_histogram!("plimsoll_step_seconds", Unit::Seconds, "Host-side steps that were done, by step.");
    describe_counter!("plimsoll_host_polls_total", "Polls of hosts by result: ok or error.");
    describe_histogram!("plimsoll_host_poll_seconds", Unit::Seconds, "How long polls took.");
    describe_counter!(
        "plimsoll_reconciled_total",
        "What reconciliation set right: removed containers, failed sandboxes."
    );
    for (name, what) in [
        ("plimsoll_host_capacity", "The load line: what may be reserved on a host"),
        ("plimsoll_host_reserved", "What is reserved on a host"),
        ("plimsoll_host_measured", "What is in use on a host, as last measured"),
    ] {
        describe_gauge!(format!("{name}_cpu_cores"), format!("{what}: CPUs."));
        describe_gauge!(format!("{name}_memory_bytes"), Unit::Bytes, format!("{what}: memory."));
        describe_gauge!(format!("{name}_disk_bytes"), Unit::Bytes, format!("{what}: disk."));
    }
    describe_gauge!("plimsoll_host_health", "1 for the health a host has, 0 for the others.");
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

#[allow(clippy::cast_precision_loss, reason = "gauges are floats; 2^53 is beyond every count and size here")]
const fn float(n: u64) -> f64 {
    n as f64
}

fn count(n: usize) -> f64 {
    float(u64::try_from(n).unwrap_or(u64::MAX))
}

pub(crate) fn batch(size: usize) {
    histogram!("plimsoll_placement_batch_size").record(count(size));
}

pub(crate) fn queue(pending: usize, waiting: usize) {
    gauge!("plimsoll_queue_sandboxes").set(count(pending));
    gauge!("plimsoll_placements_waiting").set(count(waiting));
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
        Step::Await(_) | Step::Commit(..) | Step::Fail(..) => return,
    };
    histogram!("plimsoll_step_seconds", "step" => name).record(took.as_secs_f64());
}

pub(crate) fn polled(host: &HostName, good: bool, took: Duration) {
    let result = if good { "ok" } else { "error" };
    counter!("plimsoll_host_polls_total", "host" => host.to_string(), "result" => result).increment(1);
    histogram!("plimsoll_host_poll_seconds", "host" => host.to_string()).record(took.as_secs_f64());
}

pub(crate) fn measured(host: &HostName, load: &MeasuredLoad) {
    let used = Resources { cpu: load.cpu, memory: load.memory, disk: load.disk };
    resources("plimsoll_host_measured", host, used);
}

pub(crate) fn reconciled(what: &'static str) {
    counter!("plimsoll_reconciled_total", "what" => what).increment(1);
}

/// Gauges that are read off the state, once a period, by the leader.
pub(crate) fn state(node: &Node) {
    let (hosts, counts) = node.read(|state| {
        let line = state.policy.load_line;
        let hosts: Vec<_> = state.hosts.values().map(|host| (host.clone(), line.of(host.facts.totals))).collect();
        (hosts, state.counts().collect::<Vec<_>>())
    });
    // A pair that ran empty must read zero, so every pair is written.
    let names =
        std::iter::once((None, String::new())).chain(hosts.iter().map(|(it, _)| (Some(it.id), it.name.to_string())));
    for (id, name) in names {
        for phase in Phase::ALL {
            let found = counts.iter().find(|(host, at, _)| *host == id && *at == phase).map_or(0, |(_, _, n)| *n);
            gauge!("plimsoll_sandboxes", "phase" => phase.as_str(), "host" => name.clone()).set(float(found));
        }
    }
    for (host, line) in hosts {
        resources("plimsoll_host_capacity", &host.name, line);
        resources("plimsoll_host_reserved", &host.name, host.reserved);
        for health in [plimsoll_types::Health::Ready, plimsoll_types::Health::Unreachable, plimsoll_types::Health::Lost]
        {
            let is = if host.health == health { 1.0 } else { 0.0 };
            gauge!("plimsoll_host_health", "host" => host.name.to_string(), "health" => health.as_str()).set(is);
        }
    }
}

fn resources(name: &str, host: &HostName, resources: Resources) {
    gauge!(format!("{name}_cpu_cores"), "host" => host.to_string()).set(float(resources.cpu.0) / 1000.0);
    gauge!(format!("{name}_memory_bytes"), "host" => host.to_string()).set(float(resources.memory.0));
    gauge!(format!("{name}_disk_bytes"), "host" => host.to_string()).set(float(resources.disk.0));
}
