//! What only the leader does: place, execute, monitor, reconcile, reap. Each loop is level-triggered: it derives what to do
//! from state, so a new leader continues where the old one stopped. Dropping the future stops everything at its next pause.

pub(crate) mod activity;
mod blame;
pub(crate) mod checkpoints;
mod collector;
pub(crate) mod courier;
pub(crate) mod desk;
pub(crate) mod drainer;
mod executor;
mod full_disk;
pub(crate) mod hold;
pub(crate) mod idle;
mod job;
mod lasting;
pub(crate) mod leading;
pub(crate) mod loads;
mod loss;
mod monitor;
mod placer;
pub(crate) mod ready;
mod reaper;
pub(crate) mod rebalance;
pub(crate) mod reconciler;
pub(crate) mod stillness;
mod takedown;
mod tally;
mod yard;

use crate::node::Node;
use futures_util::FutureExt as _;
use lasting::lasting;
use leading::Leading;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// Most placements and questions waiting for the placer: about a second's work; more are refused as overloaded.
const DESK_LIMIT: usize = 4096;
/// Between tries to confirm leadership; elections take longer.
const CONFIRM_PAUSE: Duration = Duration::from_millis(50);

/// Leads until dropped.
pub(crate) async fn lead(node: Arc<Node>, term: u64) {
    // What earlier leaders committed must be seen before anything is decided or listed.
    while let Err(error) = node.ledger.barrier().await {
        tracing::debug!(%error, term, "leadership is not confirmed yet");
        tokio::time::sleep(CONFIRM_PAUSE).await;
    }
    tracing::info!(term, node = %node.ledger.node(), "leading");
    let leading = Arc::new(Leading::default());
    let _shown = node.leading.show(Arc::clone(&leading));
    let (sender, asks) = mpsc::channel(DESK_LIMIT);
    // A placer that begins anew goes on with what was asked of the one before.
    let asks = Arc::new(Mutex::new(asks));
    let open = node.desk.open(sender.clone());
    let acts = || act(Arc::clone(&node), sender.clone()).boxed();
    let place = {
        let (node, leading) = (Arc::clone(&node), Arc::clone(&leading));
        move || {
            let (node, leading, asks) = (Arc::clone(&node), Arc::clone(&leading), Arc::clone(&asks));
            async move { placer::run(node, leading, &mut *asks.lock().await).await }
        }
    };
    tokio::join!(
        apart(lasting("placer", place)),
        lasting("courier", || courier::run(Arc::clone(&node))),
        lasting("monitor", || monitor::run(Arc::clone(&node), Arc::clone(&leading))),
        lasting("tally", || tally::run(Arc::clone(&node), sender.clone())),
        hold::while_free(&node, acts),
    );
    drop(open);
}

/// Every loop that has an effect on hosts or the registry.
async fn act(node: Arc<Node>, sender: mpsc::Sender<desk::Ask>) {
    let execute = {
        let (node, sender) = (Arc::clone(&node), sender.clone());
        move || {
            let (node, sender) = (Arc::clone(&node), sender.clone());
            async move {
                // The one before may have to be scheduled once more to end: until then its jobs are not gone.
                let _only = node.executing.lock().await;
                executor::run(Arc::clone(&node), sender).await;
            }
        }
    };
    tokio::join!(
        apart(lasting("executor", execute)),
        lasting("reconciler", || reconciler::run(Arc::clone(&node))),
        lasting("reaper", || reaper::run(Arc::clone(&node), sender.clone())),
        lasting("loss", || loss::run(Arc::clone(&node), sender.clone())),
        lasting("checkpoints", || checkpoints::run(Arc::clone(&node), sender.clone())),
        lasting("idle", || idle::run(Arc::clone(&node), sender.clone())),
        lasting("drainer", || drainer::run(Arc::clone(&node), sender.clone())),
        lasting("collector", || collector::run(Arc::clone(&node), sender.clone())),
    );
}

/// Runs a loop that is busy under load on a task of its own: no other waits for it, nor is it looked at whenever another wakes. Dropping
/// this ends it at its next pause.
async fn apart(run: impl Future<Output = ()> + Send + 'static) {
    // Only the end of the runtime cancels it; panics were caught within.
    let _ended = AbortOnDropHandle::new(tokio::spawn(run.in_current_span())).await;
}
