//! Files inside sandboxes. Contents are raw bodies that stream both ways; only the folder as JSON is held in memory.

use crate::{
    auth::Caller,
    convert::{self, rules::Rules},
    error::{Answer, ApiError},
    extract::{Id, Json, Params},
    limits,
    options::Api,
    streams,
};
use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use futures_util::StreamExt;
use plimsoll_client::wire;
use plimsoll_lifecycle::ports::WriteOptions;
use plimsoll_types::Code;

const BYTES: &str = "application/octet-stream";
const TAR: &str = "application/x-tar";

/// Takes the path out of the query.
fn path(params: &mut Params) -> Answer<String> {
    let path = params.text("path")?.ok_or_else(|| ApiError::field("?path", "name an absolute path"))?;
    let mut rules = Rules::default();
    rules.path("?path", &path);
    rules.end()?;
    Ok(path)
}

/// Read a file.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files", tag = "files", operation_id = "readFile",
    params(("id" = String, Path), ("path" = String, Query)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)),
)]
pub(crate) async fn read(State(api): State<Api>, caller: Caller, Id(id): Id, mut params: Params) -> Answer<Response> {
    let path = path(&mut params)?;
    params.end()?;
    let stream = api.options.provider.read_file(&caller.scope(), id, &path).await?;
    streams::respond(&api, stream, BYTES).await
}

/// Write a file.
///
/// Atomic: the old content stays until all of the new is there. Parents are created.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/files", tag = "files", operation_id = "writeFile",
    params(("id" = String, Path), ("path" = String, Query),
        ("mode" = Option<String>, Query, description = "Permission bits in octal; 0644 if absent"),
        ("owner" = Option<String>, Query,
            description = "`name`, `uid` (for `uid:uid`) or `uid:gid`; not with setuid or setgid in `mode`"),
        ("user" = Option<String>, Query, description = "As whom to write")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is written")),
)]
pub(crate) async fn write(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
    body: Body,
) -> Answer<StatusCode> {
    let path = path(&mut params)?;
    let options = write_options(&mut params)?;
    params.end()?;
    let _permit = streams::permit(&api)?;
    api.options.provider.write_file(&caller.scope(), id, &path, options, streams::upload(body)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn write_options(params: &mut Params) -> Answer<WriteOptions> {
    let mut rules = Rules::default();
    let mode = params.text("mode")?.and_then(|text| {
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        rules.require(mode.is_some(), "?mode", "write permission bits in octal, such as 0644");
        mode
    });
    let owner = params.text("owner")?;
    if let Some(owner) = &owner {
        rules.user("?owner", owner);
    }
    let user = params.text("user")?;
    if let Some(user) = &user {
        rules.user("?user", user);
    }
    rules.end()?;
    Ok(WriteOptions { mode, owner, user })
}

/// Remove a file, or a folder with all below it.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/files", tag = "files", operation_id = "removeFile",
    params(("id" = String, Path), ("path" = String, Query), ("recursive" = Option<bool>, Query)),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<StatusCode> {
    let (path, recursive) = (path(&mut params)?, params.flag("recursive")?);
    params.end()?;
    api.options.provider.remove_file(&caller.scope(), id, &path, recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A folder's entries.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/list", tag = "files", operation_id = "listFiles",
    params(("id" = String, Path), ("path" = String, Query), ("recursive" = Option<bool>, Query)),
    responses((status = 200, body = Vec<wire::FileEntry>)),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<axum::Json<Vec<wire::FileEntry>>> {
    let (path, recursive) = (path(&mut params)?, params.flag("recursive")?);
    params.end()?;
    let entries = api.options.provider.list_files(&caller.scope(), id, &path, recursive).await?;
    Ok(axum::Json(entries.into_iter().map(convert::files::entry).collect()))
}

/// What stands at a path; a symbolic link is not followed.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/stat", tag = "files", operation_id = "statFile",
    params(("id" = String, Path), ("path" = String, Query)), responses((status = 200, body = wire::FileEntry)),
)]
pub(crate) async fn stat(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<axum::Json<wire::FileEntry>> {
    let path = path(&mut params)?;
    params.end()?;
    let entry = api.options.provider.stat_file(&caller.scope(), id, &path).await?;
    Ok(axum::Json(convert::files::entry(entry)))
}

/// Move a file or folder; the target's parents are created.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/move", tag = "files", operation_id = "moveFile", request_body = wire::MoveFile,
    params(("id" = String, Path)), responses((status = 204, description = "It is moved")),
)]
pub(crate) async fn rename(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<wire::MoveFile>,
) -> Answer<StatusCode> {
    let mut rules = Rules::default();
    rules.path("/from", &body.from);
    rules.path("/to", &body.to);
    rules.end()?;
    api.options.provider.move_file(&caller.scope(), id, &body.from, &body.to).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A folder's files with their bytes.
///
/// Recursive and binary safe, for folders of at most 32 MiB; the tar has no limit.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/folder", tag = "files", operation_id = "readFolder",
    params(("id" = String, Path), ("path" = String, Query)), responses((status = 200, body = wire::FolderContent)),
)]
pub(crate) async fn folder(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<axum::Json<wire::FolderContent>> {
    let path = path(&mut params)?;
    params.end()?;
    let _permit = streams::permit(&api)?;
    let mut stream = api.options.provider.export_tar(&caller.scope(), id, &path).await?;
    let mut tar = Vec::new();
    while let Some(piece) = stream.next().await {
        tar.extend_from_slice(&piece?);
        if tar.len() > limits::MAX_FOLDER {
            return Err(ApiError::new(Code::FileError, format!("{path} holds more than 32 MiB; read it as files/tar")));
        }
    }
    convert::files::folder(&tar).map(axum::Json)
}

/// A folder as an uncompressed tar; names are relative to it.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/tar", tag = "files", operation_id = "exportTar",
    params(("id" = String, Path), ("path" = String, Query)),
    responses((status = 200, content_type = "application/x-tar", body = Vec<u8>)),
)]
pub(crate) async fn export_tar(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
) -> Answer<Response> {
    let path = path(&mut params)?;
    params.end()?;
    let stream = api.options.provider.export_tar(&caller.scope(), id, &path).await?;
    streams::respond(&api, stream, TAR).await
}

/// Unpack an uncompressed tar into a folder, which is created.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/files/tar", tag = "files", operation_id = "importTar",
    params(("id" = String, Path), ("path" = String, Query)),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 204, description = "It is unpacked")),
)]
pub(crate) async fn import_tar(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    mut params: Params,
    body: Body,
) -> Answer<StatusCode> {
    let path = path(&mut params)?;
    params.end()?;
    let _permit = streams::permit(&api)?;
    api.options.provider.import_tar(&caller.scope(), id, &path, streams::upload(body)).await?;
    Ok(StatusCode::NO_CONTENT)
}
