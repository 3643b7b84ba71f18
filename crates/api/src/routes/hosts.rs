//! Hosts, for operators.

use crate::{
    auth::Operator,
    convert::{host, rules::Rules},
    error::Answer,
    extract::Json,
    options::Api,
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use plimsoll_client::wire;
use plimsoll_engine::policy;
use plimsoll_types::Label;

/// Look at a host without adding it.
///
/// Without the confirmed fingerprint only the host key is shown.
#[utoipa::path(
    post, path = "/v1/hosts:check", tag = "hosts", operation_id = "checkHost", request_body = wire::NewHost,
    responses((status = 200, body = wire::HostCheck)),
)]
pub(crate) async fn check(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::NewHost>,
) -> Answer<axum::Json<wire::HostCheck>> {
    let found = api.options.operations.check_host(&host::new_host(body)?).await?;
    Ok(axum::Json(host::check(found)))
}

/// Check and add a host.
#[utoipa::path(
    post, path = "/v1/hosts", tag = "hosts", operation_id = "addHost", request_body = wire::NewHost,
    responses((status = 201, body = wire::Host)),
)]
pub(crate) async fn add(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::NewHost>,
) -> Answer<(StatusCode, axum::Json<wire::Host>)> {
    let (status, _) = api.options.operations.add_host(host::new_host(body)?).await?;
    Ok((StatusCode::CREATED, axum::Json(host::host(status))))
}

/// Every host, by name.
#[utoipa::path(get, path = "/v1/hosts", tag = "hosts", operation_id = "listHosts", responses((status = 200, body = Vec<wire::Host>)))]
pub(crate) async fn list(State(api): State<Api>, _: Operator) -> Answer<axum::Json<Vec<wire::Host>>> {
    let hosts = api.options.operations.hosts().await?;
    Ok(axum::Json(hosts.into_iter().map(host::host).collect()))
}

/// One host, by name or id.
#[utoipa::path(
    get, path = "/v1/hosts/{name}", tag = "hosts", operation_id = "getHost",
    params(("name" = String, Path)), responses((status = 200, body = wire::Host)),
)]
pub(crate) async fn get(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
) -> Answer<axum::Json<wire::Host>> {
    Ok(axum::Json(host::host(api.options.operations.host(&name).await?)))
}

/// Place nothing new on a host.
#[utoipa::path(
    post, path = "/v1/hosts/{name}/cordon", tag = "hosts", operation_id = "cordonHost", request_body = wire::CordonHost,
    params(("name" = String, Path)), responses((status = 200, body = wire::Host)),
)]
pub(crate) async fn cordon(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
    Json(body): Json<wire::CordonHost>,
) -> Answer<axum::Json<wire::Host>> {
    let mut rules = Rules::default();
    rules.reason("/reason", &body.reason);
    rules.end()?;
    let id = api.options.operations.host(&name).await?.host.id;
    api.options.operations.cordon(id, Some(&body.reason)).await?;
    Ok(axum::Json(host::host(api.options.operations.host(&name).await?)))
}

/// End a cordon.
#[utoipa::path(
    post, path = "/v1/hosts/{name}/uncordon", tag = "hosts", operation_id = "uncordonHost",
    params(("name" = String, Path)), responses((status = 200, body = wire::Host)),
)]
pub(crate) async fn uncordon(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
) -> Answer<axum::Json<wire::Host>> {
    let id = api.options.operations.host(&name).await?.host.id;
    api.options.operations.cordon(id, None).await?;
    Ok(axum::Json(host::host(api.options.operations.host(&name).await?)))
}

/// Change a host's labels or price.
///
/// What is left out stays as it is. Labels are changed first.
#[utoipa::path(
    patch, path = "/v1/hosts/{name}", tag = "hosts", operation_id = "changeHost", request_body = wire::ChangeHost,
    params(("name" = String, Path)), responses((status = 200, body = wire::Host)),
)]
pub(crate) async fn change(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
    Json(body): Json<wire::ChangeHost>,
) -> Answer<axum::Json<wire::Host>> {
    let mut rules = Rules::default();
    rules.take("/set", Label::check_all(&body.set));
    for (index, key) in body.remove.iter().enumerate() {
        rules.take(format!("/remove/{index}"), Label::check(key, ""));
    }
    let most = policy::PRICE_MAX_MILLI;
    let price = body.price_milli_per_hour;
    rules.require(price.is_none_or(|price| price <= most), "/price_milli_per_hour", format!("at most {most}"));
    rules.end()?;
    let id = api.options.operations.host(&name).await?.host.id;
    if !(body.set.is_empty() && body.remove.is_empty()) {
        api.options.operations.label_host(id, body.set, body.remove.into_iter().map(Into::into).collect()).await?;
    }
    if let Some(price) = price {
        api.options.operations.price_host(id, price).await?;
    }
    Ok(axum::Json(host::host(api.options.operations.host(&name).await?)))
}

/// Forget a host that holds no sandboxes.
///
/// Containers, workspaces and networks of this cluster are removed from it first. One that does not answer is forgotten all the same,
/// with a warning: what is left on it is then the operator's to remove.
#[utoipa::path(
    delete, path = "/v1/hosts/{name}", tag = "hosts", operation_id = "removeHost",
    params(("name" = String, Path)), responses((status = 200, description = "It is forgotten", body = wire::HostRemoved)),
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
) -> Answer<axum::Json<wire::HostRemoved>> {
    let id = api.options.operations.host(&name).await?.host.id;
    let warnings = api.options.operations.remove_host(id).await?;
    Ok(axum::Json(wire::HostRemoved { warnings }))
}
