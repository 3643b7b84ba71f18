//! What Docker tells of a push, a pull or a build while it goes on: one JSON document a line.
//!
//! Nothing but the line at hand is held.

use crate::error::{self, DockerError, Refused};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use plimsoll_types::Code;
use serde_json::Value;

/// Longest line; Docker's are some hundred bytes.
const MAX_LINE: usize = 256 << 10;

/// The lines of an answer.
pub(super) struct Progress {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

/// One line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The layer, by its digest's first digits.
    pub(super) id: String,
    /// What happened to it.
    pub(super) status: String,
    /// Bytes moved so far.
    pub(super) current: u64,
}

impl Line {
    /// Whether Docker waits before it tries a layer again: "Retrying in 5 seconds".
    pub(super) fn is_retry(&self) -> bool {
        self.status.starts_with("Retrying")
    }
}

impl Progress {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: BytesMut::new(), ended: false }
    }

    /// The next line; `None` at the end. What Docker reports as an error is one.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, DockerError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if let Some(line) = parse(&line)? {
                    return Ok(Some(line));
                }
            } else if self.ended {
                let rest = self.buffer.split();
                return parse(&rest);
            } else if self.buffer.len() > MAX_LINE {
                return Err(broke("a line is too long"));
            } else {
                match self.body.frame().await {
                    None => self.ended = true,
                    Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                    Some(Err(error)) => return Err(broke(&error::chain(&error))),
                }
            }
        }
    }

    /// Reads to the end.
    pub(super) async fn finish(&mut self) -> Result<(), DockerError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

fn broke(why: &str) -> DockerError {
    let text = format!("Docker's report broke off: {why}; it is tried again");
    DockerError::Lost(error::unreachable(Code::DockerUnreachable, text))
}

fn parse(line: &[u8]) -> Result<Option<Line>, DockerError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(line).map_err(|_| broke("a line cannot be read"))?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let detail = value.get("errorDetail").and_then(|detail| detail.get("message")).and_then(Value::as_str);
    if let Some(message) = detail.or_else(|| value.get("error").and_then(Value::as_str)) {
        return Err(DockerError::Refused(Refused { status: 500, message: error::tidy(message) }));
    }
    let current = value.get("progressDetail").and_then(|detail| detail.get("current")).and_then(Value::as_u64);
    Ok(Some(Line { id: text("id"), status: text("status"), current: current.unwrap_or(0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_errors_are_read() {
        let line = parse(br#"{"status":"Pushing","progressDetail":{"current":7,"total":9},"id":"abc"}"#);
        assert_eq!(
            line.expect("a line"),
            Some(Line { id: "abc".to_owned(), status: "Pushing".to_owned(), current: 7 })
        );
        assert_eq!(parse(b"\r\n").expect("nothing"), None);
        let refused = parse(br#"{"errorDetail":{"message":"no space left"},"error":"no space left"}"#);
        assert!(matches!(refused, Err(DockerError::Refused(Refused { message, .. })) if message == "no space left"));
        assert!(parse(b"{").is_err());
    }
}
