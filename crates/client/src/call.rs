//! One request as data, so that it can be sent to one node after another.

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use std::time::Duration;

/// How long a call waits for what it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// As long as the node does by default.
    #[default]
    Default,
    /// Not at all: the answer is what was accepted.
    No,
    /// At most so long.
    Upto(Duration),
}

/// A request without a node.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path segments; each is escaped.
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Bytes>,
    /// Whether doing it twice is doing it once.
    pub(crate) repeatable: bool,
    /// When to give up; `None` for streams.
    pub(crate) timeout: Option<Duration>,
}

impl Call {
    /// Longer than the longest budget a platform sets (180 s for a create), so that the node's own answer comes first.
    const TIMEOUT: Duration = Duration::from_secs(240);

    fn new(method: Method, path: &[&str], repeatable: bool) -> Self {
        Self {
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            repeatable,
            timeout: Some(Self::TIMEOUT),
        }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path, true)
    }

    pub(crate) fn put(path: &[&str]) -> Self {
        Self::new(Method::PUT, path, true)
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path, true)
    }

    pub(crate) fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path, true)
    }

    pub(crate) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path, false)
    }

    pub(crate) const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    pub(crate) const fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// A body as JSON. Our own types always serialize; a failure would show as an empty body, which the node refuses.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).unwrap_or_default().into());
        self.header("content-type", Some("application/json"))
    }

    pub(crate) fn wait(self, wait: Wait) -> Self {
        match wait {
            Wait::Default => self,
            Wait::No => self.header("prefer", Some("respond-async")),
            Wait::Upto(time) => {
                let mut call = self.header("prefer", Some(format!("wait={}", time.as_secs())));
                call.timeout = Some(time.saturating_add(Self::TIMEOUT));
                call
            }
        }
    }

    /// `GET /v1/hosts`, for errors.
    pub(crate) fn doing(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }
}
