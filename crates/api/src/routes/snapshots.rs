//! Snapshots: taken, listed, shown, deleted.

use super::moving::{self, accepted_as};
use crate::{
    auth::Caller,
    convert::{operation, sandbox, snapshot},
    error::{Answer, ApiError},
    extract::{Id, Json, Params, Patience},
    limits,
    options::Api,
};
use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use plimsoll_client::wire;
use plimsoll_engine::{Error, Scope};
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::{Snapshot, SnapshotPhase, WorkKind};
use plimsoll_types::{Code, SandboxId, SnapshotId, SnapshotName};
use std::sync::Arc;

/// Take a snapshot of a running sandbox, which goes on.
///
/// Its root filesystem and its workspace as they stand at one moment; secret environment and tmpfs are not in it. It is kept until it is
/// deleted, whatever becomes of the sandbox. Whatever fails leaves the sandbox as it was.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/snapshots", tag = "snapshots", operation_id = "takeSnapshot", request_body = wire::TakeSnapshot,
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 201, description = "It is taken", body = wire::Snapshot),
        (status = 202, description = "It is being taken", body = wire::Operation)),
)]
pub(crate) async fn take(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    patience: Patience,
    Json(body): Json<wire::TakeSnapshot>,
) -> Answer<Response> {
    let patience = patience.unasked(limits::SNAPSHOT_WAIT);
    let scope = caller.scope();
    match api.options.provider.snapshot(&scope, id, body.name.clone(), patience.wait()).await {
        Ok(record) => answer(&api, id, &record),
        Err(Error { code: Code::Timeout, .. }) if patience.asynchronous => {
            under_way(&api, id, None).ok_or_else(|| ApiError::new(Code::Conflict, "it ended meanwhile; list snapshots"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Take a snapshot of a running sandbox, as the platform's contract calls it.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/snapshot", tag = "snapshots", operation_id = "snapshotSandbox", request_body = wire::TakeSnapshot,
    params(("id" = String, Path), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 201, description = "It is taken", body = wire::Snapshot),
        (status = 202, description = "It is being taken", body = wire::Operation)),
)]
pub(crate) async fn take_one(
    state: State<Api>,
    caller: Caller,
    id: Id,
    patience: Patience,
    body: Json<wire::TakeSnapshot>,
) -> Answer<Response> {
    take(state, caller, id, patience, body).await
}

fn answer(api: &Api, sandbox: SandboxId, record: &Snapshot) -> Answer<Response> {
    if record.phase != SnapshotPhase::Available {
        if let Some(response) = under_way(api, sandbox, Some(record.id)) {
            return Ok(response);
        }
        // It was over before it could be told of.
        let now = ledger::read(api.options.ledger.as_ref(), |state| {
            (state.snapshots.get(&record.id).cloned(), state.sandboxes.get(&sandbox).cloned())
        });
        match now {
            (Some(now), _) if now.phase == SnapshotPhase::Available => return Ok(created(api, &now)),
            (_, Some(now)) => moving::done(&now, WorkKind::Snapshot)?,
            (_, None) => {}
        }
        return Err(ApiError::new(Code::Conflict, "the sandbox went another way before the snapshot was taken"));
    }
    Ok(created(api, record))
}

fn created(api: &Api, record: &Snapshot) -> Response {
    let place = HeaderValue::from_str(&format!("/v1/snapshots/{}", record.id));
    let place = [(header::LOCATION, place.unwrap_or(HeaderValue::from_static("/v1/snapshots")))];
    (StatusCode::CREATED, place, axum::Json(shown(api, record))).into_response()
}

/// 202 with the operation on this sandbox that takes this snapshot, or any.
fn under_way(api: &Api, sandbox: SandboxId, snapshot: Option<SnapshotId>) -> Option<Response> {
    let found = ledger::read(api.options.ledger.as_ref(), |state| {
        let record = state.sandboxes.get(&sandbox)?;
        let found = operation::under_way(record, &|host| sandbox::called(state, host))?;
        snapshot.is_none_or(|snapshot| found.snapshot == Some(snapshot)).then_some(found)
    });
    found.map(accepted_as)
}

fn shown(api: &Api, record: &Snapshot) -> wire::Snapshot {
    ledger::read(api.options.ledger.as_ref(), |state| snapshot::snapshot(state, record))
}

/// List snapshots, oldest first.
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshots", operation_id = "listSnapshots",
    params(("sandbox" = Option<String>, Query, description = "Taken of this sandbox"),
        ("limit" = Option<u32>, Query, description = "100 if absent, 1,000 at most"),
        ("after" = Option<String>, Query, description = "The last page's `next`")),
    responses((status = 200, body = wire::Page<wire::Snapshot>)),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    mut params: Params,
) -> Answer<axum::Json<wire::Page<wire::Snapshot>>> {
    let (sandbox, limit, after) = (params.get("sandbox")?, params.page()?, params.get("after")?);
    params.end()?;
    let (records, next) = api.options.provider.snapshots(&caller.scope(), sandbox, after, limit).await?;
    let items = ledger::read(api.options.ledger.as_ref(), |state| {
        records.iter().map(|record| snapshot::snapshot(state, record)).collect()
    });
    Ok(axum::Json(wire::Page { items, next: next.map(|next| next.to_string()) }))
}

/// One snapshot, by id or name.
#[utoipa::path(
    get, path = "/v1/snapshots/{id}", tag = "snapshots", operation_id = "getSnapshot",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, body = wire::Snapshot)),
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(which): Path<String>,
) -> Answer<axum::Json<wire::Snapshot>> {
    let record = find(&api, &caller, &which).await?;
    Ok(axum::Json(shown(&api, &record)))
}

/// Delete a snapshot, by id or name.
///
/// Idempotent: gone already, or unknown, is success. `snapshot_in_use` while a sandbox needs it to come back.
#[utoipa::path(
    delete, path = "/v1/snapshots/{id}", tag = "snapshots", operation_id = "deleteSnapshot",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 204, description = "Nothing starts from it any more")),
)]
pub(crate) async fn delete(State(api): State<Api>, caller: Caller, Path(which): Path<String>) -> Answer<StatusCode> {
    let record = match find(&api, &caller, &which).await {
        Ok(record) => record,
        // Another tenant's looks like an unknown one, and unknown is success.
        Err(error) if error.code() == Code::SnapshotNotFound => return Ok(StatusCode::NO_CONTENT),
        Err(error) => return Err(error),
    };
    match api.options.provider.delete_snapshot(&caller.scope(), record.id).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) if error.code == Code::SnapshotNotFound => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

/// A snapshot the caller may see, by id or name. A name of the key's own tenant comes before another's.
async fn find(api: &Api, caller: &Caller, which: &str) -> Answer<Arc<Snapshot>> {
    if which.parse::<SnapshotId>().is_err() {
        let name = SnapshotName::new(which).map_err(|error| ApiError::field("{id}", error))?;
        match api.options.provider.get_snapshot(&Scope::Tenant(caller.tenant.clone()), name.as_str()).await {
            Err(error) if error.code == Code::SnapshotNotFound => {}
            found => return Ok(found?),
        }
    }
    Ok(api.options.provider.get_snapshot(&caller.scope(), which).await?)
}
