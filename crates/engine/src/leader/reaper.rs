//! The reaper: what ends by the clock. Deadlines, queue timeouts, failed sandboxes nobody took down, records kept long enough.

use super::desk::{Ask, ask};
use crate::node::Node;
use plimsoll_state::{
    Command, Sandbox,
    command::{ForgetIdempotency, Terminate},
};
use plimsoll_types::{Millis, Phase, SandboxId};
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
        let ends = |sandbox: &&Arc<Sandbox>| !matches!(sandbox.phase, Phase::Terminating | Phase::Terminated);
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
    forget(node).await
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
