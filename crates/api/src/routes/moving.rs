//! Sandboxes that are put away, brought back, held still and moved.

use super::sandboxes;
use crate::{
    auth::Caller,
    convert::{operation, request, rules::Rules, sandbox},
    error::{Answer, ApiError},
    extract::{Id, Json, Patience},
    limits,
    options::Api,
};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use plimsoll_client::wire;
use plimsoll_engine::Error;
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::{Sandbox, WorkKind};
use plimsoll_types::{Code, Phase, SandboxId};
use std::sync::Arc;

/// Pause a sandbox.
///
/// Its files go into a snapshot; its container, memory and place are freed. It is resumed by the same id, on any host. Paused already is
/// success. Whatever fails before the snapshot is in the registry leaves it running as it was.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/pause", tag = "sandboxes", operation_id = "pauseSandbox",
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 200, description = "It is paused", body = wire::Paused),
        (status = 202, description = "It is being paused", body = wire::Operation)),
)]
pub(crate) async fn pause(State(api): State<Api>, caller: Caller, Id(id): Id, patience: Patience) -> Answer<Response> {
    let result = api.options.provider.pause(&caller.scope(), id, patience.wait()).await;
    let record = settled(&api, &caller, id, patience, result).await?;
    if let Some(response) = accepted(&api, &record) {
        return Ok(response);
    }
    done(&record, WorkKind::Pause)?;
    let body = wire::Paused { snapshot_id: record.base, sandbox: sandbox::sandbox(&api, &record) };
    Ok(axum::Json(body).into_response())
}

/// Resume a paused sandbox, by the same id, on any host.
///
/// With its files, ports and limits; processes start anew. One that is frozen is thawed, one that runs is left as it is. A deadline that has
/// passed is moved by the lifetime it was made with.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/resume", tag = "sandboxes", operation_id = "resumeSandbox", request_body = wire::ResumeSandbox,
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 200, description = "It runs", body = wire::Provided),
        (status = 202, description = "It does not run yet", body = wire::Provided)),
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    patience: Patience,
    Json(body): Json<wire::ResumeSandbox>,
) -> Answer<Response> {
    if body.host.is_some() {
        caller.must_operate("name the host to resume on; leave `host` out, and the one that fits best is taken")?;
    }
    let mut rules = Rules::default();
    let lifetime = body.lifetime_s.map(|seconds| request::lifetime(&mut rules, Some(seconds)));
    rules.end()?;
    let (scope, provider) = (caller.scope(), &api.options.provider);
    let result = provider.resume(&scope, id, body.host.as_deref(), lifetime.flatten(), patience.wait()).await;
    // For ever is a deadline of its own: the engine counts lifetimes only.
    let result = match (result, lifetime) {
        (Ok(mut provided), Some(None)) => {
            provided.sandbox = provider.extend(&scope, id, None).await?;
            Ok(provided)
        }
        (result, _) => result,
    };
    sandboxes::provided(&api, &caller, patience, result).await
}

/// Freeze a running sandbox: hold it still in memory.
///
/// Takes milliseconds, frees its CPU and keeps its memory and its place. Frozen already is success. `thaw`, `exec` or a file access lets it
/// go on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/freeze", tag = "sandboxes", operation_id = "freezeSandbox",
    params(("id" = String, Path)), responses((status = 200, body = wire::Sandbox)),
)]
pub(crate) async fn freeze(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<axum::Json<wire::Sandbox>> {
    let record = api.options.provider.freeze(&caller.scope(), id, true).await?;
    Ok(axum::Json(sandbox::sandbox(&api, &record)))
}

/// Let a frozen sandbox go on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/thaw", tag = "sandboxes", operation_id = "thawSandbox",
    params(("id" = String, Path)), responses((status = 200, body = wire::Sandbox)),
)]
pub(crate) async fn thaw(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<axum::Json<wire::Sandbox>> {
    let record = api.options.provider.freeze(&caller.scope(), id, false).await?;
    Ok(axum::Json(sandbox::sandbox(&api, &record)))
}

/// Move a running sandbox to another host.
///
/// The one with the most room, or the one an operator names. Its id, files, ports and limits stay; its processes start anew; `moved` says how
/// long it did not run and what was sent. Whatever fails before the switch leaves it running where it was.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/migrate", tag = "sandboxes", operation_id = "migrateSandbox", request_body = wire::MigrateSandbox,
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N (1,500 at most)")),
    responses((status = 200, description = "It runs there", body = wire::Sandbox),
        (status = 202, description = "It is on its way", body = wire::Operation)),
)]
pub(crate) async fn migrate(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    patience: Patience,
    Json(body): Json<wire::MigrateSandbox>,
) -> Answer<Response> {
    if body.to.is_some() {
        caller.must_operate("name the host to move to; leave `to` out, and the one with the most room is taken")?;
    }
    let patience = patience.at_most(limits::MAX_MIGRATE_WAIT);
    let result = api.options.provider.migrate(&caller.scope(), id, body.to.as_deref(), patience.wait()).await;
    let record = settled(&api, &caller, id, patience, result).await?;
    if let Some(response) = accepted(&api, &record) {
        return Ok(response);
    }
    done(&record, WorkKind::Migrate)?;
    Ok(axum::Json(sandbox::sandbox(&api, &record)).into_response())
}

/// What keeps a sandbox awake.
///
/// With an idle timeout it is paused after so long without work: CPU, running commands, open streams.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/awake", tag = "sandboxes", operation_id = "sandboxAwake",
    params(("id" = String, Path)), responses((status = 200, body = wire::Awake)),
)]
pub(crate) async fn awake(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<axum::Json<wire::Awake>> {
    Ok(axum::Json(sandbox::awake(api.options.provider.awake(&caller.scope(), id).await?)))
}

/// The record that a call came to. One that ran out of the time its caller gave is answered as it is, if the caller prefers that.
async fn settled(
    api: &Api,
    caller: &Caller,
    id: SandboxId,
    patience: Patience,
    result: Result<Arc<Sandbox>, Error>,
) -> Answer<Arc<Sandbox>> {
    match result {
        Err(Error { code: Code::Timeout, .. }) if patience.asynchronous => {
            Ok(api.options.provider.get(&caller.scope(), id).await?)
        }
        result => result.map_err(Into::into),
    }
}

/// 202 with the operation, while what was asked for is under way. A snapshot or checkpoint never is: it was not asked for here.
fn accepted(api: &Api, record: &Sandbox) -> Option<Response> {
    if !matches!(record.phase, Phase::Pausing | Phase::Migrating) {
        return None;
    }
    let shown = ledger::read(api.options.ledger.as_ref(), |state| {
        operation::under_way(record, &|host| sandbox::called(state, host))
    });
    shown.map(accepted_as)
}

/// An error if what this record tells is that the operation was given up: its caller did not wait, and it was over all the same.
pub(crate) fn done(record: &Sandbox, kind: WorkKind) -> Answer<()> {
    let Some(trouble) = record.trouble.as_ref().filter(|trouble| trouble.kind == kind) else { return Ok(()) };
    let coded = trouble.reason.split_once(": ").and_then(|(code, rest)| Some((code.parse::<Code>().ok()?, rest)));
    let otherwise = match kind {
        WorkKind::Snapshot | WorkKind::Checkpoint | WorkKind::Pause => Code::SnapshotFailed,
        WorkKind::Migrate => Code::MoveFailed,
    };
    let (code, why) = coded.unwrap_or((otherwise, &trouble.reason));
    Err(Error::new(code, why).about(record.id).into())
}

/// 202 with an operation.
pub(crate) fn accepted_as(operation: wire::Operation) -> Response {
    let place = HeaderValue::from_str(&format!("/v1/operations/{}", operation.id));
    let place = [(header::LOCATION, place.unwrap_or(HeaderValue::from_static("/v1/operations")))];
    (StatusCode::ACCEPTED, place, axum::Json(operation)).into_response()
}

/// `not_found`, for what is not known of any more.
pub(crate) fn no_such_operation(id: plimsoll_types::OperationId) -> ApiError {
    let detail = format!("no operation {id}, or it ended too long ago; the sandbox's record says how it is now");
    ApiError::new(Code::NotFound, detail)
}
