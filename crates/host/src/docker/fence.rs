//! Fencing: a container that was replaced is stopped and gets another name, and is kept.

use super::{Api, seen};
use crate::{
    error::{self, DockerError},
    limits,
};
use bollard::query_parameters::{RenameContainerOptionsBuilder, StopContainerOptionsBuilder};
use plimsoll_lifecycle::ports::HostError;

/// Stops a container and gives it this name; missing is success. Stopped first: never are two reachable. Where another container has the
/// name already, because two sandboxes of a session were fenced at the same generation, the id's first digits are added.
pub(crate) async fn fence(api: &Api, container: &str, name: &str) -> Result<(), HostError> {
    seen::check_name(name)?;
    let Some(found) = seen::inspect(api, container).await? else { return Ok(()) };
    let options = StopContainerOptionsBuilder::new().t(limits::FENCE_GRACE_S).build();
    match api.call().await?.stop_container(&found.id, Some(options)).await.map_err(DockerError::from) {
        Ok(()) => {}
        // Stopped already, or gone.
        Err(error) if matches!(error.status(), Some(304 | 404)) => {}
        Err(error) => return Err(error::docker("stop a container that was replaced", error)),
    }
    let short: String = found.id.chars().take(12).collect();
    let second = format!("{name}.{short}");
    if found.name == name || found.name == second {
        return Ok(());
    }
    for name in [name, &second] {
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        match api.call().await?.rename_container(&found.id, options).await.map_err(DockerError::from) {
            Ok(()) => {
                tracing::warn!(host = api.name, container = found.id, name, "fenced a container that was replaced");
                return Ok(());
            }
            Err(error) if error.status() == Some(404) => return Ok(()),
            Err(error) if error.status() == Some(409) && name != second => {}
            Err(error) => return Err(error::docker("rename a container that was replaced", error)),
        }
    }
    Ok(())
}
