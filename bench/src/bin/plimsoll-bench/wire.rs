//! One HTTP/1.1 connection at a time to a node or to Docker's socket: the leanest client there is, so that it is not what is measured.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// Longer than any request of an experiment; one that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// Where a connection goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// `127.0.0.1:7070`.
    Tcp(String),
    /// Docker's socket.
    Unix(PathBuf),
}

impl Target {
    /// The target of `http://127.0.0.1:7070`.
    pub fn url(url: &str) -> Self {
        Self::Tcp(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
    }
}

/// A connection that is made when it is first used and made anew when it broke.
#[derive(Debug)]
pub struct Wire {
    target: Target,
    bearer: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, if the status says success.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        if self.body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&self.body)?) }
    }
}

impl Wire {
    /// Connects nothing yet.
    pub fn new(target: Target, key: Option<&str>) -> Self {
        Self { target, bearer: key.map(|key| format!("Bearer {key}")), sender: None }
    }

    /// Sends one request and reads the whole answer. After an error the next call connects anew.
    pub async fn call(&mut self, method: Method, path: &str, body: Bytes, headers: &[(&str, &str)]) -> Result<Answer> {
        let answered = tokio::time::timeout(LIMIT, self.exchange(method, path, body, headers)).await;
        let answered = answered.unwrap_or_else(|_| bail!("no answer within {LIMIT:?}"));
        if answered.is_err() {
            self.sender = None;
        }
        answered.with_context(|| format!("{path} at {:?}", self.target))
    }

    /// Another connection to the same place.
    pub fn again(&self) -> Self {
        Self { target: self.target.clone(), bearer: self.bearer.clone(), sender: None }
    }

    /// Drops the connection, because its answer is no longer waited for.
    pub fn cut(&mut self) {
        self.sender = None;
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Bytes, headers: &[(&str, &str)]) -> Result<Answer> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            self.sender = Some(match &self.target {
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    speak(stream).await?
                }
                Target::Unix(socket) => speak(UnixStream::connect(socket).await?).await?,
            });
        }
        let sender = self.sender.as_mut().context("connected above")?;
        sender.ready().await?;
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; what broke is seen by whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}
