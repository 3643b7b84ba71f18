//! Containers as they are found: Docker's answers turned into [`ContainerSeen`].
//!
//! Labels only say whose a container is; whether it is the one is decided by whoever compares ids.

use super::Api;
use crate::error;
use bollard::{
    models::{
        ContainerInspectResponse, ContainerState as DockerState, ContainerStateStatusEnum, ContainerSummary, PortMap,
    },
    query_parameters::ListContainersOptionsBuilder,
};
use plimsoll_lifecycle::{
    naming::label,
    ports::{ContainerPlan, ContainerSeen, ContainerState, HostError},
};
use plimsoll_types::{ClusterId, Code, Generation, OperationId, SessionId, TenantId, Timestamp};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Looks at one container; `None` if there is none.
pub(crate) async fn inspect(api: &Api, container: &str) -> Result<Option<ContainerSeen>, HostError> {
    Ok(details(api, container).await?.map(|found| from_inspect(&found)))
}

/// A container that Docker has just made as it was asked to.
pub(crate) fn just_made(plan: &ContainerPlan, id: String) -> ContainerSeen {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ContainerSeen {
        id,
        name: plan.name.clone(),
        state: ContainerState::Created,
        cluster: Some(plan.cluster),
        sandbox: Some(plan.sandbox),
        generation: Some(plan.generation),
        operation: Some(plan.operation),
        session: plan.labels.get(label::SESSION).and_then(|text| SessionId::new(text).ok()),
        tenant: plan.labels.get(label::TENANT).and_then(|text| TenantId::new(text).ok()),
        ports: Vec::new(),
        created_at: Timestamp(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// All that Docker knows of a container; `None` if there is none.
pub(crate) async fn details(api: &Api, container: &str) -> Result<Option<ContainerInspectResponse>, HostError> {
    check_name(container)?;
    let found = api.call().await?.inspect_container(container, None).await.map_err(error::DockerError::from);
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error::docker("inspect a container", error)),
    }
}

/// Every container of a cluster, stopped ones included.
pub(crate) async fn list(api: &Api, cluster: ClusterId) -> Result<Vec<ContainerSeen>, HostError> {
    let filters = HashMap::from([("label", vec![format!("{}={cluster}", label::CLUSTER)])]);
    let found = summaries(api, &filters).await?;
    Ok(found.iter().map(from_summary).collect())
}

pub(crate) async fn summaries(
    api: &Api,
    filters: &HashMap<&str, Vec<String>>,
) -> Result<Vec<ContainerSummary>, HostError> {
    let filters: HashMap<String, Vec<String>> =
        filters.iter().map(|(key, values)| ((*key).to_owned(), values.clone())).collect();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    api.call().await?.list_containers(Some(options)).await.map_err(|e| error::docker("list containers", e))
}

/// Ids and names become part of a request's path: only Docker's own alphabet may.
pub(crate) fn check_name(name: &str) -> Result<(), HostError> {
    let ok = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if ok {
        return Ok(());
    }
    Err(error::permanent(Code::InvalidRequest, format!("{name:?} is not a container's name or id")))
}

pub(crate) fn from_inspect(found: &ContainerInspectResponse) -> ContainerSeen {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let owner = Owner::read(labels);
    ContainerSeen {
        id: found.id.clone().unwrap_or_default(),
        name: found.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
        state: found.state.as_ref().map_or(ContainerState::Dead, state),
        cluster: owner.cluster,
        sandbox: owner.sandbox,
        generation: owner.generation,
        operation: owner.operation,
        session: owner.session,
        tenant: owner.tenant,
        ports: found.network_settings.as_ref().and_then(|net| net.ports.as_ref()).map(published).unwrap_or_default(),
        created_at: found.created.as_deref().and_then(unix_ms).map_or(Timestamp::ZERO, Timestamp),
    }
}

fn from_summary(found: &ContainerSummary) -> ContainerSeen {
    let owner = Owner::read(found.labels.as_ref());
    let text = found.state.map(|state| state.to_string()).unwrap_or_default();
    // A list says only "Exited (137) 3 minutes ago".
    let code = found.status.as_deref().and_then(|status| status.split_once('(')?.1.split_once(')')?.0.parse().ok());
    let mut ports: Vec<_> = found
        .ports
        .iter()
        .flatten()
        .filter_map(|port| Some((port.private_port, port.ip.as_deref()?.parse::<IpAddr>().ok()?, port.public_port?)))
        .collect();
    ports.sort_unstable();
    let name = found.names.iter().flatten().find(|name| name.matches('/').count() == 1);
    ContainerSeen {
        id: found.id.clone().unwrap_or_default(),
        name: name.map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default(),
        state: state_named(&text, code.unwrap_or(0)),
        cluster: owner.cluster,
        sandbox: owner.sandbox,
        generation: owner.generation,
        operation: owner.operation,
        session: owner.session,
        tenant: owner.tenant,
        ports,
        created_at: Timestamp(found.created.and_then(|s| u64::try_from(s).ok()).unwrap_or(0).saturating_mul(1000)),
    }
}

struct Owner {
    cluster: Option<ClusterId>,
    sandbox: Option<plimsoll_types::SandboxId>,
    generation: Option<Generation>,
    operation: Option<OperationId>,
    session: Option<SessionId>,
    tenant: Option<TenantId>,
}

impl Owner {
    fn read(labels: Option<&HashMap<String, String>>) -> Self {
        let get = |key: &str| labels.and_then(|labels| labels.get(key));
        Self {
            cluster: get(label::CLUSTER).and_then(|text| text.parse().ok()),
            sandbox: get(label::SANDBOX).and_then(|text| text.parse().ok()),
            generation: get(label::GENERATION).and_then(|text| text.parse().ok()).map(Generation),
            operation: get(label::OPERATION).and_then(|text| text.parse().ok()),
            session: get(label::SESSION).and_then(|text| SessionId::new(text).ok()),
            tenant: get(label::TENANT).and_then(|text| TenantId::new(text).ok()),
        }
    }
}

fn state(found: &DockerState) -> ContainerState {
    let text = found.status.as_ref().map(ContainerStateStatusEnum::to_string).unwrap_or_default();
    state_named(&text, found.exit_code.unwrap_or(0))
}

fn state_named(text: &str, code: i64) -> ContainerState {
    match text {
        "created" => ContainerState::Created,
        "running" | "restarting" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "exited" => ContainerState::Exited(code),
        // "removing", "dead", and what a newer Docker may invent.
        _ => ContainerState::Dead,
    }
}

fn published(ports: &PortMap) -> Vec<(u16, IpAddr, u16)> {
    let mut all = Vec::new();
    for (inside, bindings) in ports {
        let Some(inside) = inside.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else { continue };
        for binding in bindings.iter().flatten() {
            let address = binding.host_ip.as_deref().and_then(|ip| ip.parse().ok());
            let port = binding.host_port.as_deref().and_then(|port| port.parse().ok());
            if let (Some(address), Some(port)) = (address, port) {
                all.push((inside, address, port));
            }
        }
    }
    all.sort_unstable();
    all
}

/// Reads RFC 3339 in UTC (`2026-01-31T12:00:00.123456789Z`), as Docker writes it, into milliseconds since the epoch.
pub(crate) fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970-01-01 of a proleptic Gregorian date, years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    u64::try_from((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_times_are_read() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2024-02-29T12:34:56.789123456Z"), Some(1_709_210_096_789));
        assert_eq!(unix_ms("2026-01-31T23:59:59.5Z"), Some(1_769_903_999_500));
        assert_eq!(unix_ms("0001-01-01T00:00:00Z"), None, "Docker's zero time");
        assert_eq!(unix_ms("yesterday"), None);
    }

    #[test]
    fn only_dockers_alphabet_reaches_a_path() {
        assert!(check_name("shadow-session-a_1.x").is_ok());
        for bad in ["", "a/b", "../x", "a?b", "a b", "-x", "ä"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
