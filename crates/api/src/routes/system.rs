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
use plimsoll_types::Code;

/// Whether sandboxes can be provided: a quorum, and at least one host that answers.
#[utoipa::path(get, path = "/v1/health", tag = "system", operation_id = "health", responses((status = 200, body = Healthy)))]
pub(crate) async fn health(State(api): State<Api>, _: Caller) -> Answer<axum::Json<Healthy>> {
    // No quorum is an answer here, not an error.
    let healthy = match api.options.provider.health().await {
        Ok(healthy) => healthy,
        Err(error) if matches!(error.code, Code::NoQuorum | Code::HostUnavailable | Code::Timeout) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(axum::Json(Healthy { healthy }))
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
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (api.options.metrics)()).into_response()
}
