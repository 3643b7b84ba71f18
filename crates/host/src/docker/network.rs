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
use std::collections::{BTreeMap, HashMap};

/// Makes sure that the network is there and answers with its id.
///
/// Docker lets two networks have one name, and then starts nothing on either: the name is ambiguous. So one is made at a time, the
/// oldest of several counts, and those that came second are removed by whoever made or sees them.
pub(crate) async fn ensure(api: &Api, plan: &NetworkPlan, cluster: ClusterId) -> Result<String, HostError> {
    seen::check_name(&plan.name)?;
    // By cluster as well: a name that is another cluster's must be refused each time.
    let known = format!("{cluster}/{}", plan.name);
    if let Some(id) = api.known.network(&known) {
        return Ok(id);
    }
    let _turn = api.network_made.lock().await;
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
    match api.call().await?.create_network(request).await.map_err(DockerError::from) {
        Ok(_) => {}
        // Somebody was faster.
        Err(error) if error.status() == Some(409) => {}
        Err(error) => return Err(error::docker("create a network", error)),
    }
    find(api, plan, cluster).await?.ok_or_else(|| {
        error::transient(Code::Conflict, format!("network {} was removed while it was made; retry", plan.name))
    })
}

/// The id of the oldest network of that name; one that is not ours is refused.
async fn find(api: &Api, plan: &NetworkPlan, cluster: ClusterId) -> Result<Option<String>, HostError> {
    let mut found = list(api, "name", &plan.name).await?;
    // Docker's filter also matches parts of names.
    found.retain(|network| network.name.as_deref() == Some(plan.name.as_str()));
    if found.iter().any(|network| !is_ours(network, cluster)) {
        let text = format!("network {} on host {} is not this cluster's; remove or rename it", plan.name, api.name);
        return Err(error::this_host(Code::NameClash, text));
    }
    keep_the_oldest(api, found).await
}

/// The id of the oldest of networks with one name; the others go, as far as nothing runs on them. What was created on one of those and never
/// started is made anew when its start says that its network is gone.
async fn keep_the_oldest(api: &Api, mut doubles: Vec<Network>) -> Result<Option<String>, HostError> {
    doubles.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    let mut ids = doubles.into_iter().filter_map(|network| network.id);
    let oldest = ids.next();
    for id in ids {
        match api.call().await?.remove_network(&id).await.map_err(DockerError::from) {
            Ok(()) => tracing::info!(host = api.name, network = id, "a doubled network was removed"),
            // Something runs on it, or it is gone already.
            Err(error) if matches!(error.status(), Some(403 | 404 | 409)) => {}
            Err(error) => return Err(error::docker("remove a doubled network", error)),
        }
    }
    Ok(oldest)
}

/// Whether Docker refused because networks share a name: nodes that led one after the other may have made one each.
pub(crate) fn is_doubled(refused: &Refused) -> bool {
    let message = refused.message.to_ascii_lowercase();
    message.contains("network") && message.contains("ambiguous")
}

/// Removes our networks that came second to another of their name.
pub(crate) async fn remove_doubles(api: &Api, cluster: ClusterId) -> Result<(), HostError> {
    let _turn = api.network_made.lock().await;
    api.known.forget_networks();
    let mut by_name: BTreeMap<String, Vec<Network>> = BTreeMap::new();
    for network in list(api, "label", &format!("{}={cluster}", label::CLUSTER)).await? {
        by_name.entry(network.name.clone().unwrap_or_default()).or_default().push(network);
    }
    for doubles in by_name.into_values() {
        keep_the_oldest(api, doubles).await?;
    }
    Ok(())
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
