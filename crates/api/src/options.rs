//! What the surface needs, and what every handler shares.

use crate::limits;
use plimsoll_engine::{ClusterOperations, SandboxProvider};
use plimsoll_lifecycle::ports::{Clock, Ledger, Membership};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Renders this node's metrics as Prometheus reads them.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Makes a span part of the trace that a `traceparent` header names.
pub type ContinueTrace = Arc<dyn Fn(&tracing::Span, &str) + Send + Sync>;

/// What this process logs, and how that is changed while it runs.
pub trait LogFilter: Send + Sync {
    /// The filter in force.
    fn filter(&self) -> String;

    /// Puts another one in force.
    ///
    /// # Errors
    /// Why that is no filter; nothing has changed then.
    fn set_filter(&self, filter: &str) -> Result<(), String>;
}

/// Where people log into sandboxes over SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshGateway {
    /// The name or address that people use.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Everything the surface serves.
#[derive(Clone)]
pub struct Options {
    /// Sandboxes.
    pub provider: Arc<dyn SandboxProvider>,
    /// Hosts and keys.
    pub operations: Arc<dyn ClusterOperations>,
    /// Replicated state, for lists, events and readiness.
    pub ledger: Arc<dyn Ledger>,
    /// The control plane's members.
    pub membership: Arc<dyn Membership>,
    /// The time, for deadlines that count from now.
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` answers.
    pub metrics: MetricsText,
    /// Whether `/metrics` answers without a key.
    pub metrics_public: bool,
    /// The SSH gateway, if there is one.
    pub gateway: Option<SshGateway>,
    /// What this process logs, where that can be changed.
    pub log_filter: Option<Arc<dyn LogFilter>>,
    /// What makes a request part of its caller's trace, where traces are exported.
    pub continue_trace: Option<ContinueTrace>,
    /// How long creates wait unless asked otherwise; below the 180 s that platforms allow, so that ours is the answer they see.
    pub default_wait: Duration,
    /// Most requests under way at once; more are refused with `overloaded`.
    pub max_requests: usize,
    /// Most open streams (exec, events, logs, files) at once.
    pub max_streams: usize,
    /// Most connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
}

impl Options {
    /// The usual limits around these parts, no SSH gateway, a log that cannot be changed.
    #[must_use]
    pub fn new(
        provider: Arc<dyn SandboxProvider>,
        operations: Arc<dyn ClusterOperations>,
        ledger: Arc<dyn Ledger>,
        membership: Arc<dyn Membership>,
        clock: Arc<dyn Clock>,
        metrics: MetricsText,
    ) -> Self {
        Self {
            provider,
            operations,
            ledger,
            membership,
            clock,
            metrics,
            metrics_public: false,
            gateway: None,
            log_filter: None,
            continue_trace: None,
            default_wait: limits::DEFAULT_WAIT,
            max_requests: limits::MAX_REQUESTS,
            max_streams: limits::MAX_STREAMS,
            max_connections: limits::MAX_CONNECTIONS,
        }
    }
}

/// What every handler has at hand; a clone is a pointer.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    /// One permit for each request under way.
    pub(crate) requests: Arc<Semaphore>,
    /// One permit for each refused upload that is still read: there is no permit of a request's for it.
    pub(crate) refused: Arc<Semaphore>,
    /// One permit for each open stream.
    pub(crate) streams: Arc<Semaphore>,
    /// Ends streams when the node shuts down: they would hold it up for ever.
    pub(crate) closing: CancellationToken,
    /// Makes request ids that do not repeat within or across processes.
    pub(crate) ids: crate::observe::RequestIds,
}

impl Api {
    pub(crate) fn new(options: Options, closing: CancellationToken) -> Self {
        let (requests, streams) = (Semaphore::new(options.max_requests), Semaphore::new(options.max_streams));
        Self(Arc::new(Inner {
            options,
            requests: Arc::new(requests),
            refused: Arc::new(Semaphore::new(limits::MAX_REFUSED)),
            streams: Arc::new(streams),
            closing,
            ids: crate::observe::RequestIds::default(),
        }))
    }
}

impl std::ops::Deref for Api {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
