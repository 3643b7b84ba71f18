//! Placements: asking for one, and asking where it would go.

use super::sandboxes;
use crate::{
    auth::Caller,
    convert::request,
    error::Answer,
    extract::{IdempotencyKey, Json, Patience},
    options::Api,
};
use axum::{extract::State, response::Response};
use plimsoll_client::wire;
use plimsoll_engine::Explained;

/// Submit a placement request.
///
/// The same as making a sandbox, for callers that think in placements.
#[utoipa::path(
    post, path = "/v1/placements", tag = "placements", operation_id = "submitPlacement", request_body = wire::CreateSandbox,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 201, description = "It was placed and runs", body = wire::Provided),
        (status = 202, description = "It was accepted and does not run yet", body = wire::Provided)),
)]
pub(crate) async fn place(
    State(api): State<Api>,
    caller: Caller,
    patience: Patience,
    key: IdempotencyKey,
    body: Json<wire::CreateSandbox>,
) -> Answer<Response> {
    sandboxes::create(State(api), caller, patience, key, body).await
}

/// Where a sandbox would go now, and why.
///
/// Places nothing. Lists every host: those that fit with their scores, best first, then the others with the reason.
#[utoipa::path(
    post, path = "/v1/placements:explain", tag = "placements", operation_id = "explainPlacement", request_body = wire::CreateSandbox,
    responses((status = 200, body = wire::Explanation)),
)]
pub(crate) async fn explain(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<wire::CreateSandbox>,
) -> Answer<axum::Json<wire::Explanation>> {
    let request = request::new_sandbox(&api, &caller, body, None).await?;
    let Explained { chosen, sentence, hosts } = api.options.provider.explain(&request).await?;
    let verdict = |verdict: plimsoll_engine::HostVerdict| wire::HostVerdict {
        host: verdict.name,
        score_ppm: verdict.score_ppm,
        rejection: verdict.rejection,
    };
    Ok(axum::Json(wire::Explanation { chosen, sentence, hosts: hosts.into_iter().map(verdict).collect() }))
}
