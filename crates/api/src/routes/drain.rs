//! Emptying hosts and evening them out, for operators.

use crate::{
    auth::Operator,
    convert::{drain, host, rules::Rules},
    error::Answer,
    extract::Json,
    options::Api,
};
use axum::extract::{Path, State};
use plimsoll_client::wire;
use plimsoll_engine::policy;
use plimsoll_types::HostId;

/// Drain a host: move everything off it and place nothing new there.
///
/// Running sandboxes too, at most `parallel` at once. It stays drained until it is undrained. With `dry_run` nothing is done; the answer says
/// what would move where, and what could not. Again, it changes how the host is drained.
#[utoipa::path(
    post, path = "/v1/hosts/{name}/drain", tag = "hosts", operation_id = "drainHost", request_body = wire::DrainHost,
    params(("name" = String, Path)), responses((status = 200, body = wire::DrainStatus)),
)]
pub(crate) async fn drain(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
    Json(body): Json<wire::DrainHost>,
) -> Answer<axum::Json<wire::DrainStatus>> {
    let dry_run = body.dry_run;
    let wish = drain::wish(body)?;
    let id = api.options.operations.host(&name).await?.host.id;
    if !dry_run {
        api.options.operations.drain_host(id, wish).await?;
    }
    status_of(&api, id).await
}

/// How far a drain is; for a host that is not drained, what a drain would do.
#[utoipa::path(
    get, path = "/v1/hosts/{name}/drain", tag = "hosts", operation_id = "drainStatus",
    params(("name" = String, Path)), responses((status = 200, body = wire::DrainStatus)),
)]
pub(crate) async fn status(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
) -> Answer<axum::Json<wire::DrainStatus>> {
    let id = api.options.operations.host(&name).await?.host.id;
    status_of(&api, id).await
}

async fn status_of(api: &Api, id: HostId) -> Answer<axum::Json<wire::DrainStatus>> {
    let status = api.options.operations.drain_status(id).await?;
    Ok(axum::Json(drain::status(status, api.options.clock.now())))
}

/// End a drain. What has moved stays where it is; moves that were begun go on.
#[utoipa::path(
    post, path = "/v1/hosts/{name}/undrain", tag = "hosts", operation_id = "undrainHost",
    params(("name" = String, Path)), responses((status = 200, body = wire::Host)),
)]
pub(crate) async fn undrain(
    State(api): State<Api>,
    _: Operator,
    Path(name): Path<String>,
) -> Answer<axum::Json<wire::Host>> {
    let id = api.options.operations.host(&name).await?.host.id;
    api.options.operations.undrain_host(id).await?;
    Ok(axum::Json(host::host(api.options.operations.host(&name).await?)))
}

/// Even hosts out: begin the fewest moves that bring them within a spread.
///
/// Paused ones need no move; idle ones go first. With `dry_run` the moves are only named.
#[utoipa::path(
    post, path = "/v1/rebalance", tag = "hosts", operation_id = "rebalanceHosts", request_body = wire::RebalanceHosts,
    responses((status = 200, body = wire::Rebalance)),
)]
pub(crate) async fn rebalance(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::RebalanceHosts>,
) -> Answer<axum::Json<wire::Rebalance>> {
    let mut rules = Rules::default();
    let (least, most) = (policy::SPREADS_PERMILLE.start(), policy::SPREADS_PERMILLE.end());
    rules.require(
        body.spread_permille.is_none_or(|spread| policy::SPREADS_PERMILLE.contains(&spread)),
        "/spread_permille",
        format!("from {least} to {most} thousandths"),
    );
    rules.end()?;
    let moves = api.options.operations.rebalance(body.dry_run, body.spread_permille).await?;
    Ok(axum::Json(drain::rebalance(body.dry_run, moves)))
}
