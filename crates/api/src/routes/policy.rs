//! The cluster's policy, for operators.

use crate::{
    auth::Operator,
    convert::policy,
    error::{Answer, ApiError},
    extract::Json,
    options::Api,
};
use axum::extract::State;
use plimsoll_client::wire;
use plimsoll_types::Code;

/// The rules in force for the whole cluster.
#[utoipa::path(get, path = "/v1/cluster/policy", tag = "cluster", operation_id = "clusterPolicy", responses((status = 200, body = wire::Policy)))]
pub(crate) async fn get(State(api): State<Api>, _: Operator) -> Answer<axum::Json<wire::Policy>> {
    Ok(axum::Json(policy::shown(&api.options.operations.policy().await?)))
}

/// Replace the rules in force.
///
/// The document is whole: read it, change it, send it back. Its `revision` keeps another operator's change from being undone: `conflict`
/// if the rules were changed since. `name_prefix` and `data_dir` cannot change while there are sandboxes.
#[utoipa::path(
    put, path = "/v1/cluster/policy", tag = "cluster", operation_id = "setClusterPolicy", request_body = wire::Policy,
    responses((status = 200, description = "The rules now in force", body = wire::Policy)),
)]
pub(crate) async fn set(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::Policy>,
) -> Answer<axum::Json<wire::Policy>> {
    let revision = body.revision.clone();
    let wanted = policy::wanted(body)?;
    let operations = &api.options.operations;
    let expected = match revision {
        None => None,
        Some(revision) => {
            let now = operations.policy().await?;
            // A retry of the change that is in force already is answered like the first.
            if now != wanted && policy::revision(&now) != revision {
                let detail = "the policy was changed since this revision; read it again and repeat your change";
                return Err(ApiError::new(Code::Conflict, detail));
            }
            Some(now)
        }
    };
    Ok(axum::Json(policy::shown(&operations.set_policy(wanted, expected).await?)))
}
