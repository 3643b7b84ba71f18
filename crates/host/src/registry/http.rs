//! One HTTP request to the registry: its own connection, a deadline, and a limit on what is read.

use super::options::Place;
use crate::{error, limits};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, header::HeaderMap};
use hyper_util::rt::TokioIo;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use tokio::net::TcpStream;

/// Longest answer that is read: a manifest or configuration of 125 layers is about 50 KiB, a page of names 30 KiB.
const MAX_ANSWER: usize = 4 << 20;

/// What the registry said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// An error from an answer that is none of those expected.
    pub(crate) fn refused(&self, what: &str) -> HostError {
        let said = said(&self.body);
        let text = format!("the registry refused to {what} with {}: {said}", self.status);
        if self.status == StatusCode::INSUFFICIENT_STORAGE || error::is_full(&said) {
            return error::transient(Code::RegistryFull, format!("{text}; free space where it keeps its data"));
        }
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                error::permanent(Code::RegistryUnreachable, format!("{text}; check the registry's user and password"))
            }
            _ => error::transient(Code::RegistryUnreachable, text),
        }
    }
}

/// The messages of a registry's error document, or its text.
fn said(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<serde_json::Value>(body).ok();
    let messages = parsed.as_ref().and_then(|value| value.get("errors")).and_then(|errors| errors.as_array());
    let texts: Vec<String> = messages
        .into_iter()
        .flatten()
        .map(|one| {
            let part = |name: &str| one.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            [part("code"), part("message"), part("detail")].into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
        .collect();
    error::tidy(&if texts.is_empty() { String::from_utf8_lossy(body).into_owned() } else { texts.join("; ") })
}

pub(crate) fn unreachable(place: &Place, why: &str) -> HostError {
    let text =
        format!("the registry at {place} does not answer: {why}; check that it runs and that this node reaches it");
    error::transient(Code::RegistryUnreachable, text)
}

/// Sends one request and reads all of the answer.
pub(crate) async fn send(place: &Place, request: Request<Full<Bytes>>) -> Result<Answer, HostError> {
    let exchange = async {
        let broke = |error: &(dyn std::error::Error + 'static)| unreachable(place, &error::chain(error));
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|e| broke(&e))?;
        stream.set_nodelay(true).map_err(|e| broke(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broke(&e))?;
        let talk = async {
            let response = sender.send_request(request).await.map_err(|e| broke(&e))?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| unreachable(place, &e.to_string()))?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let mut talk = std::pin::pin!(talk);
        // The connection is driven here, so it ends with the request whatever happens.
        tokio::select! {
            answer = &mut talk => answer,
            ended = connection => match ended {
                Ok(()) => talk.await,
                Err(error) => Err(broke(&error)),
            },
        }
    };
    match tokio::time::timeout(limits::REGISTRY, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(place, &format!("no answer within {} s", limits::REGISTRY.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_codes() {
        let full = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Err":"write /x: no space left on device"}}]}"#;
        for (status, body, code) in [
            (507, &b""[..], Code::RegistryFull),
            (500, &full[..], Code::RegistryFull),
            (500, b"oops", Code::RegistryUnreachable),
            (401, b"", Code::RegistryUnreachable),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body) };
            assert_eq!(answer.refused("x").code, code, "{status}");
        }
    }
}
