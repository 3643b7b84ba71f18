//! Operations: what `Prefer: respond-async` was answered with, derived from the sandboxes they are done to.

use super::moving::no_such_operation;
use crate::{
    auth::Caller,
    convert::{operation, sandbox},
    error::{Answer, ApiError},
    limits,
    options::Api,
};
use axum::extract::{Path, State};
use plimsoll_client::wire;
use plimsoll_engine::Scope;
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::State as Replicated;
use plimsoll_types::{OperationId, SandboxId};
use std::ops::Bound;

/// How an operation stands.
///
/// Known while it is under way and as long as the events of its end are kept; the last move and the last failure of a sandbox are known for
/// longer.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "sandboxes", operation_id = "getOperation",
    params(("id" = String, Path)), responses((status = 200, body = wire::Operation)),
)]
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<axum::Json<wire::Operation>> {
    let id: OperationId = id.parse().map_err(|error| ApiError::field("{id}", error))?;
    api.options.ledger.barrier().await?;
    let scope = caller.scope();
    let found = match young(&api, &scope, id) {
        Some(found) => Some(found),
        None => old(&api, &scope, id).await,
    };
    found.map(axum::Json).ok_or_else(|| no_such_operation(id))
}

/// One under way, or one whose events are still kept.
fn young(api: &Api, scope: &Scope, id: OperationId) -> Option<wire::Operation> {
    let found = ledger::read(api.options.ledger.as_ref(), |state| {
        let called = |host| sandbox::called(state, host);
        let working = state.working().find_map(|record| operation::of_record(record, id, &called));
        working
            .filter(|found| found.state == wire::OperationState::Running)
            .or_else(|| operation::of_events(state, id, &called))
    });
    found.filter(|found| scope.allows(&found.tenant))
}

/// One that a sandbox's record remembers, looked for in short reads.
async fn old(api: &Api, scope: &Scope, id: OperationId) -> Option<wire::Operation> {
    let mut after = None;
    loop {
        let (found, more) = ledger::read(api.options.ledger.as_ref(), |state| scan(state, scope, id, &mut after));
        if found.is_some() || !more {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

fn scan(
    state: &Replicated,
    scope: &Scope,
    id: OperationId,
    after: &mut Option<SandboxId>,
) -> (Option<wire::Operation>, bool) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut seen = 0;
    for (sandbox, record) in state.sandboxes.range((from, Bound::Unbounded)).take(limits::SCAN) {
        (*after, seen) = (Some(*sandbox), seen + 1);
        let found = operation::of_record(record, id, &|host| sandbox::called(state, host));
        if found.is_some() && scope.allows(&record.tenant) {
            return (found, false);
        }
    }
    (None, seen == limits::SCAN)
}
