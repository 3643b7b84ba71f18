//! Removing containers.

use super::{Api, seen};
use crate::error::{self, DockerError};
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use plimsoll_lifecycle::ports::HostError;
use std::time::Duration;

/// Between two looks at a container that somebody else is removing.
const LOOK: Duration = Duration::from_millis(100);

/// Removes a container, running or not, with its anonymous volumes; missing is success.
pub(crate) async fn container(api: &Api, container: &str) -> Result<(), HostError> {
    seen::check_name(container)?;
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match api.call().await?.remove_container(container, Some(options)).await.map_err(DockerError::from) {
        Ok(()) => Ok(()),
        Err(error) if error.status() == Some(404) => Ok(()),
        // "Removal is already in progress": somebody else's request; its end is ours too. The deadline ends the wait.
        Err(error) if error.status() == Some(409) => {
            while seen::details(api, container).await?.is_some() {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        }
        Err(error) => Err(error::docker("remove a container", error)),
    }
}
