//! One node as a process: where the adapters meet, how it starts, and how it ends.

mod begin;
mod dev;
mod env_hosts;
mod found;
mod node;
mod policy_check;
mod registry;
mod restore;

pub use begin::{init, join};
pub use dev::dev;
pub use restore::restore;

use crate::{cli::args::NodeArgs, config::Config, telemetry};
use anyhow::Result;

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

/// `plimsoll server`: runs the node that the folder holds, after finishing its founding if that was cut short. With `VPS_HOST`
/// set and no node yet, a cluster of one is made first.
///
/// # Errors
/// When the node cannot start or cannot go on; the message says what to do.
pub async fn server(args: &NodeArgs) -> Result<()> {
    let config = configured(args)?;
    telemetry::install_logs(&config)?;
    let hosts = crate::config::hosts_from_env(|name| std::env::var(name).ok())?;
    let folder = config.data_dir();
    if found::is_unfinished(&folder) || (!hosts.is_empty() && found::is_empty(&folder)) {
        let founded = found::found(&config).await?;
        let kept = found::key_file(&folder);
        match crate::cli::context::save(&founded.access()) {
            Ok(saved) => tracing::info!(
                file = %saved.display(),
                "a cluster of one was made; its operator key was saved for this user, and in {}",
                kept.display()
            ),
            Err(error) => {
                tracing::warn!("a cluster of one was made; its operator key is in {}: {error:#}", kept.display())
            }
        }
    }
    let ended = node::run(&config, node::Extras { hosts, ..node::Extras::default() }).await;
    telemetry::end().await;
    ended
}
