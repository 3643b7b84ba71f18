//! Gauges that are read at the moment somebody scrapes, written in Prometheus' text format. Nothing is kept for them, so none goes
//! stale: what is in the state is right on every node, what the leader measures is shown by the leader alone, and a host that was
//! removed has no series.

use crate::{leader::checkpoints, node::Node};
use plimsoll_state::{Host, SnapshotKind, SnapshotPhase, WorkKind};
use plimsoll_types::{Health, LoadLine, Phase, Resources};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

/// Every gauge as of now.
pub(crate) fn text(node: &Node) -> String {
    let (hosts, counts, line, queue) = node.read(|state| {
        let hosts: Vec<Arc<Host>> = state.hosts.values().cloned().collect();
        (
            hosts,
            state.counts().map(|(host, phase, n)| ((host, phase), n)).collect::<BTreeMap<_, _>>(),
            state.policy.load_line,
            state.pending_count(),
        )
    });
    let mut page = Page::default();
    page.gauge("plimsoll_queue_sandboxes", "Sandboxes that wait for room.");
    page.sample(&[], number(queue));
    page.gauge("plimsoll_cluster_on_hold", "1 while nothing is done on hosts, until an operator resumes.");
    page.sample(&[], Value::Whole(u64::from(node.read(|state| state.hold.is_some()))));
    page.gauge("plimsoll_sandboxes", "Sandboxes by phase and host; no host is an empty label.");
    // A pair that ran empty must read zero, so every pair is written.
    let names = hosts.iter().map(|host| (Some(host.id), host.name.as_str()));
    for (id, name) in std::iter::once((None, "")).chain(names) {
        for phase in Phase::ALL {
            let found = counts.get(&(id, phase)).copied().unwrap_or(0);
            page.sample(&[("phase", phase.as_str()), ("host", name)], Value::Whole(found));
        }
    }
    page.gauge("plimsoll_host_health", "1 for the health a host has, 0 for the others.");
    for host in &hosts {
        for health in [Health::Ready, Health::Unreachable, Health::Lost] {
            let labels = [("host", host.name.as_str()), ("health", health.as_str())];
            page.sample(&labels, Value::Whole(u64::from(host.health == health)));
        }
    }
    page.gauge("plimsoll_host_quarantined", "1 while a host is left alone because its creates keep failing.");
    let now = node.now();
    for host in &hosts {
        let until = host.quarantine.as_ref().is_some_and(|quarantine| quarantine.at > now);
        page.sample(&[("host", host.name.as_str())], Value::Whole(u64::from(until)));
    }
    amounts(&mut page, &hosts, line, node);
    outliving(&mut page, node);
    if let Some(leading) = node.leading.get() {
        page.gauge("plimsoll_placements_waiting", "Placements that wait for the placer.");
        page.sample(&[], number(leading.waiting()));
    }
    page.text
}

/// Snapshots, operations under way and drains.
fn outliving(page: &mut Page, node: &Node) {
    let age = checkpoints::oldest(node, node.now());
    let (snapshots, working, drains) = node.read(|state| {
        let mut snapshots: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for snapshot in state.snapshots.values() {
            *snapshots.entry((snapshot.kind.as_str(), snapshot.phase.as_str())).or_default() += 1;
        }
        let mut working: BTreeMap<WorkKind, u64> = BTreeMap::new();
        for work in state.working().filter_map(|sandbox| sandbox.work.as_ref()) {
            *working.entry(work.kind).or_default() += 1;
        }
        let drained = state.hosts.values().filter(|host| host.drain.is_some());
        let drains: Vec<_> = drained.map(|host| (host.name.to_string(), u64::from(host.sandboxes))).collect();
        (snapshots, working, drains)
    });
    page.gauge("plimsoll_snapshots", "Snapshots by kind and phase.");
    for kind in [SnapshotKind::Kept, SnapshotKind::Checkpoint, SnapshotKind::Pause, SnapshotKind::Transfer] {
        for phase in [SnapshotPhase::Taking, SnapshotPhase::Available, SnapshotPhase::Deleting] {
            let (kind, phase) = (kind.as_str(), phase.as_str());
            let found = snapshots.get(&(kind, phase)).copied().unwrap_or(0);
            page.sample(&[("kind", kind), ("phase", phase)], Value::Whole(found));
        }
    }
    page.gauge("plimsoll_operations_under_way", "Operations on sandboxes that are under way, by kind.");
    for kind in [WorkKind::Snapshot, WorkKind::Checkpoint, WorkKind::Pause, WorkKind::Migrate] {
        page.sample(&[("kind", kind.as_str())], Value::Whole(working.get(&kind).copied().unwrap_or(0)));
    }
    page.gauge(
        "plimsoll_checkpoint_age_seconds_max",
        "Of the running sandboxes that ask for checkpoints, how long ago the one that waits longest had its last.",
    );
    page.sample(&[], Value::Milli(age.map_or(0, |age| age.0)));
    page.gauge("plimsoll_host_drain_sandboxes_left", "Sandboxes that still hold room on a draining host.");
    for (host, left) in &drains {
        page.sample(&[("host", host)], Value::Whole(*left));
    }
}

fn amounts(page: &mut Page, hosts: &[Arc<Host>], line: LoadLine, node: &Node) {
    let of = |read: &dyn Fn(&Host) -> Option<Resources>| -> Vec<(String, Resources)> {
        hosts.iter().filter_map(|host| Some((host.name.to_string(), read(host)?))).collect()
    };
    page.resources(
        "plimsoll_host_capacity",
        "The load line: what may be reserved on a host",
        &of(&|host| Some(line.of(host.facts.totals))),
    );
    page.resources("plimsoll_host_reserved", "What is reserved on a host", &of(&|host| Some(host.reserved)));
    if let Some(leading) = node.leading.get() {
        let loads = leading.loads.all();
        let used = of(&|host| {
            let load = loads.get(&host.id)?.raw;
            Some(Resources { cpu: load.cpu, memory: load.memory, disk: load.disk })
        });
        page.resources("plimsoll_host_measured", "What is in use on a host, as last measured", &used);
    }
}

fn number(n: usize) -> Value {
    Value::Whole(u64::try_from(n).unwrap_or(u64::MAX))
}

/// A sample's value; thousandths are written exactly, without a float in between.
enum Value {
    Whole(u64),
    Milli(u64),
}

/// One amount out of several.
type Amount = fn(&Resources) -> Value;

/// Text that grows by one metric after another.
#[derive(Default)]
struct Page {
    text: String,
    /// The metric that samples are of.
    name: String,
}

impl Page {
    /// Begins a metric.
    fn gauge(&mut self, name: &str, help: &str) {
        name.clone_into(&mut self.name);
        // Writing into a string cannot fail.
        let _always = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    /// One series of it. Values of labels are names of hosts and words of ours: none needs escaping.
    fn sample(&mut self, labels: &[(&str, &str)], value: Value) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _always = match value {
            Value::Whole(n) => writeln!(self.text, "{}{labels} {n}", self.name),
            Value::Milli(n) => writeln!(self.text, "{}{labels} {}.{:03}", self.name, n / 1000, n % 1000),
        };
    }

    fn resources(&mut self, name: &str, help: &str, hosts: &[(String, Resources)]) {
        let amounts: [(&str, &str, Amount); 3] = [
            ("cpu_cores", "CPUs", |it| Value::Milli(it.cpu.0)),
            ("memory_bytes", "memory", |it| Value::Whole(it.memory.0)),
            ("disk_bytes", "disk", |it| Value::Whole(it.disk.0)),
        ];
        for (unit, what, value) in amounts {
            self.gauge(&format!("{name}_{unit}"), &format!("{help}: {what}."));
            for (host, amount) in hosts {
                self.sample(&[("host", host)], value(amount));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.gauge("a", "What it is.");
        page.sample(&[], Value::Whole(3));
        page.sample(&[("host", "h0"), ("phase", "running")], Value::Milli(1_050));
        assert_eq!(page.text, "# HELP a What it is.\n# TYPE a gauge\na 3\na{host=\"h0\",phase=\"running\"} 1.050\n");
    }
}
