//! The id of the HTTP request that is being answered. It goes to the leader beside each question, so that both nodes' logs tell of
//! the same request. It is only ever logged: nothing is decided by it.

use std::{fmt, future::Future, sync::Arc};

/// The longest: with room for a UUID and a prefix. A longer one would make every line of its request longer, on two nodes.
const MAX: usize = 64;

tokio::task_local! {
    /// What the task at hand answers.
    static CURRENT: Option<RequestId>;
}

/// The id of a request: short, and nothing in it that a log or a header would have to escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// An id, if the text may be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let sane = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        ((1..=MAX).contains(&text.len()) && sane).then(|| Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The request that this task answers; `None` for what nobody asked for over HTTP.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// Does something for a request. Tasks that it spawns do not belong to the request by themselves.
    pub async fn scope<F: Future>(request: Option<Self>, work: F) -> F::Output {
        CURRENT.scope(request, work).await
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
