//! The cluster's snapshot images on a host, by their local names.

use super::super::Api;
use crate::error::{self, DockerError};
use bollard::{
    models::ImageInspect,
    query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder},
};
use plimsoll_lifecycle::{
    naming::{self, label},
    ports::{CommitPlan, ContainerSeen, HostError, ImageSeen},
};
use plimsoll_types::{Bytes, ClusterId, Code, SnapshotId, Timestamp};
use std::collections::HashMap;

/// Ends the name of an image that a commit makes on its way: the root filesystem without the workspace.
const ROOT: &str = ".root";

/// The cluster's snapshot images; what a commit left on its way counts as its snapshot's.
pub(crate) async fn list(api: &Api, cluster: ClusterId) -> Result<Vec<ImageSeen>, HostError> {
    let repository = naming::snapshot_images(cluster);
    let filters = HashMap::from([("reference", vec![repository.clone()])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = api.call().await?.list_images(Some(options)).await.map_err(|e| error::docker("list images", e))?;
    let mut found = Vec::new();
    for image in images {
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        for name in &image.repo_tags {
            let Some(tag) = name.strip_prefix(&repository).and_then(|rest| rest.strip_prefix(':')) else { continue };
            found.push(ImageSeen {
                name: name.clone(),
                snapshot: tag.strip_suffix(ROOT).unwrap_or(tag).parse::<SnapshotId>().ok(),
                size: Bytes(positive(image.size)),
                created_at: Timestamp(positive(image.created).saturating_mul(1000)),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Removes a snapshot image, and the names that the registry gave it; missing is success.
pub(crate) async fn remove(api: &Api, name: &str) -> Result<(), HostError> {
    check_ours(name)?;
    let Some(found) = inspect(api, name).await? else { return Ok(()) };
    // The local name last: as long as it is there, a second try finds the others. Where another snapshot is the same image, it keeps them.
    let names = found.repo_tags.unwrap_or_default();
    if names.iter().all(|other| other == name || from_registry(other)) {
        let digests = found.repo_digests.unwrap_or_default();
        for other in names.iter().chain(&digests).filter(|other| from_registry(other)) {
            untag(api, other).await?;
        }
    }
    untag(api, name).await
}

/// Removes the cluster's images that have no name any more.
pub(crate) async fn sweep(api: &Api, cluster: ClusterId) -> Result<(), HostError> {
    nameless(api, &[format!("{}={cluster}", label::CLUSTER)]).await
}

/// Removes images with these labels that have no name any more: a commit that was cut short goes on inside Docker, and loses its name
/// to the next try. Nothing else may be at work on them.
async fn nameless(api: &Api, labels: &[String]) -> Result<(), HostError> {
    let filters = HashMap::from([("dangling", vec!["true".to_owned()]), ("label", labels.to_vec())]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = api.call().await?.list_images(Some(options)).await.map_err(|e| error::docker("list images", e))?;
    for image in images {
        // What came by a pull has a name of its digest; older engines write that there is none.
        if image.repo_digests.iter().any(|name| !name.starts_with("<none>")) {
            continue;
        }
        match untag(api, &image.id).await {
            Err(error) if error.code == Code::Conflict => tracing::debug!(host = api.name, %error, "kept for now"),
            other => other?,
        }
    }
    Ok(())
}

/// Takes a name away, and the image with its last one; missing is success, one in use is `conflict`.
pub(super) async fn untag(api: &Api, name: &str) -> Result<(), HostError> {
    let options = RemoveImageOptionsBuilder::new().force(false).build();
    match api.call().await?.remove_image(name, Some(options), None).await.map_err(DockerError::from) {
        Ok(_) => Ok(()),
        Err(error) if error.status() == Some(404) => Ok(()),
        Err(error) => Err(error::docker("remove an image", error)),
    }
}

/// Whether a name is one that a registry behind a loopback port gave, below our own folder there.
pub(super) fn from_registry(name: &str) -> bool {
    let rest = name.strip_prefix("127.0.0.1:").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(port, path)| port.bytes().all(|b| b.is_ascii_digit()) && path.starts_with("plimsoll/"))
}

/// What Docker knows of an image by name or id; `None` if it is not there.
pub(super) async fn inspect(api: &Api, image: &str) -> Result<Option<ImageInspect>, HostError> {
    match api.call().await?.inspect_image(image).await.map_err(DockerError::from) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error::docker("inspect an image", error)),
    }
}

/// The name of the root filesystem's image while a commit is under way.
pub(super) fn root_name(plan: &CommitPlan) -> String {
    format!("{}{ROOT}", naming::snapshot_image(plan.cluster, plan.snapshot))
}

/// Whether a name is a snapshot's, and not that of something on the way to one.
pub(super) fn is_whole(name: &str) -> bool {
    !name.ends_with(ROOT)
}

pub(super) fn check_owner(api: &Api, plan: &CommitPlan, found: &ContainerSeen) -> Result<(), HostError> {
    if found.cluster == Some(plan.cluster) && found.sandbox == Some(plan.sandbox) {
        return Ok(());
    }
    let text = format!("container {} on host {} is not {}'s; nothing was done", found.name, api.name, plan.sandbox);
    Err(error::permanent(Code::Conflict, text))
}

pub(super) fn no_container(api: &Api, plan: &CommitPlan) -> HostError {
    let text = format!("there is no container {} of {} on host {}", plan.container, plan.sandbox, api.name);
    error::permanent(Code::NotFound, text)
}

pub(super) fn no_image(api: &Api, image: &str) -> HostError {
    error::transient(Code::ImageNotFound, format!("image {image} vanished from host {}; retry", api.name))
}

/// Only names that we gave are removed.
fn check_ours(name: &str) -> Result<(), HostError> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"./_:-".contains(&b)) && !name.contains("..");
    if plain && name.starts_with("plimsoll-snapshot/") {
        return Ok(());
    }
    Err(error::permanent(Code::InvalidRequest, format!("{name:?} is not the name of a snapshot's image")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_removed() {
        assert!(check_ours("plimsoll-snapshot/cl-1:sn-1.root").is_ok());
        for bad in ["debian:12", "plimsoll/lab:latest", "plimsoll-snapshot/../x", "plimsoll-snapshot/a?force=1", ""] {
            assert!(check_ours(bad).is_err(), "{bad:?}");
        }
        assert!(from_registry("127.0.0.1:15000/plimsoll/cl-1/t-a/sb-1@sha256:00"));
        for foreign in
            ["127.0.0.1:15000/other/x:1", "registry/plimsoll/x:1", "plimsoll-snapshot/x:1", "127.0.0.1:x/plimsoll/y"]
        {
            assert!(!from_registry(foreign), "{foreign}");
        }
    }
}
