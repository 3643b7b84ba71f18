//! Sending a snapshot to the registry, and sealing it there.
//!
//! The host pushes what it committed; then the configuration is written anew from here, so that nothing of the container's environment,
//! labels or command is left in the registry.

use super::{
    super::{Api, raw, seen},
    commit, local,
    progress::Progress,
    squash::escape,
};
use crate::{
    access::Class,
    error::{self, DockerError, Refused},
    registry::{Client, Manifest, seal},
};
use bollard::query_parameters::TagImageOptionsBuilder;
use bytes::Bytes;
use plimsoll_lifecycle::{
    naming,
    ports::{CommitPlan, HostError, Pushed, Registry},
};
use plimsoll_types::{Bytes as ByteCount, Code};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Pushes and seals. What the commit left on its way goes meanwhile.
pub(crate) async fn push(api: &Api, registry: &Client, plan: &CommitPlan) -> Result<Pushed, HostError> {
    let (tidied, pushed) = tokio::join!(commit::tidy(api, plan), push_and_seal(api, registry, plan));
    if let Err(error) = tidied {
        tracing::debug!(host = api.name, snapshot = %plan.snapshot, %error, "a part of a snapshot stays for now");
    }
    pushed
}

async fn push_and_seal(api: &Api, registry: &Client, plan: &CommitPlan) -> Result<Pushed, HostError> {
    let image = naming::snapshot_image(plan.cluster, plan.snapshot);
    let place = registry.place()?;
    // The registry is asked before the host is bothered with it: whether there is anything to push to.
    let (found, base, architecture, (), door) = tokio::try_join!(
        local::inspect(api, &image),
        base(api, plan),
        api.architecture(),
        registry.check(),
        api.access.registry(place),
    )?;
    found.ok_or_else(|| {
        let text = format!("{} is not on host {}; commit it again", plan.snapshot, api.name);
        error::transient(Code::ImageNotFound, text)
    })?;
    let tag = plan.snapshot.to_string();
    let name = format!("{}/{}", door.name(), plan.repository);
    let options = TagImageOptionsBuilder::new().repo(&name).tag(&tag).build();
    api.call().await?.tag_image(&image, Some(options)).await.map_err(|e| error::docker("name an image", e))?;
    let sent = send(api, registry, &name, &tag).await;
    let sealing = async {
        match sent {
            Ok(sent) => seal(registry, plan, &base, &sent).await,
            Err(error) => Err(error),
        }
    };
    // The image keeps its local name; these would only be in the way of removing it.
    let (forgotten, sealed) = tokio::join!(forget(api, &image, &name), sealing);
    forgotten?;
    drop(door);
    Ok(Pushed { architecture, ..sealed? })
}

/// Removes the names of the pushed image at the registry.
async fn forget(api: &Api, image: &str, registry_name: &str) -> Result<(), HostError> {
    let Some(found) = local::inspect(api, image).await? else { return Ok(()) };
    let digests = found.repo_digests.unwrap_or_default();
    for name in found.repo_tags.unwrap_or_default().iter().chain(&digests) {
        if name.starts_with(registry_name) && local::from_registry(name) {
            local::untag(api, name).await?;
        }
    }
    Ok(())
}

/// Pushes a name, and answers with the layers that were sent, by the first digits of their diff ids.
async fn send(api: &Api, registry: &Client, name: &str, tag: &str) -> Result<BTreeSet<String>, HostError> {
    let login = registry.docker_login();
    let path = format!("/images/{name}/push?tag={}", escape(tag));
    let build = |path: String| raw::post(&path, &[("x-registry-auth", login.as_str())], Bytes::new());
    let pushing = async {
        let mut sent = BTreeSet::new();
        let mut progress = Progress::new(api.stream(Class::Report, build, &path).await?);
        while let Some(line) = progress.next().await? {
            // Docker goes on trying for the better part of a minute, and the sandbox may stand still meanwhile.
            if line.is_retry() {
                registry.check().await.map_err(DockerError::Lost)?;
            }
            if line.status == "Pushed" {
                sent.insert(line.id);
            }
        }
        Ok(sent)
    };
    match pushing.await {
        Ok(sent) => Ok(sent),
        Err(DockerError::Lost(lost)) => Err(lost),
        Err(DockerError::Refused(refused)) => {
            // Docker only sees the forward; whether the registry itself is there is known here.
            registry.check().await?;
            Err(refusal(api, &refused))
        }
    }
}

fn refusal(api: &Api, refused: &Refused) -> HostError {
    let text = format!("host {} could not push to the registry: {}", api.name, refused.message);
    let lower = refused.message.to_ascii_lowercase();
    if error::is_full(&lower) || lower.contains("507") || lower.contains("insufficient storage") {
        return error::transient(Code::RegistryFull, format!("{text}; free space where the registry keeps its data"));
    }
    if lower.contains("unauthorized") || lower.contains("authentication required") || lower.contains("denied") {
        return error::permanent(Code::RegistryUnreachable, format!("{text}; check the registry's user and password"));
    }
    error::transient(Code::RegistryUnreachable, text)
}

/// Configuration and layers of the image that the sandbox's container was made from.
async fn base(api: &Api, plan: &CommitPlan) -> Result<Value, HostError> {
    let found = seen::details(api, &plan.container).await?.ok_or_else(|| local::no_container(api, plan))?;
    local::check_owner(api, plan, &seen::from_inspect(&found))?;
    let image = found.image.unwrap_or_default();
    let path = format!("/images/{}/json", escape(&image));
    let answer = api.stream(Class::Call, |path| raw::get(&path), &path).await;
    let answer = answer.map_err(|e| error::docker("inspect an image", e))?;
    raw::json(answer).await.map_err(|e| error::docker("inspect an image", e))
}

/// Replaces the pushed manifest by one whose configuration is the base image's.
async fn seal(
    registry: &Client,
    plan: &CommitPlan,
    base: &Value,
    sent: &BTreeSet<String>,
) -> Result<Pushed, HostError> {
    let (repository, tag) = (plan.repository.as_str(), plan.snapshot.to_string());
    let raw = registry.manifest(repository, &tag).await?.ok_or_else(|| odd("it does not have what was pushed"))?;
    let raw_config = raw.body.pointer("/config/digest").and_then(Value::as_str);
    let raw_config = raw_config.ok_or_else(|| odd("a manifest names no configuration"))?.to_owned();
    let pushed = registry.config(repository, &raw_config).await?;
    let base_layers: Vec<String> = base
        .pointer("/RootFS/Layers")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let sealed = seal::config(&pushed, base.get("Config").unwrap_or(&Value::Null), &base_layers, plan.snapshot);
    let bytes = Bytes::from(sealed.to_string());
    let size = bytes.len();
    let digest = registry.put_blob(repository, bytes).await?;
    let Manifest { digest: raw_digest, media_type, body: mut manifest } = raw;
    if let Some(config) = manifest.get_mut("config").and_then(Value::as_object_mut) {
        config.insert("digest".to_owned(), json!(digest.to_string()));
        config.insert("size".to_owned(), json!(size));
    }
    let (total, fresh, layers) = sizes(&manifest, &seal::layers(&pushed), sent)?;
    let digest = registry.put_manifest(repository, &tag, &media_type, Bytes::from(manifest.to_string())).await?;
    if digest != raw_digest {
        // Nobody knows its digest, but what it says of the container need not stay.
        let gone = async {
            let raw_digest = raw_digest.to_string();
            tokio::try_join!(
                registry.delete_manifest(repository, &raw_digest),
                registry.delete_blob(repository, &raw_config)
            )
        };
        if let Err(error) = gone.await {
            tracing::warn!(repository, %error, "the configuration of a container stays in the registry");
        }
    }
    Ok(Pushed { digest, size: total, sent: fresh, layers, architecture: String::new() })
}

/// Compressed size of all layers, of those that were sent, and their number.
fn sizes(
    manifest: &Value,
    diff_ids: &[String],
    sent: &BTreeSet<String>,
) -> Result<(ByteCount, ByteCount, u32), HostError> {
    let layers = manifest.get("layers").and_then(Value::as_array).ok_or_else(|| odd("a manifest has no layers"))?;
    let mut sizes = (0_u64, 0_u64);
    for (at, layer) in layers.iter().enumerate() {
        let size = layer.get("size").and_then(Value::as_u64).unwrap_or(0);
        sizes.0 = sizes.0.saturating_add(size);
        let short = diff_ids.get(at).and_then(|id| id.strip_prefix("sha256:")?.get(..12));
        if short.is_some_and(|short| sent.contains(short)) {
            sizes.1 = sizes.1.saturating_add(size);
        }
    }
    Ok((ByteCount(sizes.0), ByteCount(sizes.1), u32::try_from(layers.len()).unwrap_or(u32::MAX)))
}

fn odd(why: &str) -> HostError {
    error::transient(Code::RegistryUnreachable, format!("the registry is not as expected: {why}; push again"))
}
