//! One node as a process: where the adapters meet, how it starts, and how it ends.

mod dev;
mod env_hosts;
mod found;
mod node;

pub use dev::dev;
pub use found::{init, join};

use crate::{cli::args::NodeArgs, config::Config, telemetry};
use anyhow::Result;
use std::path::Path;

/// The configuration that a node command works with: file, environment, then its flags.
fn configured(args: &NodeArgs) -> Result<Config> {
    let mut config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    if let Some(folder) = &args.data_dir {
        config.data_dir = Some(folder.clone());
    }
    if let Some(format) = args.log_format {
        config.log.format = format;
    }
    Ok(config)
}

/// Whether a folder holds no node yet.
fn is_empty(folder: &Path) -> bool {
    !folder.exists() || folder.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// `plimsoll server`: runs the node that the folder holds. With `VPS_HOST` set and no node yet, a cluster of one is made first.
///
/// # Errors
/// When the node cannot start or cannot go on; the message says what to do.
pub async fn server(args: &NodeArgs) -> Result<()> {
    let config = configured(args)?;
    telemetry::install_logs(&config.log)?;
    let hosts = crate::config::hosts_from_env(|name| std::env::var(name).ok())?;
    if !hosts.is_empty() && is_empty(&config.data_dir()) {
        let founded = found::found(&config).await?;
        match crate::cli::context::save(&founded.access()) {
            Ok(saved) => {
                tracing::info!(file = %saved.display(), "VPS_HOST made a cluster of one; its operator key was saved for this user")
            }
            Err(error) => tracing::warn!(
                "VPS_HOST made a cluster of one; its operator key is in operator.key in the data folder: {error:#}"
            ),
        }
    }
    node::run(&config, node::Extras { hosts, ..node::Extras::default() }).await
}
