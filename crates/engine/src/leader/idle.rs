//! Pausing what is idle: sandboxes that ask for it, once they used no CPU worth mentioning and had nothing open through any node for
//! their timeout. A sandbox whose use could not be read is never taken for idle.

use super::{desk, desk::Ask, leading::Leading};
use crate::{
    Error,
    node::Node,
    operation::{self, Wish},
    questions::Touched,
    request::{Awake, no_such_sandbox},
};
use futures_util::{StreamExt, stream};
use plimsoll_state::{Host, Sandbox, State, WorkKind};
use plimsoll_types::{Health, Millis, Phase, SandboxId, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

/// How exact idle timeouts are.
const PERIOD: Duration = Duration::from_secs(1);
/// Readings at once, on all hosts: each costs Docker a few milliseconds.
const READINGS_AT_ONCE: usize = 16;
/// The longest one reading may take; the others wait for it.
const READING: Duration = Duration::from_secs(4);
/// Pauses begun in one pass.
const BATCH: usize = 32;
/// How long nothing is begun after a pause was given up.
const AFTER_TROUBLE: Millis = Millis::secs(60);

/// Watches and pauses until dropped.
pub(crate) async fn run(node: Arc<Node>, _desk: mpsc::Sender<Ask>) {
    let Some(leading) = node.leading.get() else { return };
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let watched = node.walk(Phase::Running, watched).await;
        let running = watched.iter().map(|(sandbox, _)| (sandbox.id, sandbox.generation)).collect::<BTreeMap<_, _>>();
        leading.activity.follow(&running, node.now());
        if watched.is_empty() {
            continue;
        }
        look(&node, &leading, &watched).await;
        if node.registry().is_some() {
            pause_idle(&node, &leading, &watched).await;
        }
    }
}

/// One that pauses when idle, with its host.
fn watched(state: &State, sandbox: &Arc<Sandbox>) -> Option<(Arc<Sandbox>, Arc<Host>)> {
    sandbox.spec.idle_timeout?;
    Some((Arc::clone(sandbox), state.hosts.get(&sandbox.assignment?.host).cloned()?))
}

/// Reads the CPU of those that are due.
async fn look(node: &Node, leading: &Leading, watched: &[(Arc<Sandbox>, Arc<Host>)]) {
    let now = node.now();
    let due = watched.iter().filter(|(sandbox, host)| {
        let timeout = sandbox.spec.idle_timeout.unwrap_or_default();
        host.health == Health::Ready
            && sandbox.frozen_since.is_none()
            && sandbox.container.is_some()
            && leading.activity.is_due(sandbox.id, timeout, now)
    });
    let read = |(sandbox, host): &(Arc<Sandbox>, Arc<Host>)| {
        let (sandbox, driver) = (Arc::clone(sandbox), node.drivers.of(host));
        async move {
            let container = sandbox.container.as_deref().unwrap_or_default();
            match time::timeout(READING, driver.stats(container)).await {
                Ok(Ok(stats)) => leading.activity.read(sandbox.id, sandbox.generation, &stats, node.now()),
                Ok(Err(error)) => tracing::debug!(sandbox = %sandbox.id, %error, "its use could not be read"),
                Err(_) => tracing::debug!(sandbox = %sandbox.id, "its use could not be read within {READING:?}"),
            }
        }
    };
    stream::iter(due.collect::<Vec<_>>()).map(read).buffer_unordered(READINGS_AT_ONCE).collect::<()>().await;
}

async fn pause_idle(node: &Node, leading: &Leading, watched: &[(Arc<Sandbox>, Arc<Host>)]) {
    let mut begun = 0;
    for (sandbox, host) in watched {
        let now = node.now();
        let troubled = sandbox.trouble.as_ref().is_some_and(|trouble| now.since(trouble.at) < AFTER_TROUBLE);
        if begun >= BATCH || sandbox.work.is_some() || host.health != Health::Ready || troubled {
            continue;
        }
        let Some(since) = idle_since(leading, sandbox, now) else { continue };
        let Some(timeout) = sandbox.spec.idle_timeout.filter(|timeout| now.since(since) >= *timeout) else { continue };
        begun += 1;
        match operation::begin(node, sandbox, Wish::new(WorkKind::Pause)).await {
            Ok(Ok(begun)) => {
                let (idle_ms, timeout_ms) = (now.since(since).0, timeout.0);
                tracing::info!(sandbox = %sandbox.id, operation = %begun.operation, idle_ms, timeout_ms, "paused because it is idle");
            }
            Ok(Err(refusal)) => tracing::debug!(sandbox = %sandbox.id, ?refusal, "idle, but not to be paused now"),
            Err(error) => tracing::debug!(sandbox = %sandbox.id, %error, "idle, and not paused yet"),
        }
    }
}

/// Since when it is idle: what is held still does nothing, and of the others both sessions and CPU must be known.
fn idle_since(leading: &Leading, sandbox: &Sandbox, now: Timestamp) -> Option<Timestamp> {
    let seen = leading.activity.seen(sandbox.id, now)?;
    let known = seen.fresh || sandbox.frozen_since.is_some();
    (known && seen.sessions == 0).then_some(sandbox.frozen_since.map_or(seen.busy_at, |at| at.max(seen.busy_at)))
}

/// Takes a node's report in.
pub(crate) fn touch(node: &Node, touched: &Touched) -> Result<(), Error> {
    let leading = node.leading.get().ok_or_else(desk::not_leading)?;
    leading.activity.touch(touched.node, &touched.sandboxes, node.now());
    Ok(())
}

/// What keeps a sandbox awake.
pub(crate) fn awake(node: &Node, id: SandboxId) -> Result<Awake, Error> {
    let leading = node.leading.get().ok_or_else(desk::not_leading)?;
    let sandbox = node.read(|state| state.sandboxes.get(&id).cloned()).ok_or_else(|| no_such_sandbox(id))?;
    let idle_timeout = sandbox.spec.idle_timeout;
    let seen = leading.activity.seen(id, node.now());
    let mut awake = Awake { idle_timeout, ..Awake::default() };
    if sandbox.phase != Phase::Running {
        awake.because.push(format!("it is {}", sandbox.phase));
        return Ok(awake);
    }
    let (Some(timeout), Some(seen)) = (idle_timeout, seen) else {
        let why = if idle_timeout.is_none() { "it has no idle timeout" } else { "it was not looked at yet" };
        awake.because.push(why.to_owned());
        return Ok(awake);
    };
    (awake.cpu, awake.sessions) = (seen.cpu, seen.sessions);
    if seen.sessions > 0 {
        awake.because.push(format!("{} processes, streams or transfers are open", seen.sessions));
    }
    if let Some(cpu) = seen.cpu.filter(|cpu| *cpu > super::activity::IDLE_CPU && sandbox.frozen_since.is_none()) {
        awake.because.push(format!("it uses {cpu}; up to {} counts as idle", super::activity::IDLE_CPU));
    }
    if !seen.fresh && sandbox.frozen_since.is_none() {
        awake.because.push("its use of CPU is not known yet".to_owned());
    }
    if let Some(work) = &sandbox.work {
        awake.because.push(format!("a {} is under way", work.kind));
    }
    if node.registry().is_none() {
        awake.because.push("no registry is configured, so it cannot be paused".to_owned());
    }
    if awake.because.is_empty() {
        awake.idle_since = idle_since(&leading, &sandbox, node.now());
        awake.pauses_at = awake.idle_since.map(|since| since.plus(timeout));
    }
    Ok(awake)
}
