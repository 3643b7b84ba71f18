//! What the leader has seen of the sandboxes that pause when they are idle. In memory only: a new leader counts anew.

use plimsoll_lifecycle::ports::ContainerStats;
use plimsoll_types::{Generation, MilliCpu, Millis, NodeId, SandboxId, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// CPU below which a sandbox counts as idle: dev servers and editors that wait use one to three percent of a CPU.
pub(crate) const IDLE_CPU: MilliCpu = MilliCpu(50);
/// How long a node's report of an open session holds: two reports may be lost.
const REPORT_HOLDS: Millis = Millis::secs(7);
/// A reading of CPU says nothing about now after so long; one that is idle is not paused on an older one.
const READING_HOLDS: Millis = Millis::secs(60);
/// The longest and shortest time between two readings of one sandbox.
const READINGS: (Millis, Millis) = (Millis(500), Millis::secs(15));

/// Sandboxes by id. Bounded by those that run with an idle timeout: others are dropped.
#[derive(Default)]
pub(crate) struct Activity(Mutex<BTreeMap<SandboxId, Watch>>);

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Watch {
    generation: Generation,
    /// When it last did something.
    busy_at: Timestamp,
    /// CPU in use between the last two readings.
    cpu: Option<MilliCpu>,
    /// The last reading: when, by the leader's clock, and CPU milliseconds used since the container's start.
    reading: Option<(Timestamp, u64)>,
    /// When it was last asked for a reading.
    asked: Option<Timestamp>,
    /// Open sessions by node, and when that was reported.
    sessions: BTreeMap<NodeId, (u32, Timestamp)>,
}

/// What is said of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it last did something.
    pub(crate) busy_at: Timestamp,
    /// CPU in use, as last read.
    pub(crate) cpu: Option<MilliCpu>,
    /// Whether that reading still says something.
    pub(crate) fresh: bool,
    /// Open sessions.
    pub(crate) sessions: u32,
}

impl Activity {
    fn watches(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches these incarnations and no others; one that is new counts as busy until now.
    pub(crate) fn follow(&self, running: &BTreeMap<SandboxId, Generation>, now: Timestamp) {
        let mut watches = self.watches();
        watches.retain(|id, _| running.contains_key(id));
        for (id, generation) in running {
            let watch = watches.entry(*id).or_default();
            if watch.generation != *generation {
                let sessions = std::mem::take(&mut watch.sessions);
                *watch = Watch { generation: *generation, busy_at: now, sessions, ..Watch::default() };
            }
        }
    }

    /// A node's report.
    pub(crate) fn touch(&self, node: NodeId, sandboxes: &[(SandboxId, u32)], now: Timestamp) {
        let mut watches = self.watches();
        for (id, count) in sandboxes {
            // One that is not watched yet counts as busy from its first look on anyway.
            if let Some(watch) = watches.get_mut(id) {
                watch.busy_at = watch.busy_at.max(now);
                watch.sessions.insert(node, (*count, now));
            }
        }
    }

    /// Whether it is time for a reading of one that pauses after so long; the caller takes it now.
    pub(crate) fn is_due(&self, id: SandboxId, timeout: Millis, now: Timestamp) -> bool {
        let mut watches = self.watches();
        let Some(watch) = watches.get_mut(&id) else { return false };
        let every = Millis((timeout.0 / 4).clamp(READINGS.0.0, READINGS.1.0));
        let due = watch.asked.is_none_or(|asked| now.since(asked) >= every);
        if due {
            watch.asked = Some(now);
        }
        due
    }

    /// Takes a reading in. The first one, and one of a container that began anew, only starts the count.
    pub(crate) fn read(&self, id: SandboxId, generation: Generation, stats: &ContainerStats, now: Timestamp) {
        let mut watches = self.watches();
        let Some(watch) = watches.get_mut(&id).filter(|watch| watch.generation == generation) else { return };
        let before = watch.reading.replace((now, stats.cpu_total_ms));
        let Some((then, used)) = before.filter(|(then, _)| now > *then) else { return };
        let used = stats.cpu_total_ms.saturating_sub(used);
        let cpu = MilliCpu(used.saturating_mul(1000) / now.since(then).0.max(1));
        watch.cpu = Some(cpu);
        if cpu > IDLE_CPU {
            watch.busy_at = watch.busy_at.max(now);
        }
    }

    /// What is known of one, if it is watched.
    pub(crate) fn seen(&self, id: SandboxId, now: Timestamp) -> Option<Seen> {
        let mut watches = self.watches();
        let watch = watches.get_mut(&id)?;
        watch.sessions.retain(|_, (_, at)| now.since(*at) < REPORT_HOLDS);
        let sessions = watch.sessions.values().map(|(count, _)| *count).fold(0, u32::saturating_add);
        if sessions > 0 {
            watch.busy_at = watch.busy_at.max(now);
        }
        let fresh = watch.cpu.is_some() && watch.reading.is_some_and(|(at, _)| now.since(at) < READING_HOLDS);
        Some(Seen { busy_at: watch.busy_at, cpu: watch.cpu, fresh, sessions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    fn id() -> SandboxId {
        SandboxId::from_parts(1, 1)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn used(ms: u64) -> ContainerStats {
        ContainerStats { cpu_total_ms: ms, ..ContainerStats::default() }
    }

    fn watching() -> Activity {
        let activity = Activity::default();
        activity.follow(&BTreeMap::from([(id(), Generation(1))]), at(0));
        activity
    }

    fn busy_at(activity: &Activity, now: Timestamp) -> Timestamp {
        activity.seen(id(), now).expect("watched").busy_at
    }

    #[test]
    fn cpu_keeps_a_sandbox_awake_and_little_of_it_does_not() {
        let activity = watching();
        activity.read(id(), Generation(1), &used(1000), at(10));
        assert!(!activity.seen(id(), at(10)).expect("watched").fresh, "one reading tells no use");
        activity.read(id(), Generation(1), &used(1100), at(20));
        assert_eq!(busy_at(&activity, at(20)), at(0), "10 thousandths of a CPU");
        activity.read(id(), Generation(1), &used(2100), at(30));
        assert_eq!(busy_at(&activity, at(30)), at(30), "100 thousandths");
        activity.read(id(), Generation(2), &used(9999), at(40));
        assert_eq!(busy_at(&activity, at(40)), at(30), "another incarnation's");
        assert!(activity.seen(id(), at(40)).expect("watched").fresh);
        assert!(!activity.seen(id(), at(95)).expect("watched").fresh);
    }

    #[test]
    fn open_sessions_keep_it_awake_until_they_are_not_reported_any_more() {
        let activity = watching();
        activity.touch(NODE, &[(id(), 2)], at(10));
        activity.touch(NodeId(2), &[(id(), 1)], at(10));
        let seen = activity.seen(id(), at(14)).expect("watched");
        assert_eq!((seen.sessions, seen.busy_at), (3, at(14)));
        activity.touch(NODE, &[(id(), 0)], at(15));
        assert_eq!(activity.seen(id(), at(16)).expect("watched").sessions, 1);
        assert_eq!(activity.seen(id(), at(30)).expect("watched").sessions, 0, "that node went silent");
        assert_eq!(busy_at(&activity, at(30)), at(16));
    }

    #[test]
    fn a_new_incarnation_counts_anew_and_one_that_is_gone_is_forgotten() {
        let activity = watching();
        activity.follow(&BTreeMap::from([(id(), Generation(1))]), at(50));
        assert_eq!(busy_at(&activity, at(50)), at(0));
        activity.follow(&BTreeMap::from([(id(), Generation(2))]), at(60));
        assert_eq!(busy_at(&activity, at(60)), at(60));
        activity.follow(&BTreeMap::new(), at(70));
        assert!(activity.seen(id(), at(70)).is_none());
    }

    #[test]
    fn readings_are_taken_at_a_modest_pace() {
        let activity = watching();
        assert!(activity.is_due(id(), Millis::secs(600), at(0)));
        assert!(!activity.is_due(id(), Millis::secs(600), at(14)));
        assert!(activity.is_due(id(), Millis::secs(600), at(15)));
        assert!(activity.is_due(id(), Millis::secs(4), at(16)));
    }
}
