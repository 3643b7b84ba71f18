//! The reaper: what ends by the clock. Deadlines, queue timeouts, failed sandboxes nobody took down, records kept long enough.
//!
//! A sandbox whose deadline asks for a pause is never terminated instead: while it cannot be paused it runs on, says why in its
//! reason, and is tried again every minute.

use super::desk::{Ask, ask};
use crate::{
    node::Node,
    operation::{self, Wish},
};
use plimsoll_state::{
    Command, Sandbox, State, WorkKind,
    command::{Advance, ForgetIdempotency, Terminate},
};
use plimsoll_types::{ExpiryAction, Health, Millis, Phase, SandboxId, Timestamp};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

/// How exact deadlines are.
const PERIOD: Duration = Duration::from_secs(1);
/// Items in one command; the rest follows within the next period.
const BATCH: usize = 256;
/// How long a failed sandbox keeps its record, its container's logs and its room before it is taken down by itself.
const FAILED_KEPT: Millis = Millis::secs(600);
/// Pauses begun in one pass: each is a log entry, and what comes of it is bounded by the executor.
const PAUSES: usize = 32;
/// How long nothing is begun after a pause was given up.
const AFTER_TROUBLE: Millis = Millis::secs(60);
/// What the reason of a sandbox begins with that found no room in time.
pub(crate) const QUEUE_TIMEOUT: &str = "queue_timeout: ";

/// Reaps until dropped.
pub(crate) async fn run(node: Arc<Node>, desk: mpsc::Sender<Ask>) {
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = reap(&node, &desk).await {
            tracing::debug!(%error, "reaping goes on in the next period");
        }
    }
}

async fn reap(node: &Node, desk: &mpsc::Sender<Ask>) -> Result<(), crate::Error> {
    let now = node.now();
    let taken = |sandboxes: &mut dyn Iterator<Item = &Arc<Sandbox>>| sandboxes.take(BATCH).cloned().collect::<Vec<_>>();
    let (expired, unlucky, failed) = node.read(|state| {
        let old = |sandbox: &&Arc<Sandbox>| now.since(sandbox.phase_since) >= FAILED_KEPT;
        let ends = |sandbox: &&Arc<Sandbox>| {
            !matches!(sandbox.phase, Phase::Terminating | Phase::Terminated) && !waits_for_pause(sandbox)
        };
        (
            taken(&mut state.expired(now).filter(ends)),
            taken(&mut state.queue_expired(now)),
            taken(&mut state.in_phase(Phase::Failed).filter(old)),
        )
    });
    let wish = |sandbox: &Sandbox, reason: String| Terminate {
        sandbox: sandbox.id,
        reason: reason.into(),
        if_deadline: None,
        if_phase: None,
        at: now,
    };
    let mut wishes: Vec<Terminate> = Vec::new();
    wishes.extend(expired.iter().map(|sandbox| Terminate {
        if_deadline: sandbox.deadline,
        ..wish(sandbox, "its deadline has passed".to_owned())
    }));
    for sandbox in &unlucky {
        let reason = format!("{QUEUE_TIMEOUT}no room within the queue timeout: {}", sentence(desk, sandbox).await);
        wishes.push(Terminate { if_phase: Some(Phase::Pending), ..wish(sandbox, reason) });
    }
    wishes.extend(failed.iter().map(|sandbox| Terminate {
        if_phase: Some(Phase::Failed),
        ..wish(sandbox, format!("it had failed: {}", sandbox.reason))
    }));
    if !wishes.is_empty() {
        node.commit(Command::Terminate(wishes)).await?;
    }
    pause_expired(node).await?;
    forget(node).await
}

/// Whether its deadline pauses it, or will once it runs. One that has nothing to pause is terminated: it never ran, or failed.
fn waits_for_pause(sandbox: &Sandbox) -> bool {
    let comes_to_run = match sandbox.phase {
        Phase::Assigned
        | Phase::Starting
        | Phase::Running
        | Phase::Pausing
        | Phase::Paused
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring => true,
        Phase::Pending | Phase::Failed | Phase::Terminating | Phase::Terminated => false,
    };
    sandbox.spec.on_expiry == ExpiryAction::Pause && comes_to_run
}

/// Pauses what runs past its deadline and asks for that.
async fn pause_expired(node: &Node) -> Result<(), crate::Error> {
    let now = node.now();
    let due = node.read(|state| {
        let due = state.expired(now).filter(|it| waits_for_pause(it) && may_pause(state, it, now));
        due.take(PAUSES).cloned().collect::<Vec<_>>()
    });
    for sandbox in due {
        if node.registry().is_none() {
            let missing = operation::registry_missing();
            complain(node, &sandbox, &format!("its deadline has passed, but {}: {missing}", missing.code)).await?;
            continue;
        }
        let wish = Wish { if_deadline: sandbox.deadline, ..Wish::new(WorkKind::Pause) };
        match operation::begin(node, &sandbox, wish).await? {
            Ok(begun) => {
                tracing::info!(sandbox = %sandbox.id, operation = %begun.operation, "paused: its deadline has passed");
            }
            // An operation that came first is waited for, and an extension wins.
            Err(refusal) => tracing::debug!(sandbox = %sandbox.id, ?refusal, "not paused now"),
        }
    }
    Ok(())
}

fn may_pause(state: &State, sandbox: &Sandbox, now: Timestamp) -> bool {
    let troubled = sandbox.trouble.as_ref().is_some_and(|it| now.since(it.at) < AFTER_TROUBLE);
    let ready = |host| state.hosts.get(&host).is_some_and(|host| host.health == Health::Ready);
    sandbox.phase == Phase::Running
        && sandbox.work.is_none()
        && !troubled
        && sandbox.assignment.is_some_and(|at| ready(at.host))
}

/// Says in a running sandbox's reason what keeps it from its pause.
async fn complain(node: &Node, sandbox: &Sandbox, why: &str) -> Result<(), crate::Error> {
    if *sandbox.reason == *why {
        return Ok(());
    }
    tracing::warn!(sandbox = %sandbox.id, "{why}");
    let news = Advance {
        sandbox: sandbox.id,
        generation: sandbox.generation,
        to: Phase::Running,
        container: None,
        endpoints: Vec::new(),
        release: false,
        reason: why.into(),
        at: node.now(),
    };
    node.commit(Command::Advance(vec![news])).await.map(drop)
}

async fn forget(node: &Node) -> Result<(), crate::Error> {
    let now = node.now();
    let (old, keys) = node.read(|state| {
        let old: Vec<SandboxId> = state.forgettable(now).take(BATCH).map(|sandbox| sandbox.id).collect();
        (old, state.idempotency_overdue(now))
    });
    if !old.is_empty() {
        node.commit(Command::Forget(old)).await?;
    }
    if let Some(before) = keys {
        node.commit(Command::ForgetIdempotency(ForgetIdempotency { before })).await?;
    }
    Ok(())
}

/// Why there is still no room.
async fn sentence(desk: &mpsc::Sender<Ask>, sandbox: &Sandbox) -> String {
    let (tenant, spec) = (sandbox.tenant.clone(), Arc::clone(&sandbox.spec));
    match ask(desk, |reply| Ask::Explain(tenant, spec, reply)).await {
        Ok(Ok(explained)) => explained.sentence,
        Ok(Err(error)) | Err(error) => error.message,
    }
}
