//! Once at start: says which settings of this node the replicated policy overrules. Changes nothing.

use crate::config::Config;
use anyhow::{Context as _, Result};
use plimsoll_lifecycle::ports::{Ledger, LedgerError, ledger};

/// Waits until the policy is known and logs a warning for each setting that differs from it.
pub(super) async fn warn(config: &Config, node: &dyn Ledger) -> Result<()> {
    while let Err(error) = node.barrier().await {
        match error {
            // The barrier has waited already; a node that joins late, or starts first, goes on waiting.
            LedgerError::NoQuorum(_) => {}
            LedgerError::Overloaded | LedgerError::Leader(_) | LedgerError::Closed => {
                return Err(error).context("the policy in force cannot be read");
            }
        }
    }
    let in_force = ledger::read(node, |state| state.policy.clone());
    for overruled in config.cluster.overruled(&in_force)? {
        tracing::warn!("{overruled}");
    }
    Ok(())
}
