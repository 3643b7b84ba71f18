//! Fetching a snapshot by digest.

use super::{
    super::{Api, raw},
    local,
    progress::Progress,
    squash::escape,
};
use crate::{
    access::Class,
    error::{self, DockerError, Refused},
    registry::Client,
};
use bollard::query_parameters::TagImageOptionsBuilder;
use bytes::Bytes;
use plimsoll_lifecycle::{
    naming,
    ports::{HostError, Registry, SnapshotImage},
};
use plimsoll_types::{Bytes as ByteCount, Code};
use std::collections::BTreeMap;

/// Makes sure that the snapshot is here under its local name. The name that the registry gave it stays beside it: it says which digest
/// it has, and [`local::remove`] takes it away again.
pub(crate) async fn pull(api: &Api, registry: Option<&Client>, image: &SnapshotImage) -> Result<ByteCount, HostError> {
    let name = naming::snapshot_image(image.cluster, image.snapshot);
    let wanted = format!("/{}@{}", image.repository, image.digest);
    let here = local::inspect(api, &name).await?;
    let carries = |names: Option<&[String]>| {
        names.into_iter().flatten().any(|name| local::from_registry(name) && name.ends_with(&wanted))
    };
    let here = match here {
        Some(found) if carries(found.repo_digests.as_deref()) => return Ok(ByteCount(0)),
        Some(found) => found.id,
        None => None,
    };
    let registry = registry.ok_or_else(missing)?;
    registry.check().await?;
    let door = api.access.registry(registry.place()?).await?;
    let reference = format!("{}{wanted}", door.name());
    let fetched = fetch(api, registry, image, &reference).await?;
    drop(door);
    let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    api.call().await?.tag_image(&reference, Some(options)).await.map_err(|e| error::docker("name an image", e))?;
    // What a commit made here has lost its name to the same layers with a reset configuration.
    if let Some(before) = here
        && let Err(error) = local::untag(api, &before).await
    {
        tracing::debug!(host = api.name, image = before, %error, "an image without a name stays for now");
    }
    Ok(fetched)
}

async fn fetch(api: &Api, registry: &Client, image: &SnapshotImage, reference: &str) -> Result<ByteCount, HostError> {
    let login = registry.docker_login();
    let path = format!("/images/create?fromImage={}", escape(reference));
    let build = |path: String| raw::post(&path, &[("x-registry-auth", login.as_str())], Bytes::new());
    let pulling = async {
        let mut layers: BTreeMap<String, u64> = BTreeMap::new();
        let mut progress = Progress::new(api.stream(Class::Stream, build, &path).await?);
        while let Some(line) = progress.next().await? {
            if line.is_retry() {
                registry.check().await.map_err(DockerError::Lost)?;
            }
            if line.status == "Downloading" {
                let most = layers.entry(line.id).or_default();
                *most = line.current.max(*most);
            }
        }
        Ok(ByteCount(layers.values().fold(0, |all, one| all.saturating_add(*one))))
    };
    match pulling.await {
        Ok(fetched) => Ok(fetched),
        Err(DockerError::Lost(lost)) => Err(lost),
        Err(DockerError::Refused(refused)) => {
            registry.check().await?;
            Err(refusal(api, image, &refused))
        }
    }
}

fn refusal(api: &Api, image: &SnapshotImage, refused: &Refused) -> HostError {
    let (message, host) = (&refused.message, &api.name);
    let lower = message.to_ascii_lowercase();
    if error::is_full(message) {
        let text = format!("host {host} has no room for {}: {message}; free disk space there", image.snapshot);
        return error::this_host(Code::HostFull, text);
    }
    if lower.contains("manifest unknown") || lower.contains("not found") || refused.status == 404 {
        let text = format!("the registry does not have {} as {}: {message}", image.snapshot, image.digest);
        return error::permanent(Code::SnapshotNotFound, text);
    }
    let text = format!("{} could not be pulled on host {host}: {message}", image.snapshot);
    if lower.contains("max depth exceeded") {
        return error::permanent(Code::ImagePullFailed, text);
    }
    error::transient(Code::ImagePullFailed, text)
}

/// Nothing can leave or reach a host without a registry.
pub(crate) fn missing() -> HostError {
    let text = "no registry is configured, so nothing can be snapshot, paused or moved; set registry.url";
    error::permanent(Code::RegistryMissing, text)
}
