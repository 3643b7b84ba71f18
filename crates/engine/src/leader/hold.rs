//! The hold: while it lasts, the loops that act on hosts or the registry do not run at all. Hosts are still measured, and questions
//! that change nothing are answered.

use crate::{Error, node::Node};
use futures_util::future::BoxFuture;
use plimsoll_types::Code;

/// Runs what acts, for as long as the cluster is not on hold, and drops it when that changes: as at the end of a lead, what is under
/// way is derived again later.
pub(super) async fn while_free(node: &Node, acts: impl Fn() -> BoxFuture<'static, ()>) {
    loop {
        until(node, false).await;
        tokio::select! {
            () = acts() => return,
            () = until(node, true) => tracing::warn!("on hold: nothing is done on hosts until `plimsoll cluster resume`"),
        }
    }
}

/// Refuses while the cluster is on hold.
///
/// # Errors
/// `on_hold`, with the reason.
pub(crate) fn refuse(node: &Node) -> Result<(), Error> {
    match node.read(|state| state.hold.clone()) {
        Some(hold) => Err(Error::new(Code::OnHold, format!("{} ({})", Code::OnHold.meaning(), hold.reason))),
        None => Ok(()),
    }
}

async fn until(node: &Node, held: bool) {
    loop {
        let (seen, now) = node.read(|state| (state.applied, state.hold.is_some()));
        if now == held {
            return;
        }
        node.ledger.changed(seen).await;
    }
}
