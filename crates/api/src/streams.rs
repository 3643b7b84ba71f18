//! Long answers: each holds a permit, ends when the node shuts down, and says early if it cannot begin.

use crate::{
    error::{Answer, ApiError},
    options::Api,
};
use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::ports::{ByteStream, HostError, HostFailure};
use plimsoll_types::Code;
use tokio::sync::OwnedSemaphorePermit;

/// A permit for one open stream.
pub(crate) fn permit(api: &Api) -> Answer<OwnedSemaphorePermit> {
    let detail = "this node has as many open streams as it takes; retry with a pause, or ask another node";
    api.streams.clone().try_acquire_owned().map_err(|_| ApiError::new(Code::Overloaded, detail))
}

/// A response of bytes as they come. The first piece is awaited, so that a missing file is a problem and not a broken body.
pub(crate) async fn respond(api: &Api, mut body: ByteStream, content_type: &'static str) -> Answer<Response> {
    let first = match body.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return Err(error.into()),
        None => Bytes::new(),
    };
    whole(api, Box::pin(stream::iter([Ok(first)]).chain(body)), content_type)
}

/// The same without waiting for the first piece, for what may be quiet for long.
pub(crate) fn respond_at_once(api: &Api, body: ByteStream) -> Answer<Response> {
    whole(api, body, "application/octet-stream")
}

fn whole(api: &Api, body: ByteStream, content_type: &'static str) -> Answer<Response> {
    let permit = permit(api)?;
    let pieces = body.take_until(api.closing.clone().cancelled_owned()).map(move |piece: Result<Bytes, HostError>| {
        // The permit lives as long as the stream that owns this closure.
        let _ = &permit;
        piece
    });
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(pieces)).into_response())
}

/// A request's body as the engine takes it.
pub(crate) fn upload(body: Body) -> ByteStream {
    Box::pin(body.into_data_stream().map(|chunk| {
        chunk.map_err(|error| {
            HostError::new(HostFailure::Permanent, Code::InvalidRequest, format!("the upload broke off: {error}"))
        })
    }))
}
