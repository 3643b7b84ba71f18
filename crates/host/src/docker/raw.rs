//! Requests that need their own connection: streams somebody else reads, and the one that asks for the API's version.

use crate::{
    access::Io,
    error::{self, DockerError, Refused},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE},
};
use hyper_util::rt::TokioIo;
use plimsoll_types::Code;

/// Longest refusal that is read.
const MAX_REFUSAL: usize = 64 << 10;

pub(crate) fn get(path: &str) -> Result<Request<Full<Bytes>>, DockerError> {
    Request::get(path).header(HOST, "docker").body(Full::default()).map_err(|e| lost(&e))
}

/// A POST whose answer is read as it comes.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Request<Full<Bytes>>, DockerError> {
    let request = Request::post(path).header(HOST, "docker");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::from(body)).map_err(|e| lost(&e))
}

/// A POST whose answer turns the connection into a byte stream.
pub(crate) fn upgrade(path: &str, body: &serde_json::Value) -> Result<Request<Full<Bytes>>, DockerError> {
    Request::post(path)
        .header(HOST, "docker")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
        .map_err(|e| lost(&e))
}

/// Sends a request over a connection of its own; a refusal is an error.
pub(crate) async fn send(io: Io, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, DockerError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| lost(&e))?;
    // Ends with the connection: when the answer has been read, or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = error::chain(&error), "a connection to Docker ended early");
        }
    });
    let response = sender.send_request(request).await.map_err(|e| lost(&e))?;
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let body =
        Limited::new(response.into_body(), MAX_REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| value.get("message").and_then(|text| text.as_str()).map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    Err(DockerError::Refused(Refused { status: status.as_u16(), message: error::tidy(&message) }))
}

/// Reads a short JSON answer.
pub(crate) async fn json(response: Response<Incoming>) -> Result<serde_json::Value, DockerError> {
    json_within(response, MAX_REFUSAL).await
}

/// Reads a JSON answer of at most so many bytes.
pub(crate) async fn json_within(response: Response<Incoming>, most: usize) -> Result<serde_json::Value, DockerError> {
    let unreadable = |why: String| {
        DockerError::Lost(error::unreachable(Code::DockerUnreachable, format!("Docker's answer cannot be read: {why}")))
    };
    let body = Limited::new(response.into_body(), most).collect().await.map_err(|e| unreadable(e.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|e| unreadable(e.to_string()))
}

fn lost(error: &(dyn std::error::Error + 'static)) -> DockerError {
    DockerError::Lost(error::find(error).unwrap_or_else(|| {
        let why = error::chain(error);
        error::unreachable(Code::DockerUnreachable, format!("the connection to Docker broke: {why}"))
    }))
}
