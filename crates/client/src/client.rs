//! The client itself: which nodes there are, which one answers, and how its answers are read.

use crate::{call::Call, error::Error, wire::Problem};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use plimsoll_types::Code;
use reqwest::{Response, Url, header};
use serde::de::DeserializeOwned;
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes that arrive piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A connect that takes longer means that the node is down or cut off; the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A cluster, as a caller with a key sees it. Cheap to clone; clones share connections and the choice of node.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    nodes: Arc<[Url]>,
    key: Option<header::HeaderValue>,
    /// Index of the node that answered last.
    preferred: Arc<AtomicUsize>,
}

/// Shows the nodes, never the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes.iter().map(Url::as_str).collect();
        f.debug_struct("Client").field("nodes", &nodes).field("key", &self.key.is_some()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the nodes at these URLs (`http://` or `https://`), with an API key (`plm_…`) if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no URL, or one of them or the key is malformed.
    pub fn new<I>(urls: I, key: Option<&str>) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let nodes: Vec<Url> = urls.into_iter().map(|url| node_url(url.as_ref())).collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(Error::Config("no node's URL was given; set PLIMSOLL_URL or pass --url".to_owned()));
        }
        let key = key.map(bearer).transpose()?;
        // Fails only if a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().http1_only();
        // Without https no trust store is needed: a machine without CA certificates works.
        let plain = nodes.iter().all(|url| url.scheme() == "http");
        let builder = if plain { builder.tls_certs_only(std::iter::empty()) } else { builder };
        let http = builder.build().map_err(|error| Error::Config(format!("TLS cannot be used: {}", why(&error))))?;
        Ok(Self { http, nodes: nodes.into(), key, preferred: Arc::default() })
    }

    /// Sends a call to the node that answered last, then to the others as far as that is safe.
    pub(crate) async fn send(&self, call: &Call) -> Result<Response, Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut unreached = Vec::new();
        let mut last = None;
        for turn in 0..self.nodes.len() {
            let index = first.wrapping_add(turn) % self.nodes.len();
            match self.attempt(index, call, call.body.clone().map(Into::into)).await {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(Error::Unreachable(reason)) => unreached.push(reason),
                // The node was cut off from the others, or broke off: another one may know better.
                Err(error @ (Error::Interrupted { .. } | Error::Problem(_)))
                    if call.repeatable && elsewhere(&error) =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Unreachable(unreached.join("; "))))
    }

    /// Sends a call whose body can be read only once, to a node that was seen to answer.
    pub(crate) async fn send_body(&self, call: &Call, body: reqwest::Body) -> Result<Response, Error> {
        if self.nodes.len() > 1 {
            self.send(&Call::get(&["healthz"])).await?;
        }
        self.attempt(self.preferred.load(Ordering::Relaxed), call, Some(body)).await
    }

    async fn attempt(&self, index: usize, call: &Call, body: Option<reqwest::Body>) -> Result<Response, Error> {
        let Some(node) = self.nodes.get(index % self.nodes.len()) else {
            return Err(Error::Config("there is no node".to_owned()));
        };
        let mut url = node.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        let mut request = self.http.request(call.method.clone(), url).query(&call.query);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| {
            let node = node.as_str().trim_end_matches('/');
            if error.is_connect() {
                Error::Unreachable(format!("{node}: {}", why(&error)))
            } else if error.is_builder() {
                Error::Config(why(&error))
            } else {
                Error::Interrupted { doing: format!("{} on {node}", call.doing()), why: why(&error) }
            }
        })?;
        let status = response.status();
        if status.is_success() || status.as_u16() == 101 { Ok(response) } else { Err(problem(call, response).await) }
    }

    /// Sends a call and reads its JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let response = self.send(call).await?;
        self.read(call, response).await
    }

    /// Reads an answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: &Call, response: Response) -> Result<T, Error> {
        let body = response.bytes().await.map_err(|error| interrupted(call, &error))?;
        serde_json::from_slice(&body).map_err(|error| Error::Protocol { doing: call.doing(), why: error.to_string() })
    }

    /// Sends a call whose answer is empty.
    pub(crate) async fn nothing(&self, call: &Call) -> Result<(), Error> {
        self.send(call).await.map(drop)
    }

    /// Sends a call whose answer is bytes.
    pub(crate) async fn stream(&self, call: Call) -> Result<ByteStream, Error> {
        let call = call.without_timeout();
        let response = self.send(&call).await?;
        Ok(Box::pin(response.bytes_stream().map(move |chunk| chunk.map_err(|error| interrupted(&call, &error)))))
    }
}

/// Whether another node may answer what this one could not.
fn elsewhere(error: &Error) -> bool {
    match error {
        Error::Problem(problem) => problem.code == Code::NoQuorum,
        Error::Interrupted { .. } => true,
        Error::Config(_) | Error::Unreachable(_) | Error::Protocol { .. } => false,
    }
}

fn node_url(text: &str) -> Result<Url, Error> {
    let invalid = |why: &str| {
        Error::Config(format!("{text:?} is no node's URL: {why}; write http://127.0.0.1:7100 or https://…"))
    };
    let url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
    let http = matches!(url.scheme(), "http" | "https");
    if http && url.has_host() { Ok(url) } else { Err(invalid("the scheme must be http or https, with a host")) }
}

fn bearer(key: &str) -> Result<header::HeaderValue, Error> {
    let mut value = header::HeaderValue::from_str(&format!("Bearer {}", key.trim()))
        .map_err(|_| Error::Config("the API key has characters that cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The problem a failed response tells of.
async fn problem(call: &Call, response: Response) -> Error {
    let status = response.status();
    match response.json::<Problem>().await {
        Ok(problem) => problem.into(),
        Err(_) => Error::Protocol {
            doing: call.doing(),
            why: format!("HTTP {status} without a problem document; is this URL Plimsoll's?"),
        },
    }
}

pub(crate) fn interrupted(call: &Call, error: &reqwest::Error) -> Error {
    Error::Interrupted { doing: call.doing(), why: why(error) }
}

/// The innermost cause: the layers above it only repeat "error sending request".
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
