//! The extended attributes that a sandbox's user gave to files of the workspace. Docker writes none of them into an image, so the carrier
//! leaves a list of them in it, and a container that is made from it gets them back before it starts.
//!
//! Both need tools of the image (Debian's package `attr`); without them, and outside the workspace, they are not kept.

use super::super::{
    Api,
    helper::{self, Job},
};
use crate::error::{self, DockerError};
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;
use plimsoll_lifecycle::ports::{ContainerPlan, HostError, HostFailure};

/// The list, as `getfattr --dump` writes it, where only root can have put it.
pub(super) const KEPT: &str = "/.plimsoll-attributes";

/// Gives the files of the workspace their attributes again, for a container that was made from a snapshot and not started yet.
/// Attributes that this host's file system refuses are no reason to leave a sandbox without its files.
pub(crate) async fn restore(api: &Api, plan: &ContainerPlan, container: &str, image: &str) -> Result<(), HostError> {
    if !plan.from_snapshot || !has_list(api, container).await? {
        return Ok(());
    }
    let script = "cd -- \"$1\" && setfattr -h --restore=\"$2\"";
    let job = Job {
        name: format!("{}.attributes", plan.name),
        cluster: plan.cluster,
        sandbox: Some(plan.sandbox.to_string()),
        image,
        bind: (&plan.workspace.source, &plan.workspace.target),
        argv: &["/bin/sh", "-c", script, "sh", &plan.workspace.target, KEPT],
    };
    match helper::run(api, &job).await {
        Err(error) if error.failure != HostFailure::Unreachable => {
            tracing::warn!(host = api.name, sandbox = %plan.sandbox, %error, "not all extended attributes came back");
            Ok(())
        }
        done => done,
    }
}

async fn has_list(api: &Api, container: &str) -> Result<bool, HostError> {
    let options = ContainerArchiveInfoOptionsBuilder::new().path(KEPT).build();
    match api.call().await?.get_container_archive_info(container, Some(options)).await.map_err(DockerError::from) {
        Ok(_) => Ok(true),
        Err(error) if error.status() == Some(404) => Ok(false),
        Err(error) => Err(error::docker("look into the sandbox", error)),
    }
}
