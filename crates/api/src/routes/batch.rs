//! Many placements in one request: judged one by one, committed together.

use super::sandboxes;
use crate::{
    auth::Caller,
    convert::{request, rules::Rules},
    error::{Answer, ApiError},
    extract::{IdempotencyKey, Json, Patience},
    limits,
    options::Api,
};
use axum::extract::State;
use futures_util::future::join_all;
use plimsoll_client::wire;
use plimsoll_engine::{NewSandbox, RequestId, spec::IDEMPOTENCY_KEY_MAX};
use plimsoll_types::Code;

/// Submit up to 256 placement requests at once.
///
/// Nothing is made if a field of any is wrong. Otherwise each stands for itself: its result is the sandbox, or the problem that it alone
/// met. With an idempotency key, the same batch sent again gives the same sandboxes. Waits until all that were placed run, unless
/// `Prefer` says otherwise; what does not run by then is answered as it is.
#[utoipa::path(
    post, path = "/v1/placements:batch", tag = "placements", operation_id = "submitPlacements", request_body = wire::BatchPlacements,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header, description = "respond-async, wait=N")),
    responses((status = 200, description = "What became of each, in order", body = wire::BatchPlaced)),
)]
pub(crate) async fn place(
    State(api): State<Api>,
    caller: Caller,
    patience: Patience,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::BatchPlacements>,
) -> Answer<axum::Json<wire::BatchPlaced>> {
    let count = body.sandboxes.len();
    if !(1..=limits::MAX_BATCH).contains(&count) {
        return Err(ApiError::field("/sandboxes", format!("from 1 to {} sandboxes", limits::MAX_BATCH)));
    }
    // The request itself holds a permit already.
    let more = u32::try_from(count - 1).unwrap_or(u32::MAX);
    let _permits = api.requests.clone().try_acquire_many_owned(more).map_err(|_| {
        let detail =
            "this node has too many placements under way for such a batch; retry with a pause, or ask another node";
        ApiError::new(Code::Overloaded, detail)
    })?;
    let requests = requests(&api, &caller, body.sandboxes, key.as_deref()).await?;
    let request_id = RequestId::current();
    let each = requests.into_iter().map(async |request| {
        let result = api.options.provider.create(request, patience.wait()).await;
        match sandboxes::settled(&api, &caller, true, result).await {
            Ok(provided) => wire::BatchResult::Provided(Box::new(sandboxes::wire_provided(&api, &provided))),
            Err(error) => {
                wire::BatchResult::Problem(error.completed(request_id.as_ref().map_or("", RequestId::as_str)))
            }
        }
    });
    Ok(axum::Json(wire::BatchPlaced { results: join_all(each).await }))
}

/// All of them, or every field that is wrong in any.
async fn requests(
    api: &Api,
    caller: &Caller,
    sandboxes: Vec<wire::CreateSandbox>,
    key: Option<&str>,
) -> Answer<Vec<NewSandbox>> {
    let (mut rules, mut requests) = (Rules::default(), Vec::new());
    for (index, sandbox) in sandboxes.into_iter().enumerate() {
        let key = key.map(|key| format!("{key}/{index}"));
        if key.as_ref().is_some_and(|key| key.len() > IDEMPOTENCY_KEY_MAX) {
            let detail = format!("a batch's key has at most {} characters", IDEMPOTENCY_KEY_MAX - "/255".len());
            return Err(ApiError::field("Idempotency-Key:", detail));
        }
        match request::new_sandbox(api, caller, sandbox, key.map(Into::into)).await {
            Ok(request) => requests.push(request),
            Err(ApiError(problem)) if !problem.errors.is_empty() => {
                for wrong in problem.errors {
                    rules.broken(format!("/sandboxes/{index}{}", wrong.pointer), wrong.detail);
                }
            }
            Err(error) => return Err(error),
        }
    }
    rules.end()?;
    Ok(requests)
}
