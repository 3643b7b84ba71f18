//! Hosts that are lost: what ran there is lost with them, and each sandbox follows its own policy. `restore` begins again elsewhere
//! from its newest snapshot; `hold` waits for the host, whose return the executor acts on. Nothing is ever asked of the lost host.

use super::desk::{Ask, RestoreWish, ask};
use crate::node::Node;
use futures_util::{StreamExt, stream};
use plimsoll_state::{Command, Host, Sandbox, Stage, State, WorkKind, command::Advance};
use plimsoll_types::{Code, Health, HostLossPolicy, Phase, SandboxId, SnapshotId, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

/// A look at least so often; also whenever state changes.
const PERIOD: Duration = Duration::from_secs(1);
/// Items in one command; applying it is a change, so the rest follows at once.
const BATCH: usize = 256;
/// Restores asked for at once; each is one short log entry.
const RESTORES_AT_ONCE: usize = 16;
/// Between two tries to restore one sandbox.
const RETRY: Duration = Duration::from_secs(3);

/// What becomes of a sandbox on a lost host.
struct Lost {
    sandbox: Arc<Sandbox>,
    host: Arc<Host>,
    /// What it would be restored from.
    snapshot: Option<SnapshotId>,
}

/// Acts until dropped.
pub(crate) async fn run(node: Arc<Node>, desk: mpsc::Sender<Ask>) {
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When each was tried last; bounded by the sandboxes that are lost.
    let mut tried: BTreeMap<SandboxId, Instant> = BTreeMap::new();
    loop {
        let seen = node.read(|state| state.applied);
        if let Err(error) = declare(&node).await {
            tracing::debug!(%error, "losses are declared in the next period");
        }
        let lost = node.read(lost);
        tried.retain(|id, _| lost.iter().any(|it| it.sandbox.id == *id));
        let due = |it: &Lost| tried.get(&it.sandbox.id).is_none_or(|at| at.elapsed() >= RETRY);
        let due: Vec<Lost> = lost.into_iter().filter(due).take(BATCH).collect();
        tried.extend(due.iter().map(|it| (it.sandbox.id, Instant::now())));
        let mut told: Vec<Advance> = stream::iter(due)
            .map(|it| follow(&node, &desk, it))
            .buffer_unordered(RESTORES_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if !told.is_empty() {
            told.sort_by_key(|news| news.sandbox);
            if let Err(error) = node.commit(Command::Advance(told)).await {
                tracing::debug!(%error, "reasons are told in the next period");
            }
        }
        tokio::select! {
            _ = tick.tick() => {}
            _ = node.ledger.changed(seen) => {
                // Changes come in storms when a host is lost; one look for many of them.
                time::sleep(PERIOD / 10).await;
            }
        }
    }
}

/// Declares what is lost with its host, and what is not: a pause whose snapshot is safe is done.
async fn declare(node: &Node) -> Result<(), crate::Error> {
    let now = node.now();
    let news: Vec<Advance> = node.read(|state| {
        let hosts = state.hosts.values().filter(|host| host.health == Health::Lost);
        let there = hosts.flat_map(|host| state.on_host(host.id).map(move |sandbox| (host, sandbox)));
        there.filter_map(|(host, sandbox)| verdict(host, sandbox, now)).take(BATCH).collect()
    });
    if news.is_empty() {
        return Ok(());
    }
    for it in &news {
        tracing::warn!(sandbox = %it.sandbox, phase = %it.to, reason = %it.reason, "its host is lost");
    }
    node.commit(Command::Advance(news)).await.map(drop)
}

/// What a sandbox on a lost host becomes; `None` where there is nothing to say, or another loop says it.
fn verdict(host: &Host, sandbox: &Sandbox, now: Timestamp) -> Option<Advance> {
    // Where a migration goes is its target's host as well; losing that one is the migration's affair.
    sandbox.assignment.filter(|at| at.host == host.id)?;
    let taken = |kind| sandbox.work.as_ref().is_some_and(|it| it.kind == kind && it.stage == Stage::Taken);
    let to = match sandbox.phase {
        Phase::Pausing if taken(WorkKind::Pause) => Phase::Paused,
        // It goes on at its target, from a snapshot that is safe.
        Phase::Migrating if taken(WorkKind::Migrate) => return None,
        // One that never ran has nothing to lose; the executor gives it another host or fails it.
        Phase::Starting if sandbox.started_at.is_none() => return None,
        Phase::Running | Phase::Pausing | Phase::Migrating | Phase::Restoring | Phase::Starting => Phase::Lost,
        Phase::Pending
        | Phase::Assigned
        | Phase::Paused
        | Phase::Lost
        | Phase::Failed
        | Phase::Terminating
        | Phase::Terminated => return None,
    };
    let reason =
        if to == Phase::Lost { format!("host {} is lost: {}", host.name, host.health_reason) } else { String::new() };
    Some(news(sandbox, to, &reason, now))
}

fn news(sandbox: &Sandbox, to: Phase, reason: &str, at: Timestamp) -> Advance {
    Advance {
        sandbox: sandbox.id,
        generation: sandbox.generation,
        to,
        container: None,
        endpoints: Vec::new(),
        release: false,
        reason: reason.into(),
        at,
    }
}

/// Those whose host is still lost; the others come back with it.
fn lost(state: &State) -> Vec<Lost> {
    let of = |sandbox: &Arc<Sandbox>| {
        let host = state.hosts.get(&sandbox.assignment?.host).filter(|host| host.health == Health::Lost)?;
        let snapshot = state.newest_snapshot(sandbox.id).map(|snapshot| snapshot.id);
        Some(Lost { sandbox: Arc::clone(sandbox), host: Arc::clone(host), snapshot })
    };
    state.in_phase(Phase::Lost).filter_map(of).collect()
}

/// Restores a sandbox if it wants that and it is possible; answers with a reason for waiting that is not told yet.
async fn follow(node: &Node, desk: &mpsc::Sender<Ask>, it: Lost) -> Option<Advance> {
    let name = &it.host.name;
    let why = match (it.sandbox.spec.on_host_loss, it.snapshot) {
        (HostLossPolicy::Hold, _) => format!("host {name} is lost: it waits for the host (on_host_loss is hold)"),
        (HostLossPolicy::Restore, None) => {
            format!("host {name} is lost: no snapshot of it is available, so it waits for the host")
        }
        (HostLossPolicy::Restore, Some(_)) if node.registry().is_none() => {
            format!("host {name} is lost: no registry is configured to restore it from, so it waits for the host")
        }
        (HostLossPolicy::Restore, Some(snapshot)) => {
            let wish = RestoreWish { sandbox: it.sandbox.id, snapshot, last_seen: last_seen(node, &it.host) };
            match ask(desk, |reply| Ask::Restore(wish, reply)).await {
                Ok(Ok(to)) => {
                    tracing::info!(sandbox = %it.sandbox.id, lost = %name, %to, %snapshot, "restored elsewhere");
                    return None;
                }
                Ok(Err(error)) if error.code == Code::NoCapacity => {
                    format!("host {name} is lost, and there is no room to restore it: {error}")
                }
                Ok(Err(error)) | Err(error) => {
                    tracing::debug!(sandbox = %it.sandbox.id, code = %error.code, %error, "not restored yet");
                    return None;
                }
            }
        }
    };
    (*it.sandbox.reason != *why).then(|| news(&it.sandbox, Phase::Lost, &why, node.now()))
}

/// The last sign of life: it was silent for a while before it was called lost. Never earlier than it was, so that the data-loss
/// window that counts from it is never told too small.
fn last_seen(node: &Node, host: &Host) -> Timestamp {
    let silent = u64::try_from(node.options.lost_after.as_millis()).unwrap_or(u64::MAX);
    Timestamp(host.health_since.0.saturating_sub(silent))
}
