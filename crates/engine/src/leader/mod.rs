//! What only the leader does: place, execute, monitor, reconcile, reap. Each loop is level-triggered: it derives what to do
//! from state, so a new leader continues where the old one stopped. Dropping the future stops everything at once.

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
use leading::Leading;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

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
    let open = node.desk.open(sender.clone());
    let acts = || act(Arc::clone(&node), sender.clone()).boxed();
    tokio::join!(
        placer::run(Arc::clone(&node), Arc::clone(&leading), asks),
        courier::run(Arc::clone(&node)),
        monitor::run(Arc::clone(&node), Arc::clone(&leading)),
        tally::run(Arc::clone(&node), sender.clone()),
        hold::while_free(&node, acts),
    );
    drop(open);
}

/// Every loop that has an effect on hosts or the registry.
async fn act(node: Arc<Node>, sender: mpsc::Sender<desk::Ask>) {
    tokio::join!(
        executor::run(Arc::clone(&node), sender.clone()),
        reconciler::run(Arc::clone(&node)),
        reaper::run(Arc::clone(&node), sender.clone()),
        loss::run(Arc::clone(&node), sender.clone()),
        checkpoints::run(Arc::clone(&node), sender.clone()),
        idle::run(Arc::clone(&node), sender.clone()),
        drainer::run(Arc::clone(&node), sender.clone()),
        collector::run(Arc::clone(&node), sender),
    );
}
