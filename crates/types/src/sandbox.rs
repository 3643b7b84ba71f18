//! What a sandbox is asked to be: the specification that state keeps and every incarnation is made from.

use crate::{
    ids::SnapshotId,
    names::{ImageRef, Labels},
    resources::Resources,
    units::{Millis, Timestamp},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// The port whose URL is the tunnel URL (the agent's API inside the sandbox).
pub const TUNNEL_PORT: u16 = 4096;
/// The port whose URL is the preview URL (the preview proxy inside the sandbox).
pub const PREVIEW_PORT: u16 = 20000;

/// Everything about a sandbox that does not change from one incarnation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// What it starts from.
    pub image: ImageRef,
    /// argv of its main process; `None` keeps the sandbox alive with an idle process instead of the image's own command.
    pub command: Option<Vec<String>>,
    /// Plain environment: visible to whoever may inspect the sandbox. Secrets go into `sealed_env`.
    pub env: BTreeMap<String, String>,
    /// Secret environment, sealed with the cluster's key (never plain in state, image, label or container configuration).
    #[serde(default)]
    pub sealed_env: Option<Vec<u8>>,
    /// What is reserved for it and what it is limited to.
    pub resources: Resources,
    /// Most processes and threads at once.
    pub pids_limit: u32,
    /// Container ports to publish.
    pub ports: BTreeSet<u16>,
    /// Labels and metadata of the platform's own, to filter lists by.
    pub labels: Labels,
    /// Which OCI runtime isolates it.
    pub runtime: Runtime,
    /// What its host's labels must satisfy.
    pub constraints: Vec<Constraint>,
    /// No two sandboxes of a tenant with the same group share a host.
    #[serde(default)]
    pub anti_affinity: Option<Box<str>>,
    /// What happens at the deadline.
    pub on_expiry: ExpiryAction,
    /// What happens when its host is lost.
    pub on_host_loss: HostLossPolicy,
    /// The snapshot it starts from, instead of from `image`.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
    /// How often a checkpoint is taken while it runs; `None` never.
    #[serde(default)]
    pub checkpoint_every: Option<Millis>,
    /// Paused after so long without work; `None` never.
    #[serde(default)]
    pub idle_timeout: Option<Millis>,
    /// OpenSSH public keys that may log in.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
}

impl SandboxSpec {
    /// Enough for builds and dev servers, too few for a fork bomb to hurt the host.
    pub const DEFAULT_PIDS: u32 = 1024;
    /// Lifetime unless asked otherwise: the platform's own default of 3,600 s.
    pub const DEFAULT_LIFETIME: Millis = Millis::secs(3600);

    /// The default sandbox on this image.
    #[must_use]
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            command: None,
            env: BTreeMap::new(),
            sealed_env: None,
            resources: Resources::DEFAULT_SANDBOX,
            pids_limit: Self::DEFAULT_PIDS,
            ports: BTreeSet::new(),
            labels: Labels::new(),
            runtime: Runtime::Runc,
            constraints: Vec::new(),
            anti_affinity: None,
            on_expiry: ExpiryAction::Terminate,
            on_host_loss: HostLossPolicy::Hold,
            snapshot: None,
            checkpoint_every: None,
            idle_timeout: None,
            ssh_keys: Vec::new(),
        }
    }
}

/// The OCI runtime that isolates a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Docker's own.
    #[default]
    Runc,
    /// gVisor.
    Runsc,
}

impl Runtime {
    /// The name Docker knows it by.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happens at a sandbox's deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAction {
    /// It is terminated.
    #[default]
    Terminate,
    /// It is paused.
    Pause,
}

/// What happens to a sandbox whose host is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostLossPolicy {
    /// It waits for the host.
    #[default]
    Hold,
    /// It starts elsewhere from its last checkpoint.
    Restore,
}

/// A condition on a host's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Constraint {
    /// The label is there with this value.
    Equals {
        /// The label's key.
        key: Box<str>,
        /// The value it must have.
        value: Box<str>,
    },
    /// The label is absent or has another value.
    NotEquals {
        /// The label's key.
        key: Box<str>,
        /// The value it must not have.
        value: Box<str>,
    },
    /// The label is there with any value.
    Exists {
        /// The label's key.
        key: Box<str>,
    },
}

impl Constraint {
    /// Whether these labels satisfy the condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Equals { key, value } => labels.get(key) == Some(value),
            Self::NotEquals { key, value } => labels.get(key) != Some(value),
            Self::Exists { key } => labels.contains_key(key),
        }
    }
}

/// `zone=eu`, `zone!=eu`, `gpu`.
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals { key, value } => write!(f, "{key}={value}"),
            Self::NotEquals { key, value } => write!(f, "{key}!={value}"),
            Self::Exists { key } => f.write_str(key),
        }
    }
}

impl FromStr for Constraint {
    type Err = crate::names::InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use crate::names::Label;
        let boxed = |text: &str| -> Box<str> { text.into() };
        if let Some((key, value)) = text.split_once("!=") {
            Label::check(key, value)?;
            return Ok(Self::NotEquals { key: boxed(key), value: boxed(value) });
        }
        if let Some((key, value)) = text.split_once('=') {
            Label::check(key, value)?;
            return Ok(Self::Equals { key: boxed(key), value: boxed(value) });
        }
        Label::check(text, "")?;
        Ok(Self::Exists { key: boxed(text) })
    }
}

/// Where one published port of a running sandbox is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port inside the sandbox.
    pub port: u16,
    /// The address or name that callers use.
    pub address: Box<str>,
    /// The port on that address.
    pub host_port: u16,
}

/// `http://<address>:<port>`; an IPv6 address is put in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.contains(':') {
            write!(f, "http://[{}]:{}", self.address, self.host_port)
        } else {
            write!(f, "http://{}:{}", self.address, self.host_port)
        }
    }
}

/// The deadline of something that starts now and may last so long; `None` lasts for ever.
#[must_use]
pub fn deadline(now: Timestamp, lifetime: Option<Millis>) -> Option<Timestamp> {
    lifetime.map(|lifetime| now.plus(lifetime))
}
