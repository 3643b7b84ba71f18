//! Creating a sandbox's container: the name decides which of many creators wins, and what happens to a container in the way.
//!
//! A container that is not this cluster's is never touched, and one of ours is stopped and renamed, never removed.

use super::{Api, account, fence, hardening, image, network, remove, seen, snapshot::attributes, workspace};
use crate::error::{self, DockerError, Refused};
use bollard::{models::ContainerInspectResponse, query_parameters::CreateContainerOptionsBuilder};
use plimsoll_lifecycle::{
    naming,
    ports::{ContainerPlan, ContainerSeen, ContainerState, HostError},
};
use plimsoll_types::{Code, Generation, SandboxId};

/// Each further attempt means that somebody else used the name or removed the network in between; more than two do not happen.
const ATTEMPTS: usize = 4;

/// Creates the container, or finds the one an earlier try made.
pub(crate) async fn create(api: &Api, plan: &ContainerPlan) -> Result<ContainerSeen, HostError> {
    seen::check_name(&plan.name)?;
    for _ in 0..ATTEMPTS {
        let (holder, image_id) = tokio::try_join!(holder(api, plan), image::id(api, &plan.image))?;
        if let Some(holder) = holder {
            let found = seen::from_inspect(&holder);
            match judge(plan, &found) {
                Verdict::Adopt => return adopt(api, plan, &holder, found).await,
                Verdict::Broken => remove::container(api, &found.id).await?,
                Verdict::Fence => {
                    let name = naming::fenced(&found.name, found.generation.unwrap_or_default());
                    fence::fence(api, &found.id, &name).await?;
                }
                Verdict::Newer => return Err(superseded(api, plan, &found)),
                Verdict::Foreign => return Err(foreign(api, plan)),
            }
        }
        match make(api, plan, &image_id.ok_or_else(|| no_image(api, plan))?).await? {
            Some(made) => return Ok(made),
            None => continue,
        }
    }
    let text = format!("container name {} on host {} is contended; retry", plan.name, api.name);
    Err(error::transient(Code::Conflict, text))
}

/// The container that an earlier try made: whoever made it may have died before it was complete.
async fn adopt(
    api: &Api,
    plan: &ContainerPlan,
    holder: &ContainerInspectResponse,
    found: ContainerSeen,
) -> Result<ContainerSeen, HostError> {
    let image_id = holder.image.as_deref().unwrap_or_default();
    let _alone = api.workspaces.lock(&plan.workspace.volume).await;
    workspace::own(api, plan, image_id, false).await?;
    if found.state == ContainerState::Created {
        fill_in(api, plan, &found.id, image_id).await?;
    }
    Ok(found)
}

/// One try; `None` if somebody else has the name, or took the network away.
async fn make(api: &Api, plan: &ContainerPlan, image_id: &str) -> Result<Option<ContainerSeen>, HostError> {
    // Held until the container uses the workspace, so that it is not removed as left over in between.
    let _alone = api.workspaces.lock(&plan.workspace.volume).await;
    if plan.from_snapshot {
        // Docker fills only an empty volume: what an interrupted try left half-filled would silently be kept.
        workspace::clear(api, &plan.workspace, plan.cluster).await?;
    }
    // Held until the container uses the network, so that it is not removed as idle in between.
    let _networks = api.networks.read().await;
    let prepared = workspace::prepare(api, plan, image_id);
    let (empty, network) = tokio::try_join!(prepared, network::ensure(api, &plan.network, plan.cluster))?;
    let options = CreateContainerOptionsBuilder::new().name(&plan.name).build();
    let body = hardening::body(plan, &network, api.cpus().await?);
    let id = match api.call().await?.create_container(Some(options), body).await.map_err(DockerError::from) {
        Ok(created) => created.id,
        Err(DockerError::Lost(lost)) => return Err(lost),
        Err(DockerError::Refused(refused)) if refused.status == 409 => return Ok(None),
        // Another node found it idle in between.
        Err(DockerError::Refused(refused)) if network::is_gone(&refused) => {
            api.known.forget_networks();
            return Ok(None);
        }
        Err(DockerError::Refused(refused)) => return Err(refusal(api, plan, refused)),
    };
    tokio::try_join!(workspace::own(api, plan, image_id, empty), fill_in(api, plan, &id, image_id))?;
    api.known.learn_made(&id);
    Ok(Some(seen::just_made(plan, id)))
}

/// What the image alone does not give a container that was not started yet. A snapshot has the account that its container was given before
/// it ever ran; only a snapshot has attributes to give back.
async fn fill_in(api: &Api, plan: &ContainerPlan, id: &str, image_id: &str) -> Result<(), HostError> {
    if plan.from_snapshot {
        attributes::restore(api, plan, id, image_id).await
    } else {
        account::ensure(api, id, image_id).await
    }
}

/// Who has the name. Docker also finds containers by a part of their id, so the name is compared.
async fn holder(api: &Api, plan: &ContainerPlan) -> Result<Option<ContainerInspectResponse>, HostError> {
    let found = seen::details(api, &plan.name).await?;
    Ok(found.filter(|found| found.name.as_deref().is_some_and(|name| name.trim_start_matches('/') == plan.name)))
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Adopt,
    Broken,
    Fence,
    Newer,
    Foreign,
}

fn judge(plan: &ContainerPlan, found: &ContainerSeen) -> Verdict {
    let (Some(sandbox), Some(generation)) = (found.sandbox, found.generation) else { return Verdict::Foreign };
    if found.cluster != Some(plan.cluster) {
        return Verdict::Foreign;
    }
    // A session's sandboxes follow each other, and their ids are ordered by time.
    let (theirs, ours): ((SandboxId, Generation), _) = ((sandbox, generation), (plan.sandbox, plan.generation));
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Equal if found.state == ContainerState::Dead => Verdict::Broken,
        std::cmp::Ordering::Equal => Verdict::Adopt,
        std::cmp::Ordering::Less => Verdict::Fence,
        std::cmp::Ordering::Greater => Verdict::Newer,
    }
}

fn superseded(api: &Api, plan: &ContainerPlan, found: &ContainerSeen) -> HostError {
    let text = format!(
        "container {} on host {} is of a newer incarnation (generation {}) than the one asked for ({}); what asked is out of date",
        plan.name,
        api.name,
        found.generation.unwrap_or_default(),
        plan.generation
    );
    error::transient(Code::Conflict, text)
}

fn foreign(api: &Api, plan: &ContainerPlan) -> HostError {
    let text = format!(
        "container {} on host {} is not this cluster's; rename or remove it, or choose another name prefix",
        plan.name, api.name
    );
    error::this_host(Code::NameClash, text)
}

fn no_image(api: &Api, plan: &ContainerPlan) -> HostError {
    let text = format!("image {} is not on host {}; pull it there, or retry", plan.image, api.name);
    error::transient(Code::ImageNotFound, text)
}

fn refusal(api: &Api, plan: &ContainerPlan, refused: Refused) -> HostError {
    let Refused { status, message } = refused;
    let lower = message.to_ascii_lowercase();
    if status == 404 && lower.contains("no such image") {
        return no_image(api, plan);
    }
    if lower.contains("runtime") && (lower.contains("unknown") || lower.contains("not found")) {
        let text = format!("Docker on host {} lacks runtime {}: {message}; install it there", api.name, plan.runtime);
        return error::this_host(Code::StartFailed, text);
    }
    if error::is_full(&message) || status == 404 {
        return error::docker("create the container", DockerError::Refused(Refused { status, message }));
    }
    let text = format!("Docker on host {} refused container {}: {message}", api.name, plan.name);
    if error::is_broken(&message) {
        return error::this_host(Code::StartFailed, format!("{text}; repair the host"));
    }
    if status < 500 { error::permanent(Code::StartFailed, text) } else { error::transient(Code::StartFailed, text) }
}
