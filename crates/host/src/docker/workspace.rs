//! Workspaces: a folder of the host, and the volume that stands for it.
//!
//! Docker's API can neither make nor remove folders of the host. A script over SSH does it where the login user may; where he may
//! not, a helper container of the sandbox's own image does. No path that could mean more than one workspace is ever touched.

use super::{
    Api,
    hardening::sandbox_user,
    helper::{self, Job},
    seen,
};
use crate::{
    access::Class,
    error::{self, DockerError},
};
use bollard::{
    models::{Volume, VolumeCreateRequest},
    query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions},
};
use plimsoll_lifecycle::{
    naming::{self, label},
    ports::{ContainerPlan, HostError, Mount},
};
use plimsoll_types::{ClusterId, Code};
use std::collections::HashMap;

/// Which image the helper of a later removal can run: the sandbox's own, as an image id.
const IMAGE_LABEL: &str = "plimsoll.image";

/// Makes a folder that is the user's. One that is there keeps its mode, and what is in it; where it is empty the script says so.
const MAKE: &str = "mkdir -p -- \"$1\" || exit 1\n\
    [ \"$(stat -c %u:%g -- \"$1\")\" = \"$2\" ] || chown -- \"$2\" \"$1\" || exit 2\n\
    for f in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do [ ! -e \"$f\" ] && [ ! -L \"$f\" ] || exit 0; done; echo empty\n";
/// What Docker filled is its user's again; the script says if it was not.
const OWN: &str = "[ \"$(stat -c %u:%g -- \"$1\")\" = \"$2\" ] || { chown -- \"$2\" \"$1\" && echo changed; }\n";
const REMOVE: &str = "rm -rf -- \"$1\" && [ ! -e \"$1\" ]\n";

/// Before the container: the folder must exist when Docker mounts the volume. The volume comes first: only it can be listed, so a
/// folder without one would be left for ever by whoever dies in between. Answers whether it is empty and the user's, as far as is known.
pub(crate) async fn prepare(api: &Api, plan: &ContainerPlan, image_id: &str) -> Result<bool, HostError> {
    let workspace = &plan.workspace;
    check(workspace)?;
    volume(api, plan, image_id).await?;
    let made = api.access.command(Class::Call, MAKE, &[&workspace.source, &sandbox_user()]).await?;
    if made.succeeded() {
        return Ok(made.stdout.ends_with(b"empty\n"));
    }
    let stderr = error::tidy(&String::from_utf8_lossy(&made.stderr));
    if error::is_full(&stderr) {
        let text = format!("host {} has no room for folder {}: {stderr}", api.name, workspace.source);
        return Err(error::this_host(Code::HostFull, text));
    }
    tracing::debug!(host = api.name, stderr, "the login user may not make the folder; a helper container does");
    own_by_helper(api, plan).await?;
    Ok(false)
}

/// Every workspace of a cluster, by its volume; a volume of ours that stands for no folder is none.
pub(crate) async fn list(api: &Api, cluster: ClusterId) -> Result<Vec<Mount>, HostError> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{}={cluster}", label::CLUSTER)])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = api.call().await?.list_volumes(Some(options)).await.map_err(|e| error::docker("list volumes", e))?;
    let mount = |volume: Volume| {
        let source = volume.options.get("device")?.clone();
        Some(Mount { source, target: naming::WORKSPACE.to_owned(), volume: volume.name })
    };
    Ok(found.volumes.unwrap_or_default().into_iter().filter_map(mount).collect())
}

/// After the container was created: Docker has then copied what the image holds at the mount's target into an empty volume,
/// and with it the owner of the image's folder, often root. An image that was seen to leave an `empty` folder its user does so each time.
/// A snapshot's folder has the owner that the sandbox gave it.
pub(crate) async fn own(api: &Api, plan: &ContainerPlan, image_id: &str, empty: bool) -> Result<(), HostError> {
    if plan.from_snapshot || (empty && api.known.leaves_owner(image_id)) {
        return Ok(());
    }
    let owned = api.access.command(Class::Call, OWN, &[&plan.workspace.source, &sandbox_user()]).await?;
    if !owned.succeeded() {
        return own_by_helper(api, plan).await;
    }
    if empty && owned.stdout.is_empty() {
        api.known.learn_leaves_owner(image_id);
    }
    Ok(())
}

async fn own_by_helper(api: &Api, plan: &ContainerPlan) -> Result<(), HostError> {
    let owner = sandbox_user();
    let job = Job {
        name: format!("{}.prepare", plan.name),
        cluster: plan.cluster,
        sandbox: Some(plan.sandbox.to_string()),
        image: plan.image.as_str(),
        bind: (&plan.workspace.source, "/plimsoll"),
        argv: &["chown", &owner, "/plimsoll"],
    };
    helper::run(api, &job).await.map_err(|error| refused(api, "make and own", &plan.workspace, &error))
}

/// Makes the volume. Docker answers with an existing one of that name whatever its options, so those are compared.
async fn volume(api: &Api, plan: &ContainerPlan, image_id: &str) -> Result<(), HostError> {
    let workspace = &plan.workspace;
    let options = [("type", "none"), ("o", "bind"), ("device", workspace.source.as_str())];
    let labels = [
        (label::CLUSTER, plan.cluster.to_string()),
        (label::SANDBOX, plan.sandbox.to_string()),
        (IMAGE_LABEL, image_id.to_owned()),
    ];
    let request = VolumeCreateRequest {
        name: Some(workspace.volume.clone()),
        driver: Some("local".to_owned()),
        driver_opts: Some(options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..VolumeCreateRequest::default()
    };
    let made = api.call().await?.create_volume(request).await.map_err(DockerError::from);
    match made {
        Ok(volume) => check_volume(api, &volume, workspace, plan.cluster),
        // Newer engines compare the options themselves.
        Err(error) if error.status() == Some(409) => Err(clash(api, workspace)),
        Err(error) => Err(error::docker("create a volume", error)),
    }
}

fn check_volume(api: &Api, volume: &Volume, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
    let ours = volume.labels.get(label::CLUSTER).is_some_and(|text| *text == cluster.to_string());
    let same = volume.options.get("device") == Some(&workspace.source);
    if ours && same { Ok(()) } else { Err(clash(api, workspace)) }
}

fn clash(api: &Api, workspace: &Mount) -> HostError {
    let text = format!(
        "volume {} on host {} is not this cluster's, or stands for another folder than {}; remove or rename it",
        workspace.volume, api.name, workspace.source
    );
    error::this_host(Code::NameClash, text)
}

/// Removes folder and volume. The folder goes first: as long as the volume is there, a second try knows which image the helper
/// can run.
pub(crate) async fn remove(api: &Api, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
    check(workspace)?;
    // A create of the session's next sandbox must find all of it or nothing.
    let _alone = api.workspaces.lock(&workspace.volume).await;
    clear(api, workspace, cluster).await
}

/// The same, for who holds the workspace's lock.
pub(crate) async fn clear(api: &Api, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
    check(workspace)?;
    let volume = match api.call().await?.inspect_volume(&workspace.volume).await.map_err(DockerError::from) {
        Ok(volume) => Some(volume),
        Err(error) if error.status() == Some(404) => None,
        Err(error) => return Err(error::docker("inspect a volume", error)),
    };
    if let Some(volume) = &volume {
        check_volume(api, volume, workspace, cluster)?;
        refuse_if_used(api, workspace).await?;
    }
    let removed = api.access.command(Class::Call, REMOVE, &[&workspace.source]).await?;
    if !removed.succeeded() {
        let stderr = error::tidy(&String::from_utf8_lossy(&removed.stderr));
        let image = volume.as_ref().and_then(|volume| volume.labels.get(IMAGE_LABEL));
        let trouble = error::transient(Code::SshDenied, stderr);
        let image = image.ok_or_else(|| refused(api, "remove", workspace, &trouble))?;
        let sandbox = volume.as_ref().and_then(|volume| volume.labels.get(label::SANDBOX));
        remove_by_helper(api, workspace, cluster, image, sandbox)
            .await
            .map_err(|error| refused(api, "remove", workspace, &error))?;
    }
    if volume.is_none() {
        return Ok(());
    }
    match api
        .call()
        .await?
        .remove_volume(&workspace.volume, None::<RemoveVolumeOptions>)
        .await
        .map_err(DockerError::from)
    {
        Ok(()) => Ok(()),
        Err(error) if error.status() == Some(404) => Ok(()),
        Err(error) => Err(error::docker("remove a volume", error)),
    }
}

async fn remove_by_helper(
    api: &Api,
    workspace: &Mount,
    cluster: ClusterId,
    image: &str,
    sandbox: Option<&String>,
) -> Result<(), HostError> {
    let (parent, folder) = workspace.source.rsplit_once('/').unwrap_or(("", &workspace.source));
    let job = Job {
        name: format!("{}.remove", workspace.volume),
        cluster,
        sandbox: sandbox.cloned(),
        image,
        bind: (parent, "/plimsoll"),
        argv: &["rm", "-rf", "--", &format!("/plimsoll/{folder}")],
    };
    helper::run(api, &job).await
}

/// The workspace of a container that still exists is not removed under it, fenced ones included.
async fn refuse_if_used(api: &Api, workspace: &Mount) -> Result<(), HostError> {
    let users = seen::summaries(api, &HashMap::from([("volume", vec![workspace.volume.clone()])])).await?;
    let names: Vec<String> = users.into_iter().filter_map(|user| user.names?.into_iter().next()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!(
        "workspace {} on host {} is used by {}; remove the container first",
        workspace.volume,
        api.name,
        names.join(", ").replace('/', "")
    );
    Err(error::transient(Code::Conflict, text))
}

fn refused(api: &Api, what: &str, workspace: &Mount, cause: &HostError) -> HostError {
    let text = format!(
        "host {}: neither the login user nor a helper container could {what} folder {}: {}; give the user rights to its parent",
        api.name, workspace.source, cause.message
    );
    HostError { message: text, ..cause.clone() }
}

/// A folder at least two levels deep, written in one way only, and a volume name.
fn check(workspace: &Mount) -> Result<(), HostError> {
    let path = &workspace.source;
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let plain = |part: &&str| !part.is_empty() && **part != *"." && **part != *".." && !part.contains(char::is_control);
    let ok = path.starts_with('/')
        && parts.len() >= 2
        && parts.iter().all(plain)
        && !path.contains(':')
        && path.len() < 4096;
    if !ok {
        let text = format!(
            "{path:?} is not a workspace folder: it must be absolute, below a data folder, without '..' or ':'"
        );
        return Err(error::permanent(Code::InvalidRequest, text));
    }
    seen::check_name(&workspace.volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_below_a_data_folder_is_a_workspace() {
        let mount = |source: &str| Mount { source: source.to_owned(), target: String::new(), volume: "v".to_owned() };
        assert!(check(&mount("/var/shadow/sandboxes/a b")).is_ok());
        for bad in
            ["/", "", "/var", "/var/", "/var/..", "/var/../etc", "/var//x", "/./x", "var/x", "/a/b:c", "/a/b/", "/a/\n"]
        {
            assert!(check(&mount(bad)).is_err(), "{bad:?}");
        }
    }
}
