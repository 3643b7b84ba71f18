//! Health, readiness and metrics of this node.

use crate::{
    auth::{Caller, Observer},
    error::{Answer, ApiError},
    limits,
    options::Api,
};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use plimsoll_client::wire::cluster::Healthy;
use plimsoll_lifecycle::ports::ledger;
use plimsoll_types::{Code, Health};
use std::collections::BTreeMap;

/// Whether sandboxes can be provided: a quorum, and at least one host that answers. Decided within 5 s.
#[utoipa::path(get, path = "/v1/health", tag = "system", operation_id = "health", responses((status = 200, body = Healthy)))]
pub(crate) async fn health(State(api): State<Api>, _: Caller) -> Answer<axum::Json<Healthy>> {
    // No quorum is an answer here, not an error.
    let (healthy, reason) = match tokio::time::timeout(limits::HEALTH, api.options.provider.health()).await {
        Ok(Ok(true)) => (true, None),
        Ok(Ok(false)) => (false, Some(ailment(&api))),
        Ok(Err(error)) if matches!(error.code, Code::NoQuorum | Code::HostUnavailable | Code::Timeout) => {
            (false, Some(error.message))
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => (false, Some("nothing was decided in time".to_owned())),
    };
    Ok(axum::Json(Healthy { healthy, reason }))
}

/// What is wrong, as this node sees it.
fn ailment(api: &Api) -> String {
    if let Some(hold) = ledger::read(api.options.ledger.as_ref(), |state| state.hold.clone()) {
        return format!("the cluster is on hold ({}); see `plimsoll cluster drift`", hold.reason);
    }
    let counts = ledger::read(api.options.ledger.as_ref(), |state| {
        let mut counts: BTreeMap<Health, u64> = BTreeMap::new();
        for host in state.hosts.values() {
            *counts.entry(host.health).or_default() += 1;
        }
        counts
    });
    if counts.contains_key(&Health::Ready) {
        return "no quorum of nodes confirms in time; see `plimsoll cluster status`".to_owned();
    }
    if counts.is_empty() {
        return "no host was added; see `plimsoll host add`".to_owned();
    }
    let counts: Vec<String> = counts.iter().map(|(health, count)| format!("{count} {health}")).collect();
    format!("no host is ready: {}", counts.join(", "))
}

/// Whether this process runs.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether this node can serve: a quorum confirms, and this node has applied what it confirms.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "readyz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn readyz(State(api): State<Api>) -> Answer<&'static str> {
    if api.closing.is_cancelled() {
        return Err(ApiError::new(Code::NoQuorum, "this node is shutting down"));
    }
    match tokio::time::timeout(limits::READY, api.options.ledger.barrier()).await {
        Ok(confirmed) => confirmed.map(|()| "ready\n").map_err(Into::into),
        Err(_) => Err(ApiError::new(Code::NoQuorum, "no quorum confirmed within 2 s")),
    }
}

/// This node's metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(api): State<Api>, _: Observer) -> Response {
    let mut text = (api.options.metrics)();
    text.push_str(&api.options.operations.gauges());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
