//! The monitor: measures every host at its own pace and commits its health when, and only when, that changes.

use super::leading::Leading;
use crate::node::Node;
use plimsoll_state::{Command, Host, command::ReportHost};
use plimsoll_types::{Health, HostFacts, HostId};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{self, Instant, MissedTickBehavior},
};

/// Good polls in a row before a host that was away is ready again: one may be luck.
const GOOD_POLLS: u32 = 2;
/// The longest one poll may take, whatever the adapter's own deadline is.
const POLL_DEADLINE: Duration = Duration::from_secs(5);
/// How soon a host that was added is polled, and one that was removed is not.
const PERIOD: Duration = Duration::from_secs(1);
/// Changed facts are committed at most so often: one that flaps must not fill the log.
const FACTS_EVERY: Duration = Duration::from_secs(30);

/// Monitors until dropped: one task a host, started and ended as hosts come and go.
pub(crate) async fn run(node: Arc<Node>, leading: Arc<Leading>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut watched: BTreeMap<HostId, AbortHandle> = BTreeMap::new();
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let hosts = node.read(|state| state.hosts.keys().copied().collect::<Vec<_>>());
        watched.retain(|host, task| {
            let kept = hosts.binary_search(host).is_ok() && !task.is_finished();
            if !kept {
                task.abort();
                leading.loads.forget(*host);
            }
            kept
        });
        for host in hosts {
            watched.entry(host).or_insert_with(|| tasks.spawn(watch(Arc::clone(&node), Arc::clone(&leading), host)));
        }
        node.read(|state| node.drivers.prune(state));
        while tasks.try_join_next().is_some() {}
    }
}

/// What the polls of one host came to.
struct Pulse {
    last_good: Instant,
    good_in_a_row: u32,
    facts_told: Option<Instant>,
}

async fn watch(node: Arc<Node>, leading: Arc<Leading>, id: HostId) {
    let poll = node.options.poll;
    let offset = poll.mul_f64(turn(id));
    let mut tick = time::interval_at(Instant::now() + offset, poll);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A new leader knows of no silence before its own time.
    let mut pulse = Pulse { last_good: Instant::now(), good_in_a_row: 0, facts_told: None };
    loop {
        let due = tick.tick().await;
        crate::metrics::poll_began(due.elapsed());
        let Some(host) = node.read(|state| state.hosts.get(&id).cloned()) else { return };
        let driver = node.drivers.of(&host);
        let began = Instant::now();
        let (facts, reason) = match time::timeout(POLL_DEADLINE, driver.measure()).await {
            Ok(Ok((facts, load))) => {
                pulse.last_good = Instant::now();
                pulse.good_in_a_row = pulse.good_in_a_row.saturating_add(1);
                leading.loads.record(id, load);
                (Some(facts), String::new())
            }
            Ok(Err(error)) => (None, format!("{}: {error}", error.code)),
            Err(_) => (None, format!("no answer to a poll within {POLL_DEADLINE:?}")),
        };
        if facts.is_none() {
            pulse.good_in_a_row = 0;
        }
        crate::metrics::polled(&host.name, facts.is_some(), began.elapsed());
        let health = judge(&node, &host, &pulse);
        if health == Health::Lost {
            leading.loads.forget(id);
        }
        report(&node, &host, health, &reason, facts, &mut pulse).await;
    }
}

/// When in an interval a host has its turn, from 0 to 1: any number of hosts, numbered in a row or not, are spread evenly, so that a
/// large fleet is not polled in a few instants. (Multiples of the golden ratio fall where the others left most room.)
fn turn(id: HostId) -> f64 {
    const GOLDEN: u32 = 0x9E37_79B9;
    f64::from(id.0.wrapping_mul(GOLDEN)) / (f64::from(u32::MAX) + 1.0)
}

fn judge(node: &Node, host: &Host, pulse: &Pulse) -> Health {
    let silent = pulse.last_good.elapsed();
    if silent >= node.options.lost_after {
        return Health::Lost;
    }
    match host.health {
        Health::Ready if silent >= node.options.unreachable_after => Health::Unreachable,
        Health::Unreachable | Health::Lost if pulse.good_in_a_row >= GOOD_POLLS => Health::Ready,
        unchanged => unchanged,
    }
}

async fn report(node: &Node, host: &Host, health: Health, reason: &str, facts: Option<HostFacts>, pulse: &mut Pulse) {
    let due = pulse.facts_told.is_none_or(|told| told.elapsed() >= FACTS_EVERY);
    let facts = facts.filter(|facts| due && *facts != host.facts);
    if health == host.health && facts.is_none() {
        return;
    }
    if facts.is_some() {
        pulse.facts_told = Some(Instant::now());
    }
    // The reason stands as long as the health does: a poll in between that fails differently is no news.
    let reason = if health == host.health { host.health_reason.clone() } else { reason.into() };
    let report = ReportHost { host: host.id, health, reason: reason.clone(), facts, at: node.now() };
    match node.commit(Command::ReportHost(Box::new(report))).await {
        Ok(_) if health == host.health => tracing::info!(host = %host.name, "facts changed"),
        Ok(_) => tracing::warn!(host = %host.name, %health, %reason, "health changed"),
        Err(error) => tracing::warn!(host = %host.name, %health, %error, "a report could not be committed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_over_the_interval() {
        for hosts in [3_u32, 16, 100, 1000] {
            let mut turns: Vec<f64> = (1..=hosts).map(|id| turn(HostId(id))).collect();
            turns.sort_by(f64::total_cmp);
            assert!(turns.iter().all(|turn| (0.0..1.0).contains(turn)));
            let around = [turns[0] + 1.0 - turns[turns.len() - 1]];
            let gaps = turns.windows(2).map(|pair| pair[1] - pair[0]).chain(around);
            let (least, most) = gaps.fold((f64::MAX, 0.0), |(least, most), gap| (gap.min(least), gap.max(most)));
            let even = 1.0 / f64::from(hosts);
            assert!(least > even / 3.0 && most < even * 3.0, "{hosts} hosts: {least} to {most}, even is {even}");
        }
    }
}
