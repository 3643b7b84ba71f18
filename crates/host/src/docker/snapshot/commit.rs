//! Making a snapshot's image of a container that is held still.

use super::{
    super::{Api, helper, seen},
    carrier::{self, Carried},
    local, squash,
};
use crate::error;
use bollard::{
    models::{ContainerConfig, ImageInspect},
    query_parameters::{CommitContainerOptionsBuilder, ListImagesOptionsBuilder},
};
use plimsoll_lifecycle::{
    naming::{self, label},
    ports::{CommitPlan, ContainerState, HostError, HostFailure},
};
use plimsoll_types::Code;
use std::collections::HashMap;

/// Layers from which on a snapshot is squashed into one. Docker's limit is about 125, a commit adds two, and every layer slows down
/// looking for a file; squashing reads everything once, so it should be rare.
pub(crate) const SQUASH_AT: usize = 60;

/// Makes the image; what an earlier try left is replaced. A try that failed leaves nothing: a full disk is not kept full by half a copy.
/// One that succeeded leaves its helper and the half without the workspace to [`tidy`], because a sandbox may stand still meanwhile.
pub(crate) async fn commit(api: &Api, plan: &CommitPlan, squash_at: usize) -> Result<(), HostError> {
    let made = take(api, plan, squash_at).await;
    if let Err(error) = &made
        && error.failure != HostFailure::Unreachable
        && let Err(left) = discard(api, plan).await
    {
        tracing::debug!(host = api.name, snapshot = %plan.snapshot, error = %left, "a part of a snapshot stays for now");
    }
    made
}

/// Removes everything that is named after the snapshot.
async fn discard(api: &Api, plan: &CommitPlan) -> Result<(), HostError> {
    tidy(api, plan).await?;
    local::remove(api, &naming::snapshot_image(plan.cluster, plan.snapshot)).await
}

/// Removes what was only on the way to the snapshot's image. Whoever dies before leaves it to the next try, or to the reconciler.
pub(super) async fn tidy(api: &Api, plan: &CommitPlan) -> Result<(), HostError> {
    helper::remove(api, &carrier::name(plan), plan.cluster).await?;
    local::remove(api, &local::root_name(plan)).await
}

async fn take(api: &Api, plan: &CommitPlan, squash_at: usize) -> Result<(), HostError> {
    seen::check_name(&plan.workspace.volume)?;
    let found = seen::details(api, &plan.container).await?.ok_or_else(|| local::no_container(api, plan))?;
    let container = seen::from_inspect(&found);
    local::check_owner(api, plan, &container)?;
    if container.state == ContainerState::Running {
        let text = format!("container {} on host {} is not held still; freeze it first", container.name, api.name);
        return Err(error::transient(Code::Conflict, text));
    }
    let base = found.image.unwrap_or_default();
    let (base, earlier, ()) = tokio::try_join!(
        async { local::inspect(api, &base).await?.ok_or_else(|| local::no_image(api, &base)) },
        earlier(api, plan),
        discard(api, plan)
    )?;
    check_volumes(&base, plan)?;
    let environment = blank(found.config.and_then(|config| config.env), base.config.and_then(|config| config.env));

    let (image, root) = (naming::snapshot_image(plan.cluster, plan.snapshot), local::root_name(plan));
    make(api, &container.id, &root, environment).await?;
    let from = previous(api, earlier, &root, squash_at).await?.unwrap_or(root);
    let carried = carrier::run(api, plan, &from).await?;
    make(api, &carrier::name(plan), &image, Vec::new()).await?;
    let layers = local::inspect(api, &image).await?.and_then(|image| image.root_fs?.layers).unwrap_or_default();
    if carried == Carried::Flatten || layers.len() >= squash_at {
        squash::squash(api, plan, &image).await?;
    }
    Ok(())
}

/// The sandbox's own variables without their values. The seal takes them away; until then the values are not even in the image that is
/// pushed. Docker takes no variable out of an image, so the names stay.
fn blank(container: Option<Vec<String>>, base: Option<Vec<String>>) -> Vec<String> {
    let base = base.unwrap_or_default();
    let own = container.into_iter().flatten().filter(|variable| !base.contains(variable));
    own.map(|variable| format!("{}=", variable.split('=').next().unwrap_or_default())).collect()
}

/// `docker commit`, under a name, with these variables set.
async fn make(api: &Api, container: &str, name: &str, environment: Vec<String>) -> Result<(), HostError> {
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let options =
        CommitContainerOptionsBuilder::new().container(container).repo(repository).tag(tag).pause(false).build();
    let config = ContainerConfig { env: Some(environment), ..ContainerConfig::default() };
    let made = api.call().await?.commit_container(options, config).await;
    made.map(drop).map_err(|e| error::docker("commit a container", e))
}

/// The ids of earlier snapshots of the sandbox that are here, the newest first.
async fn earlier(api: &Api, plan: &CommitPlan) -> Result<Vec<String>, HostError> {
    let filters = HashMap::from([("label", vec![format!("{}={}", label::SANDBOX, plan.sandbox)])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let mut images = api.call().await?.list_images(Some(options)).await.map_err(|e| error::docker("list images", e))?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let (ours, this) = (format!("{}:", naming::snapshot_images(plan.cluster)), plan.snapshot.to_string());
    let named = |tag: &String| {
        let other = tag.strip_prefix(&ours).is_some_and(|tag| !tag.starts_with(&this));
        other && local::is_whole(tag)
    };
    images.retain(|image| image.repo_tags.iter().any(named));
    Ok(images.into_iter().map(|image| image.id).collect())
}

/// The newest of them that has the same root filesystem: only what changed in the workspace since is new then.
async fn previous(api: &Api, earlier: Vec<String>, root: &str, squash_at: usize) -> Result<Option<String>, HostError> {
    if earlier.is_empty() {
        return Ok(None);
    }
    let below = local::inspect(api, root).await?.ok_or_else(|| local::no_image(api, root))?;
    let below = below.root_fs.and_then(|root| root.layers).unwrap_or_default();
    for id in earlier {
        let layers = local::inspect(api, &id).await?.and_then(|image| image.root_fs?.layers).unwrap_or_default();
        if layers.len() > below.len() && layers.len() + 1 < squash_at && layers.starts_with(&below) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// What an image declares as a volume is in no image that is committed.
fn check_volumes(base: &ImageInspect, plan: &CommitPlan) -> Result<(), HostError> {
    let target = &plan.workspace.target;
    let volumes = base.config.as_ref().and_then(|config| config.volumes.as_ref());
    let inside = |volume: &&String| {
        let volume = volume.trim_end_matches('/');
        volume == target
            || target.strip_prefix(volume).is_some_and(|rest| rest.starts_with('/'))
            || volume.strip_prefix(target.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    match volumes.into_iter().flatten().find(inside) {
        None => Ok(()),
        Some(volume) => Err(error::permanent(
            Code::SnapshotFailed,
            format!(
                "the sandbox's image declares `VOLUME {volume}`, so its {target} can be in no snapshot; build it without"
            ),
        )),
    }
}
