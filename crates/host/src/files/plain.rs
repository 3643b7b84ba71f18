//! Moving and removing.

use super::script;
use crate::docker::Api;
use plimsoll_lifecycle::ports::HostError;
use std::sync::Arc;

/// Room for what these scripts print: nothing.
const NOTHING: usize = 4096;

/// Moves or renames; the target's parents are created.
pub(crate) async fn rename(api: &Arc<Api>, container: &str, from: &str, to: &str) -> Result<(), HostError> {
    let (from, to) = (script::check_target(from)?, script::check_target(to)?);
    script::run(api, container, None, from, (script::RENAME, &[from, to]), None, NOTHING).await.map(drop)
}

/// Removes a file, or a folder with all below it if `recursive`.
pub(crate) async fn remove(api: &Arc<Api>, container: &str, path: &str, recursive: bool) -> Result<(), HostError> {
    let path = script::check_target(path)?;
    let all = if recursive { "1" } else { "" };
    script::run(api, container, None, path, (script::REMOVE, &[path, all]), None, NOTHING).await.map(drop)
}
