//! What callers ask the façade for, and what they get.

use plimsoll_state::{Sandbox, command::Idempotency};
use plimsoll_types::{
    Endpoint, HostId, HostName, MilliCpu, Millis, SandboxId, SandboxSpec, SessionId, TenantId, Timestamp,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Whose sandboxes a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant's: operators.
    All,
    /// One tenant's.
    Tenant(TenantId),
}

impl Scope {
    /// Whether something of this tenant may be seen.
    #[must_use]
    pub fn allows(&self, tenant: &TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(own) => own == tenant,
        }
    }
}

/// A sandbox that is asked for.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// Whose it will be.
    pub tenant: TenantId,
    /// The platform's key; `None` makes the sandbox's own id the session.
    pub session: Option<SessionId>,
    /// What it is to be; its `sealed_env` is filled in by the engine from `secret_env`.
    pub spec: SandboxSpec,
    /// Secret environment in plain, on its way to be sealed.
    pub secret_env: Secrets,
    /// How long it lives; `None` for ever.
    pub lifetime: Option<Millis>,
    /// How long it may wait for room; `None` is refused at once.
    pub queue_timeout: Option<Millis>,
    /// The caller's `Idempotency-Key` and its request's hash.
    pub idempotency: Option<Idempotency>,
}

/// Secret variables; printing them shows only their count.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// How long a call waits for what it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: the answer is what was committed.
    No,
    /// At most so long; then the answer is an error with code `timeout`, and the work goes on.
    Upto(Duration),
}

impl Wait {
    /// What is left of it for a call that began then: callers count from when they asked.
    pub(crate) fn left(self, began: tokio::time::Instant) -> Self {
        match self {
            Self::No => Self::No,
            Self::Upto(limit) => Self::Upto(limit.saturating_sub(began.elapsed())),
        }
    }
}

/// A sandbox that was provided.
#[derive(Clone, Debug)]
pub struct Provided {
    /// Its record.
    pub sandbox: Arc<Sandbox>,
    /// Whether this call made it (false: it was there, or the idempotency key had made it).
    pub created: bool,
    /// Whether it was brought back: resumed or restored, not found running.
    pub recovered: bool,
}

impl Provided {
    /// The URL of the tunnel port, if it is published.
    #[must_use]
    pub fn tunnel_url(&self) -> Option<String> {
        url_of(&self.sandbox.endpoints, plimsoll_types::sandbox::TUNNEL_PORT)
    }

    /// The URL of the preview port, if it is published.
    #[must_use]
    pub fn preview_url(&self) -> Option<String> {
        url_of(&self.sandbox.endpoints, plimsoll_types::sandbox::PREVIEW_PORT)
    }
}

/// The URL of one port among these endpoints.
#[must_use]
pub fn url_of(endpoints: &[Endpoint], port: u16) -> Option<String> {
    endpoints.iter().find(|endpoint| endpoint.port == port).map(ToString::to_string)
}

/// A dry run's answer.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The host that would be chosen now.
    pub chosen: Option<HostName>,
    /// One sentence: where and why there, or why nowhere.
    pub sentence: String,
    /// Every host, best first, then the rejected ones.
    pub hosts: Vec<HostVerdict>,
}

/// What a dry run says of one host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostVerdict {
    /// Which.
    pub host: HostId,
    /// What the operator calls it.
    pub name: HostName,
    /// Its dominant share after placing, in millionths; `None` if it was rejected. Lower is better.
    pub score_ppm: Option<u64>,
    /// Why it was rejected, in a few words.
    pub rejection: Option<String>,
}

/// What keeps a sandbox awake, as the leader knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Awake {
    /// How long it must be idle before it is paused; `None` never pauses it.
    pub idle_timeout: Option<Millis>,
    /// Since when it has done nothing; `None` while it works, does not run, or has no idle timeout.
    pub idle_since: Option<Timestamp>,
    /// When it is paused if it stays idle.
    pub pauses_at: Option<Timestamp>,
    /// CPU it used when it was last looked at.
    pub cpu: Option<MilliCpu>,
    /// Processes, streams and transfers that are open through the control plane's nodes.
    pub sessions: u32,
    /// What keeps it awake, or else from being paused, in a few words each; empty while it is idle.
    pub because: Vec<String>,
}

/// What a placement that found no room is told: the explanation's sentence.
#[must_use]
pub fn no_capacity(sentence: &str) -> crate::Error {
    crate::Error::new(plimsoll_types::Code::NoCapacity, sentence)
}

/// An id that was named but is not there, or is another tenant's: the two look alike on purpose.
#[must_use]
pub fn no_such_sandbox(sandbox: SandboxId) -> crate::Error {
    let message = format!("no sandbox {sandbox}; `plimsoll ls` shows those there are");
    crate::Error::new(plimsoll_types::Code::SandboxNotFound, message)
}

/// As [`no_such_sandbox`], for snapshots.
#[must_use]
pub fn no_such_snapshot(snapshot: &str) -> crate::Error {
    let shown: String = snapshot.chars().take(128).collect();
    let message = format!("no snapshot {shown}; `plimsoll snapshot ls` shows those there are");
    crate::Error::new(plimsoll_types::Code::SnapshotNotFound, message)
}
