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
use serde_json::Value;
use std::collections::BTreeSet;

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
    let ((), door) = tokio::try_join!(registry.check(), api.access.registry(registry.place()?))?;
    let reference = format!("{}{wanted}", door.name());
    let digest = image.digest.to_string();
    let (fetched, manifest) =
        tokio::join!(fetch(api, registry, image, &reference), registry.manifest(&image.repository, &digest),);
    // The sizes are for people: without them the snapshot is here all the same.
    let manifest = manifest.ok().flatten();
    let fetched = sizes(manifest.as_ref().map(|manifest| &manifest.body), &fetched?);
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

/// Pulls, and answers with the layers that were fetched, by the first digits of their digests.
async fn fetch(
    api: &Api,
    registry: &Client,
    image: &SnapshotImage,
    reference: &str,
) -> Result<BTreeSet<String>, HostError> {
    let login = registry.docker_login();
    let path = format!("/images/create?fromImage={}", escape(reference));
    let build = |path: String| raw::post(&path, &[("x-registry-auth", login.as_str())], Bytes::new());
    let pulling = async {
        let mut layers = BTreeSet::new();
        let mut progress = Progress::new(api.stream(Class::Report, build, &path).await?);
        while let Some(line) = progress.next().await? {
            if line.is_retry() {
                registry.check().await.map_err(DockerError::Lost)?;
            }
            // Of small layers Docker tells no bytes, only that they came.
            if line.status == "Download complete" || line.status == "Pull complete" {
                layers.insert(line.id);
            }
        }
        Ok(layers)
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

/// The size of those layers of a manifest that were fetched.
fn sizes(manifest: Option<&Value>, fetched: &BTreeSet<String>) -> ByteCount {
    let layers = manifest.and_then(|manifest| manifest.get("layers")?.as_array());
    let size = |layer: &Value| {
        let short = layer.get("digest")?.as_str()?.strip_prefix("sha256:")?.get(..12)?;
        layer.get("size")?.as_u64().filter(|_| fetched.contains(short))
    };
    ByteCount(layers.into_iter().flatten().filter_map(size).fold(0, u64::saturating_add))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_layers_that_came_are_counted() {
        let layer = |digit: &str, size: u64| json!({ "digest": format!("sha256:{}", digit.repeat(64)), "size": size });
        let manifest = json!({ "layers": [layer("a", 100), layer("b", 20), layer("c", 3)] });
        for (came, bytes) in [(vec![], 0), (vec!["b"], 20), (vec!["a", "c", "d"], 103)] {
            let came = came.into_iter().map(|digit| digit.repeat(12)).collect();
            assert_eq!(sizes(Some(&manifest), &came), ByteCount(bytes), "{came:?}");
        }
        assert_eq!(sizes(None, &BTreeSet::from(["a".repeat(12)])), ByteCount(0));
    }
}
