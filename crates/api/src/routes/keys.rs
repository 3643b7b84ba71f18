//! API keys, for operators.

use crate::{auth::Operator, convert::rules::Rules, error::Answer, extract::Json, options::Api};
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use plimsoll_client::wire::{self, Secret, Time};
use plimsoll_state::{ApiKey, Role};
use plimsoll_types::{KeyId, TenantId};

/// Make an API key. Its secret is shown this once.
#[utoipa::path(
    post, path = "/v1/keys", tag = "cluster", operation_id = "createKey", request_body = wire::CreateKey,
    responses((status = 201, body = wire::KeyCreated)),
)]
pub(crate) async fn create(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::CreateKey>,
) -> Answer<(StatusCode, axum::Json<wire::KeyCreated>)> {
    let mut rules = Rules::default();
    let ok = (1..=64).contains(&body.name.len()) && !body.name.contains(char::is_control);
    rules.require(ok, "/name", "from 1 to 64 bytes on one line");
    rules.end()?;
    let tenant = body.tenant.unwrap_or_else(TenantId::default_tenant);
    let role = match body.role {
        wire::Role::Operator => Role::Operator,
        wire::Role::Platform => Role::Platform,
        wire::Role::Metrics => Role::Metrics,
    };
    let (key, secret) = api.options.operations.create_key(&body.name, role, tenant).await?;
    Ok((StatusCode::CREATED, axum::Json(wire::KeyCreated { key: wire_key(&key), secret: Secret(secret) })))
}

/// Every API key, without secrets.
#[utoipa::path(get, path = "/v1/keys", tag = "cluster", operation_id = "listKeys", responses((status = 200, body = Vec<wire::Key>)))]
pub(crate) async fn list(State(api): State<Api>, _: Operator) -> Answer<axum::Json<Vec<wire::Key>>> {
    let keys = api.options.operations.keys().await?;
    Ok(axum::Json(keys.iter().map(|key| wire_key(key)).collect()))
}

/// End an API key.
///
/// The node that answers refuses it from now on, the others as soon as they have applied that: with the leader's next message. A node
/// that is cut off from the leader takes it until it is back, for stale reads and its own state alone.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "cluster", operation_id = "revokeKey",
    params(("id" = String, Path)), responses((status = 204, description = "It is revoked")),
)]
pub(crate) async fn revoke(State(api): State<Api>, _: Operator, Path(id): Path<String>) -> Answer<StatusCode> {
    let id: KeyId = id.parse().map_err(|error| crate::ApiError::field("{id}", error))?;
    api.options.operations.revoke_key(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wire_key(key: &ApiKey) -> wire::Key {
    wire::Key {
        id: key.id,
        name: key.name.to_string(),
        role: match key.role {
            Role::Operator => wire::Role::Operator,
            Role::Platform => wire::Role::Platform,
            Role::Metrics => wire::Role::Metrics,
        },
        tenant: key.tenant.clone(),
        created_at: Time(key.created_at),
    }
}
