//! Holding a container's processes still, and letting them go on.

use super::{Api, seen};
use crate::error::{self, DockerError};
use plimsoll_lifecycle::ports::{ContainerSeen, ContainerState, HostError};
use plimsoll_types::Code;

/// Holds a running container still; one that does not run is as still as can be.
pub(crate) async fn freeze(api: &Api, container: &str) -> Result<(), HostError> {
    let found = look(api, container).await?;
    if found.state != ContainerState::Running {
        return Ok(());
    }
    let asked = api.call().await?.pause_container(&found.id).await.map_err(DockerError::from);
    settle(api, &found.id, asked, "hold a container still", |state| state != ContainerState::Running).await
}

/// Lets a container go on that is held still.
pub(crate) async fn thaw(api: &Api, container: &str) -> Result<(), HostError> {
    let found = look(api, container).await?;
    if found.state != ContainerState::Paused {
        return Ok(());
    }
    let asked = api.call().await?.unpause_container(&found.id).await.map_err(DockerError::from);
    settle(api, &found.id, asked, "let a container go on", |state| state != ContainerState::Paused).await
}

/// Somebody else may have done it meanwhile, or the container ended: what it is now counts.
async fn settle(
    api: &Api,
    container: &str,
    asked: Result<(), DockerError>,
    what: &str,
    wanted: impl Fn(ContainerState) -> bool,
) -> Result<(), HostError> {
    match asked {
        Ok(()) => Ok(()),
        Err(DockerError::Lost(lost)) => Err(lost),
        Err(refused) => {
            if wanted(look(api, container).await?.state) {
                return Ok(());
            }
            Err(error::docker(what, refused))
        }
    }
}

async fn look(api: &Api, container: &str) -> Result<ContainerSeen, HostError> {
    seen::inspect(api, container).await?.ok_or_else(|| {
        error::permanent(Code::NotFound, format!("there is no container {container} on host {}", api.name))
    })
}
