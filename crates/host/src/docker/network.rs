//! Tenants' networks: one bridge each, on which containers cannot talk to each other.
//!
//! A container still reaches services of the host that listen on every address, through the bridge's gateway: only the host's own
//! firewall can stop that, and nothing here touches it.

use super::{Api, seen};
use crate::error::{self, DockerError, Refused};
use bollard::{
    models::{Network, NetworkCreateRequest},
    query_parameters::ListNetworksOptionsBuilder,
};
use plimsoll_lifecycle::{
    naming::label,
    ports::{HostError, NetworkPlan},
};
use plimsoll_types::{ClusterId, Code};
use std::collections::HashMap;

/// Makes sure that the network is there and answers with its id.
///
/// Docker lets two networks have one name if they are created at once, and then refuses the name as ambiguous. So a network is
/// always used by its id, the oldest of several counts, and the one that came second is removed by whoever made it.
pub(crate) async fn ensure(api: &Api, plan: &NetworkPlan, cluster: ClusterId) -> Result<String, HostError> {
    seen::check_name(&plan.name)?;
    // By cluster as well: a name that is another cluster's must be refused each time.
    let known = format!("{cluster}/{}", plan.name);
    if let Some(id) = api.known.network(&known) {
        return Ok(id);
    }
    let id = match find(api, plan, cluster).await? {
        Some(id) => id,
        None => make(api, plan, cluster).await?,
    };
    api.known.learn_network(&known, &id);
    Ok(id)
}

async fn make(api: &Api, plan: &NetworkPlan, cluster: ClusterId) -> Result<String, HostError> {
    let request = NetworkCreateRequest {
        name: plan.name.clone(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        labels: Some(HashMap::from([(label::CLUSTER.to_owned(), cluster.to_string())])),
        ..NetworkCreateRequest::default()
    };
    let docker = api.call().await?;
    let created = match docker.create_network(request).await.map_err(DockerError::from) {
        Ok(created) => Some(created.id),
        // Somebody was faster.
        Err(error) if error.status() == Some(409) => None,
        Err(error) => return Err(error::docker("create a network", error)),
    };
    let id = find(api, plan, cluster).await?.ok_or_else(|| {
        error::transient(Code::Conflict, format!("network {} was removed while it was made; retry", plan.name))
    })?;
    if let Some(created) = created.filter(|created| *created != id)
        && let Err(error) = docker.remove_network(&created).await
    {
        tracing::debug!(host = api.name, %error, "a doubled network could not be removed; it will be when idle");
    }
    Ok(id)
}

/// The id of the oldest network of that name; one that is not ours is refused.
async fn find(api: &Api, plan: &NetworkPlan, cluster: ClusterId) -> Result<Option<String>, HostError> {
    let mut found = list(api, "name", &plan.name).await?;
    // Docker's filter also matches parts of names.
    found.retain(|network| network.name.as_deref() == Some(plan.name.as_str()));
    found.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    let Some(first) = found.into_iter().next() else { return Ok(None) };
    if !is_ours(&first, cluster) {
        let text = format!("network {} on host {} is not this cluster's; remove or rename it", plan.name, api.name);
        return Err(error::this_host(Code::NameClash, text));
    }
    Ok(first.id)
}

fn is_ours(network: &Network, cluster: ClusterId) -> bool {
    network
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label::CLUSTER))
        .is_some_and(|text| *text == cluster.to_string())
}

async fn list(api: &Api, filter: &str, value: &str) -> Result<Vec<Network>, HostError> {
    let filters = HashMap::from([(filter.to_owned(), vec![value.to_owned()])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    api.call().await?.list_networks(Some(options)).await.map_err(|e| error::docker("list networks", e))
}

/// Whether Docker refused because a container's network is not there.
pub(crate) fn is_gone(refused: &Refused) -> bool {
    let message = refused.message.to_ascii_lowercase();
    refused.status == 404 && message.contains("network") && message.contains("not found")
}

/// Removes our networks that no container uses, stopped ones included. Whoever calls it holds [`Api::networks`], so that none is made meanwhile.
pub(crate) async fn remove_idle(api: &Api, cluster: ClusterId) -> Result<(), HostError> {
    api.known.forget_networks();
    for network in list(api, "label", &format!("{}={cluster}", label::CLUSTER)).await? {
        let name = network.name.unwrap_or_default();
        let Some(id) = network.id.filter(|_| network.driver.as_deref() == Some("bridge")) else { continue };
        // By its name as well: a container that was created and never started does not know its network's id yet.
        if !seen::summaries(api, &HashMap::from([("network", vec![id.clone(), name])])).await?.is_empty() {
            continue;
        }
        match api.call().await?.remove_network(&id).await.map_err(DockerError::from) {
            Ok(()) => {}
            // Gone already, or in use again.
            Err(error) if matches!(error.status(), Some(403 | 404 | 409)) => {}
            Err(error) => return Err(error::docker("remove a network", error)),
        }
    }
    Ok(())
}
