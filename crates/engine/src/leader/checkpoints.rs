//! Checkpoints: periodic snapshots of running sandboxes whose policy asks for them. What is due is read from the snapshots there are.

use super::desk::Ask;
use crate::{
    node::Node,
    operation::{self, Wish},
};
use plimsoll_state::{Sandbox, SnapshotPhase, State, WorkKind};
use plimsoll_types::{Health, HostId, Millis, Phase, Timestamp};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

/// How exact the intervals are.
const PERIOD: Duration = Duration::from_secs(5);
/// Checkpoints at once in the cluster, and one a host: each reads a whole writable layer and shares the registry.
const AT_ONCE: usize = 8;
/// How long nothing is begun after one was given up.
const AFTER_TROUBLE: Millis = Millis::secs(60);

/// Takes checkpoints until dropped.
pub(crate) async fn run(node: Arc<Node>, _desk: mpsc::Sender<Ask>) {
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if node.registry().is_none() {
            continue;
        }
        let now = node.now();
        let overdue =
            |state: &State, sandbox: &Arc<Sandbox>| Some((Reverse(overdue(state, sandbox, now)?), Arc::clone(sandbox)));
        let mut due = node.walk(Phase::Running, overdue).await;
        due.sort_by_key(|(overdue, sandbox)| (*overdue, sandbox.id));
        for sandbox in node.read(|state| chosen(state, &due)) {
            match operation::begin(&node, &sandbox, Wish::new(WorkKind::Checkpoint)).await {
                Ok(Ok(begun)) => {
                    tracing::debug!(sandbox = %sandbox.id, operation = %begun.operation, "a checkpoint is taken");
                }
                Ok(Err(refusal)) => tracing::debug!(sandbox = %sandbox.id, ?refusal, "no checkpoint now"),
                Err(error) => tracing::debug!(sandbox = %sandbox.id, %error, "no checkpoint yet"),
            }
        }
    }
}

/// The sandboxes to take one of now, in this order, as far as the bounds allow.
fn chosen(state: &State, due: &[(Reverse<Millis>, Arc<Sandbox>)]) -> Vec<Arc<Sandbox>> {
    let host_of = |sandbox: &Sandbox| sandbox.assignment.map(|at| at.host);
    let taking = |sandbox: &&Arc<Sandbox>| sandbox.work.as_ref().is_some_and(|it| it.kind == WorkKind::Checkpoint);
    let mut busy: BTreeSet<HostId> = state.working().filter(taking).filter_map(|sandbox| host_of(sandbox)).collect();
    let mut room = AT_ONCE.saturating_sub(state.working().filter(taking).count());
    let mut chosen = Vec::new();
    for (_, sandbox) in due {
        let Some(host) = host_of(sandbox) else { continue };
        if room > 0 && busy.insert(host) {
            room -= 1;
            chosen.push(Arc::clone(sandbox));
        }
    }
    chosen
}

/// By how much a sandbox's checkpoint is overdue; `None` where none is due or none can be taken.
fn overdue(state: &State, sandbox: &Sandbox, now: Timestamp) -> Option<Millis> {
    let every = sandbox.spec.checkpoint_every?;
    let troubled = sandbox.trouble.as_ref().is_some_and(|it| now.since(it.at) < AFTER_TROUBLE);
    let ready = state.hosts.get(&sandbox.assignment?.host).is_some_and(|host| host.health == Health::Ready);
    if sandbox.work.is_some() || troubled || !ready {
        return None;
    }
    let last = newest(state, sandbox)?;
    // What is held still since the last one has not changed.
    if sandbox.frozen_since.is_some_and(|frozen| last >= frozen && state.newest_snapshot(sandbox.id).is_some()) {
        return None;
    }
    let age = now.since(last);
    (age >= every).then(|| Millis(age.0 - every.0))
}

/// From when on a loss of its host would cost what a sandbox did: its newest snapshot, or else when it first ran.
fn newest(state: &State, sandbox: &Sandbox) -> Option<Timestamp> {
    let available = state.newest_snapshot(sandbox.id).filter(|it| it.phase == SnapshotPhase::Available);
    available.and_then(|it| it.stored.as_ref()).map(|stored| stored.taken_at).or(sandbox.started_at)
}

/// The age of the oldest newest checkpoint among the running sandboxes that ask for them, for metrics.
pub(crate) fn oldest(node: &Node, now: Timestamp) -> Option<Millis> {
    let (mut oldest, mut after) = (None, None);
    let mut look = |state: &State, sandbox: &Arc<Sandbox>| {
        let asks = sandbox.spec.checkpoint_every.is_some();
        oldest = oldest.max(newest(state, sandbox).filter(|_| asks).map(|at| now.since(at)));
    };
    while node.stride(Phase::Running, &mut after, &mut look) {}
    oldest
}
