//! A container's output, as it was logged or as it comes.
//!
//! Each stream has its own connection and is read no faster than its reader reads.

use super::{Api, Frames, raw, seen};
use crate::{
    access::Class,
    error::{self, DockerError},
    metrics,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use plimsoll_lifecycle::ports::{ByteStream, HostError, LogOptions};
use plimsoll_types::Code;

/// Most of a container's last lines that are read for an error.
const MAX_LAST: usize = 16 << 10;

struct Reading {
    body: Incoming,
    frames: Frames,
    input: Bytes,
    _open: metrics::Open,
}

/// The container's output, stdout and stderr in the order Docker has them.
pub(crate) async fn logs(api: &Api, container: &str, options: LogOptions) -> Result<ByteStream, HostError> {
    open(api, Class::Stream, container, options).await
}

/// The last lines, for an error.
pub(crate) async fn last(api: &Api, container: &str, lines: u32) -> Result<String, HostError> {
    let mut output = open(api, Class::Call, container, LogOptions { follow: false, tail: Some(lines) }).await?;
    let mut text = Vec::new();
    while let Some(piece) = output.next().await {
        text.extend_from_slice(&piece?);
        if text.len() > MAX_LAST {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn open(api: &Api, class: Class, container: &str, options: LogOptions) -> Result<ByteStream, HostError> {
    let found = seen::details(api, container).await?.ok_or_else(|| {
        error::transient(Code::NotFound, format!("there is no container {container} on host {}", api.name))
    })?;
    let terminal = found.config.and_then(|config| config.tty).unwrap_or(false);
    let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let path =
        format!("/containers/{container}/logs?stdout=1&stderr=1&follow={}&tail={tail}", u8::from(options.follow));
    let response = api.stream(class, |path| raw::get(&path), &path).await.map_err(|e| error::docker("read logs", e))?;
    let reading = Reading {
        body: response.into_body(),
        frames: Frames::new(terminal),
        input: Bytes::new(),
        _open: metrics::Open::stream(&api.name),
    };
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async {
        Ok(reading.next().await.map_err(|e| error::docker("read logs", e))?.map(|piece| (piece, reading)))
    })))
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, DockerError> {
        let broke = |why: String| {
            DockerError::Lost(error::unreachable(
                Code::DockerUnreachable,
                format!("the log stream broke: {why}; open it again"),
            ))
        };
        loop {
            if let Some((_, piece)) = self.frames.next(&mut self.input).map_err(|e| broke(e.to_string()))? {
                return Ok(Some(piece));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.input = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(broke(error::chain(&error))),
            }
        }
    }
}
