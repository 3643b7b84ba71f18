//! Sandboxes: create, ensure, look at, take down.

use super::listing::{self, Filter};
use crate::{
    auth::Caller,
    convert::{request, rules::Rules, sandbox},
    error::{Answer, ApiError},
    extract::{Id, IdempotencyKey, Json, Params, Patience},
    limits,
    options::Api,
    streams,
};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use plimsoll_client::wire;
use plimsoll_engine::{Error, Provided};
use plimsoll_lifecycle::ports::LogOptions;
use plimsoll_types::{Code, Phase, SandboxId};

/// Make a sandbox.
///
/// Always a fresh one; `session_live` if the session has a live sandbox. Waits until it runs, unless `Prefer` says otherwise.
#[utoipa::path(
    post, path = "/v1/sandboxes", tag = "sandboxes", operation_id = "createSandbox", request_body = wire::CreateSandbox,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 201, description = "It was made and runs", body = wire::Provided),
        (status = 200, description = "The idempotency key had made it", body = wire::Provided),
        (status = 202, description = "It was accepted and does not run yet", body = wire::Provided)),
)]
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    patience: Patience,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::CreateSandbox>,
) -> Answer<Response> {
    let request = request::new_sandbox(&api, &caller, body, key).await?;
    let result = api.options.provider.create(request, patience.wait()).await;
    provided(&api, &caller, patience, result).await
}

/// The session's sandbox.
///
/// The live one as it is, or a new one. Any number of concurrent calls for one session give one sandbox.
#[utoipa::path(
    post, path = "/v1/sandboxes:ensure", tag = "sandboxes", operation_id = "ensureSandbox", request_body = wire::CreateSandbox,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 200, description = "It was there", body = wire::Provided),
        (status = 201, description = "It was made and runs", body = wire::Provided),
        (status = 202, description = "It does not run yet", body = wire::Provided)),
)]
pub(crate) async fn ensure(
    State(api): State<Api>,
    caller: Caller,
    patience: Patience,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::CreateSandbox>,
) -> Answer<Response> {
    let request = request::new_sandbox(&api, &caller, body, key).await?;
    let result = api.options.provider.ensure(request, patience.wait()).await;
    provided(&api, &caller, patience, result).await
}

/// The answer of create and ensure: 201 if it was made, 200 if it was there, 202 if it does not run yet.
pub(crate) async fn provided(
    api: &Api,
    caller: &Caller,
    patience: Patience,
    result: Result<Provided, Error>,
) -> Answer<Response> {
    let provided = settled(api, caller, patience.asynchronous, result).await?;
    let under_way =
        matches!(provided.sandbox.phase, Phase::Pending | Phase::Assigned | Phase::Starting | Phase::Restoring);
    let status = if under_way {
        StatusCode::ACCEPTED
    } else if provided.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let body = wire_provided(api, &provided);
    Ok((status, location(provided.sandbox.id), axum::Json(body)).into_response())
}

/// What was provided: as it is by now, where the caller prefers an early answer to a complete one.
pub(crate) async fn settled(
    api: &Api,
    caller: &Caller,
    early: bool,
    result: Result<Provided, Error>,
) -> Answer<Provided> {
    match result {
        Ok(provided) => Ok(provided),
        Err(Error { code: Code::Timeout, sandbox: Some(id), .. }) if early => {
            let sandbox = api.options.provider.get(&caller.scope(), id).await?;
            Ok(Provided { sandbox, created: false, recovered: false })
        }
        Err(error) => Err(error.into()),
    }
}

/// What create and ensure answer.
pub(crate) fn wire_provided(api: &Api, provided: &Provided) -> wire::Provided {
    wire::Provided {
        sandbox: sandbox::sandbox(api, &provided.sandbox),
        created: provided.created,
        recovered: provided.recovered,
    }
}

/// The `Location` header of a sandbox.
pub(crate) fn location(id: SandboxId) -> [(header::HeaderName, HeaderValue); 1] {
    let place = HeaderValue::from_str(&format!("/v1/sandboxes/{id}"));
    [(header::LOCATION, place.unwrap_or(HeaderValue::from_static("/v1/sandboxes")))]
}

/// List sandboxes, oldest first.
#[utoipa::path(
    get, path = "/v1/sandboxes", tag = "sandboxes", operation_id = "listSandboxes",
    params(("session" = Option<String>, Query), ("phase" = Option<Vec<String>>, Query, description = "In one of these phases"),
        ("host" = Option<String>, Query, description = "On this host, by name or id"),
        ("label" = Option<Vec<String>>, Query, description = "`key=value`; each must match (also `metadata`)"),
        ("all" = Option<bool>, Query, description = "Terminated ones too"),
        ("limit" = Option<u32>, Query, description = "100 if absent, 1,000 at most"),
        ("after" = Option<String>, Query, description = "The last page's `next`"),
        ("consistency" = Option<String>, Query, description = "`stale` reads what the asked node has")),
    responses((status = 200, body = wire::Page<wire::Sandbox>)),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    mut params: Params,
) -> Answer<axum::Json<wire::Page<wire::Sandbox>>> {
    let filter = Filter::read(&caller, &mut params)?;
    let stale = params.stale()?;
    params.end()?;
    if !stale {
        api.options.ledger.barrier().await?;
    }
    listing::page(&api, &filter).await.map(axum::Json)
}

/// One sandbox.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}", tag = "sandboxes", operation_id = "getSandbox",
    params(("id" = String, Path), ("consistency" = Option<String>, Query, description = "`stale` reads what the asked node has")),
    responses((status = 200, body = wire::Sandbox)),
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<axum::Json<wire::Sandbox>> {
    let stale = params.stale()?;
    params.end()?;
    if stale {
        return listing::one(&api, &caller.scope(), id).map(axum::Json);
    }
    let record = api.options.provider.get(&caller.scope(), id).await?;
    Ok(axum::Json(sandbox::sandbox(&api, &record)))
}

/// Take a sandbox down, workspace and all.
///
/// Idempotent: gone already, or unknown, is success. Waits until nothing is left of it, unless `Prefer` says otherwise for 25 s at most;
/// then it is answered with 202 and the sandbox as it is, and goes on by itself.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}", tag = "sandboxes", operation_id = "terminateSandbox",
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 204, description = "It is gone"),
        (status = 202, description = "It is on its way out, and goes on by itself", body = wire::Sandbox)),
)]
pub(crate) async fn terminate(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    patience: Patience,
) -> Answer<Response> {
    let patience = patience.unasked(limits::TERMINATE_WAIT);
    let scope = caller.scope();
    let terminate = api.options.provider.terminate(&scope, id, patience.wait());
    let ended = tokio::time::timeout(patience.time + limits::COMMIT_TIME, terminate).await;
    let overdue = |_| ApiError::new(Code::Timeout, "no quorum confirmed it in time; ask again, which is safe");
    match ended.map_err(overdue)? {
        Ok(()) => {}
        // It was accepted; how long the host takes is no failure.
        Err(error) if error.code == Code::Timeout => {}
        // Another tenant's looks like an unknown one, and unknown is success: nothing of the caller's is there.
        Err(error) if error.code == Code::SandboxNotFound => return Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => return Err(error.into()),
    }
    Ok(match listing::one(&api, &scope, id) {
        Ok(sandbox) if sandbox.phase != Phase::Terminated => {
            (StatusCode::ACCEPTED, location(id), axum::Json(sandbox)).into_response()
        }
        Ok(_) | Err(_) => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Move a sandbox's deadline.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/extend", tag = "sandboxes", operation_id = "extendSandbox", request_body = wire::ExtendSandbox,
    params(("id" = String, Path)), responses((status = 200, body = wire::Sandbox)),
)]
pub(crate) async fn extend(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<wire::ExtendSandbox>,
) -> Answer<axum::Json<wire::Sandbox>> {
    let now = api.options.clock.now();
    let mut rules = Rules::default();
    rules.require(body.lifetime_s.is_some() != body.deadline.is_some(), "", "give one of `lifetime_s` and `deadline`");
    let lifetime = request::lifetime(&mut rules, body.lifetime_s);
    rules.require(
        body.deadline.is_none_or(|deadline| deadline.0 > now),
        "/deadline",
        "it is in the past; terminate the sandbox instead",
    );
    rules.end()?;
    let deadline = match body.deadline {
        Some(deadline) => Some(deadline.0),
        None => plimsoll_types::sandbox::deadline(now, lifetime),
    };
    let record = api.options.provider.extend(&caller.scope(), id, deadline).await?;
    Ok(axum::Json(sandbox::sandbox(&api, &record)))
}

/// Which of these sandboxes run.
///
/// One call for many ids, without side effects.
#[utoipa::path(
    post, path = "/v1/sandboxes:check", tag = "sandboxes", operation_id = "checkSandboxes", request_body = wire::CheckSandboxes,
    responses((status = 200, body = wire::RunningSandboxes)),
)]
pub(crate) async fn check(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<wire::CheckSandboxes>,
) -> Answer<axum::Json<wire::RunningSandboxes>> {
    if body.ids.len() > limits::MAX_CHECK {
        return Err(ApiError::field("/ids", format!("at most {} ids", limits::MAX_CHECK)));
    }
    let ids: Vec<SandboxId> = body.ids.iter().filter_map(|id| id.parse().ok()).collect();
    let running = api.options.provider.check(&caller.scope(), &ids).await?;
    Ok(axum::Json(wire::RunningSandboxes { running }))
}

/// Where a sandbox's ports are reached now.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/tunnels", tag = "sandboxes", operation_id = "resolveTunnels",
    params(("id" = String, Path)), responses((status = 200, body = wire::Tunnels)),
)]
pub(crate) async fn tunnels(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<axum::Json<wire::Tunnels>> {
    let endpoints = api.options.provider.tunnels(&caller.scope(), id).await?;
    let url = |port| plimsoll_engine::request::url_of(&endpoints, port);
    Ok(axum::Json(wire::Tunnels {
        tunnel_url: url(plimsoll_types::sandbox::TUNNEL_PORT),
        preview_url: url(plimsoll_types::sandbox::PREVIEW_PORT),
        endpoints: sandbox::endpoints(&endpoints),
    }))
}

/// What a sandbox uses now.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/stats", tag = "sandboxes", operation_id = "sandboxStats",
    params(("id" = String, Path)), responses((status = 200, body = wire::Stats)),
)]
pub(crate) async fn stats(State(api): State<Api>, caller: Caller, Id(id): Id) -> Answer<axum::Json<wire::Stats>> {
    let stats = api.options.provider.stats(&caller.scope(), id).await?;
    Ok(axum::Json(sandbox::stats(stats)))
}

/// Write the platform's environment to `/tmp/.proliferate_env.json`.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/env", tag = "sandboxes", operation_id = "writeEnvFile", request_body = wire::WriteEnv,
    params(("id" = String, Path)), responses((status = 204, description = "It is written")),
)]
pub(crate) async fn write_env(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<wire::WriteEnv>,
) -> Answer<StatusCode> {
    let mut rules = Rules::default();
    rules.env("/env", &body.env.0);
    rules.end()?;
    let scope = caller.scope();
    let written = tokio::time::timeout(limits::WRITE_ENV, api.options.provider.write_env(&scope, id, body.env.0)).await;
    let overdue = |_| ApiError::new(Code::Timeout, "the host did not write it in time; write it again, which is safe");
    written.map_err(overdue)??;
    Ok(StatusCode::NO_CONTENT)
}

/// The output of a sandbox's main process.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/logs", tag = "sandboxes", operation_id = "sandboxLogs",
    params(("id" = String, Path), ("follow" = Option<bool>, Query, description = "Go on with new lines"),
        ("tail" = Option<u32>, Query, description = "Only so many of the last lines")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)),
)]
pub(crate) async fn logs(State(api): State<Api>, caller: Caller, Id(id): Id, mut params: Params) -> Answer<Response> {
    let options = LogOptions { follow: params.flag("follow")?, tail: params.get("tail")? };
    params.end()?;
    let stream = api.options.provider.logs(&caller.scope(), id, options).await?;
    // A quiet sandbox's first line may be hours away: the head must not wait for it.
    if options.follow {
        streams::respond_at_once(&api, stream)
    } else {
        streams::respond(&api, stream, "application/octet-stream").await
    }
}
