//! A short-lived container that does as root, on one folder, what the login user may not: for hosts whose login user is only a
//! member of group docker.
//!
//! It runs one fixed program of the sandbox's own image, without network and with the capabilities that this needs; it leaves
//! nothing behind, and what a crash leaves is removed by the next try, because its name is fixed, or with its sandbox.

use super::{Api, remove as removing, seen};
use crate::error;
use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{CreateContainerOptionsBuilder, WaitContainerOptions},
};
use futures_util::StreamExt;
use plimsoll_lifecycle::{naming::label, ports::HostError};
use plimsoll_types::{Bytes, ClusterId, Code};

/// `chown` and `rm` need next to nothing.
const MEMORY: Bytes = Bytes::mib(64);

/// What to run.
pub(crate) struct Job<'a> {
    pub(crate) name: String,
    pub(crate) cluster: ClusterId,
    /// For whom, so that what a crash leaves of it goes with that sandbox's other containers.
    pub(crate) sandbox: Option<String>,
    pub(crate) image: &'a str,
    /// Folder on the host, and where it appears; Docker creates it as root if it is missing.
    pub(crate) bind: (&'a str, &'a str),
    pub(crate) argv: &'a [&'a str],
}

pub(crate) async fn run(api: &Api, job: &Job<'_>) -> Result<(), HostError> {
    remove(api, &job.name, job.cluster).await?;
    let docker = api.call().await?;
    let sandbox = job.sandbox.clone().map(|sandbox| (label::SANDBOX.to_owned(), sandbox));
    let body = ContainerCreateBody {
        image: Some(job.image.to_owned()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![job.argv.first().map_or("", |program| *program).to_owned()]),
        cmd: Some(job.argv.iter().skip(1).map(|arg| (*arg).to_owned()).collect()),
        labels: Some(std::iter::once((label::CLUSTER.to_owned(), job.cluster.to_string())).chain(sandbox).collect()),
        host_config: Some(HostConfig {
            binds: Some(vec![format!("{}:{}", job.bind.0, job.bind.1)]),
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(vec!["CHOWN".to_owned(), "DAC_OVERRIDE".to_owned(), "FOWNER".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            memory: i64::try_from(MEMORY.0).ok(),
            pids_limit: Some(16),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&job.name).build();
    docker.create_container(Some(options), body).await.map_err(|e| error::docker("create a helper container", e))?;
    let ran = wait(api, &job.name).await;
    let removed = remove(api, &job.name, job.cluster).await;
    match ran? {
        0 => removed,
        code => {
            let text =
                format!("`{}` in a helper container on host {} exited with {code}", job.argv.join(" "), api.name);
            Err(error::transient(Code::StartFailed, text))
        }
    }
}

pub(super) async fn wait(api: &Api, name: &str) -> Result<i64, HostError> {
    let docker = api.call().await?;
    docker.start_container(name, None).await.map_err(|e| error::docker("start a helper container", e))?;
    let mut waiting = std::pin::pin!(docker.wait_container(name, None::<WaitContainerOptions>));
    match waiting.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error::docker("wait for a helper container", error)),
        None => Err(error::transient(Code::DockerUnreachable, "Docker did not say how a helper container ended")),
    }
}

pub(super) async fn remove(api: &Api, name: &str, cluster: ClusterId) -> Result<(), HostError> {
    let Some(found) = seen::inspect(api, name).await? else { return Ok(()) };
    if found.cluster != Some(cluster) {
        let text = format!("container {name} on host {} is not this cluster's; remove or rename it", api.name);
        return Err(error::this_host(Code::NameClash, text));
    }
    removing::container(api, &found.id).await
}
