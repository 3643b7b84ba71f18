//! Terminal sandboxes: made to be logged into over SSH.

use super::sandboxes::{location, wire_provided};
use crate::{
    auth::Caller,
    convert::request,
    error::{Answer, ApiError},
    extract::{IdempotencyKey, Json, Patience},
    options::{Api, SshGateway},
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use plimsoll_client::wire::{self, CreateSandbox, CreateTerminal, PortRef, sandbox::NamedPort};
use plimsoll_types::Code;

/// Make a sandbox to log into over SSH.
///
/// Publishes the preview port. `ssh -p <ssh_port> <ssh_user>@<ssh_host>` with one of the keys opens a shell in it.
#[utoipa::path(
    post, path = "/v1/terminals", tag = "sandboxes", operation_id = "createTerminal", request_body = wire::CreateTerminal,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header, description = "wait=N")),
    responses((status = 201, description = "It runs", body = wire::Terminal)),
)]
pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    patience: Patience,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<CreateTerminal>,
) -> Answer<Response> {
    let Some(SshGateway { host, port }) = api.options.gateway.clone() else {
        return Err(ApiError::new(
            Code::NotFound,
            "this node runs no SSH gateway; set `gateway.listen` in its configuration, or ask a node that has one",
        ));
    };
    if body.ssh_keys.is_empty() {
        return Err(ApiError::field("/ssh_keys", "give at least one public key, or nobody can log in"));
    }
    let request = request::new_sandbox(&api, &caller, as_create(body), key).await?;
    let provided = api.options.provider.create(request, patience.wait()).await?;
    let id = provided.sandbox.id;
    let body = wire::Terminal {
        provided: wire_provided(&api, &provided),
        ssh_host: host,
        ssh_port: port,
        ssh_user: id.to_string(),
    };
    Ok((StatusCode::CREATED, location(id), axum::Json(body)).into_response())
}

fn as_create(terminal: CreateTerminal) -> CreateSandbox {
    let mut secret_env = terminal.env;
    if let Some(token) = terminal.git_token {
        secret_env.0.insert("GIT_TOKEN".to_owned(), token.0);
    }
    CreateSandbox {
        session: Some(terminal.session),
        image: terminal.image,
        snapshot: terminal.snapshot,
        secret_env,
        ssh_keys: terminal.ssh_keys,
        ports: vec![PortRef::Named(NamedPort::Preview)],
        ..CreateSandbox::default()
    }
}
