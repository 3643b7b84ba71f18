//! Sandboxes on the wire: what is asked for, and what is answered.

use super::{
    operation::{Checkpoint, Moved, Restored, Trouble, Work},
    secret::SecretMap,
    units::{Cpu, Size, Time},
};
use plimsoll_types::{
    Desired, ExpiryAction, HostLossPolicy, HostName, ImageRef, Labels, Phase, Runtime, SandboxId, SessionId,
    SnapshotId, TenantId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A sandbox that is asked for: the body of create, ensure and explain. Everything is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateSandbox {
    /// The platform's own key for it: at most one live sandbox has it. Without one, the sandbox's id is its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "abc123")]
    pub session: Option<SessionId>,
    /// Whose it is; only operators may name another tenant than their key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// What it starts from; the cluster's base image if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "debian:12")]
    pub image: Option<ImageRef>,
    /// A snapshot of the tenant's to start from, by id or name, instead of from `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// argv of its main process; an idle process if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Plain environment: shown to whoever may inspect the sandbox.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secret environment: never shown, logged or written into an image.
    #[serde(skip_serializing_if = "SecretMap::is_empty")]
    pub secret_env: SecretMap,
    /// Repositories for the program inside, passed on as JSON in the secret variable `PLIMSOLL_REPOS` (their URLs may hold
    /// tokens). Plimsoll clones nothing itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub repos: Vec<serde_json::Value>,
    /// The sandbox the platform believes the session has. A hint: the session's live sandbox is answered whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub current_sandbox_id: Option<SandboxId>,
    /// CPUs, reserved and enforced; 2 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory, reserved and enforced; 3 GiB if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Disk, reserved; 5 GiB if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Most processes and threads at once; 1,024 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Ports inside to publish: numbers, or `tunnel` (4096) and `preview` (20000).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRef>,
    /// Labels, also accepted as `metadata`: lists can be filtered by them.
    #[serde(alias = "metadata", skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// `runc` (default) or `runsc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::schema::runtime)]
    pub runtime: Option<Runtime>,
    /// What the host's labels must satisfy: `zone=eu`, `zone!=eu`, `gpu`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// No two sandboxes of a tenant with the same group share a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<String>,
    /// Seconds it lives; 3,600 if absent, 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
    /// What happens then: `terminate` (default) or `pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::schema::on_expiry)]
    pub on_expiry: Option<ExpiryAction>,
    /// What happens when its host is lost: `hold` (default) or `restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::schema::on_host_loss)]
    pub on_host_loss: Option<HostLossPolicy>,
    /// Seconds between checkpoints, which are what `on_host_loss: restore` starts from; none are taken if absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_s: Option<u64>,
    /// Seconds without work (CPU, running commands, open streams) after which it is paused; never if absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<u64>,
    /// Seconds it may wait for room; refused at once if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_timeout_s: Option<u64>,
    /// OpenSSH public keys that may log in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
}

/// A port inside a sandbox, by number or by its name in the platform's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a port is a number from 1 to 65535, \"tunnel\" or \"preview\"")]
pub enum PortRef {
    /// The port itself.
    Number(u16),
    /// A port with a name.
    Named(NamedPort),
}

/// Ports with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedPort {
    /// 4096: the agent's API; its URL is the tunnel URL.
    Tunnel,
    /// 20000: the preview proxy; its URL is the preview URL.
    Preview,
}

impl PortRef {
    /// The port's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Number(port) => port,
            Self::Named(NamedPort::Tunnel) => plimsoll_types::sandbox::TUNNEL_PORT,
            Self::Named(NamedPort::Preview) => plimsoll_types::sandbox::PREVIEW_PORT,
        }
    }
}

/// Text that names no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a port: use a number from 1 to 65535, tunnel or preview")]
pub struct InvalidPort(String);

impl std::str::FromStr for PortRef {
    type Err = InvalidPort;
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        match text {
            "tunnel" => Ok(Self::Named(NamedPort::Tunnel)),
            "preview" => Ok(Self::Named(NamedPort::Preview)),
            digits => match digits.parse() {
                Ok(port) if port != 0 => Ok(Self::Number(port)),
                Ok(_) | Err(_) => Err(InvalidPort(text.chars().take(32).collect())),
            },
        }
    }
}

/// CPU, memory and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// CPUs.
    pub cpu: Cpu,
    /// Bytes of memory.
    pub memory: Size,
    /// Bytes of disk.
    pub disk: Size,
}

impl From<plimsoll_types::Resources> for Resources {
    fn from(from: plimsoll_types::Resources) -> Self {
        Self { cpu: Cpu(from.cpu), memory: Size(from.memory), disk: Size(from.disk) }
    }
}

/// A sandbox as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// Its id; outlives every container it runs in.
    #[schema(value_type = String, example = "sb-01jd8x2m9rkq4w7c5v3t6y0zab")]
    pub id: SandboxId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The platform's key for it.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Where it is.
    #[schema(schema_with = super::schema::phase)]
    pub phase: Phase,
    /// Where it should be.
    #[schema(schema_with = super::schema::desired)]
    pub desired: Desired,
    /// Why it is there; empty where there is nothing to say.
    #[serde(default)]
    pub reason: String,
    /// Its incarnation; 0 before it was first placed.
    pub generation: u64,
    /// The host it is on.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub host: Option<HostName>,
    /// Its container: Docker's full id.
    #[serde(default)]
    pub container: Option<String>,
    /// What it started from.
    #[schema(value_type = String)]
    pub image: ImageRef,
    /// argv of its main process, if it was given one.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Its plain environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What is reserved for it.
    pub resources: Resources,
    /// Most processes and threads at once.
    pub pids: u32,
    /// What isolates it.
    #[schema(schema_with = super::schema::runtime)]
    pub runtime: Runtime,
    /// Its labels.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// What its host's labels must satisfy.
    #[serde(default)]
    pub constraints: Vec<String>,
    /// Its anti-affinity group.
    #[serde(default)]
    pub anti_affinity: Option<String>,
    /// What happens at the deadline.
    #[schema(schema_with = super::schema::on_expiry)]
    pub on_expiry: ExpiryAction,
    /// What happens when its host is lost.
    #[schema(schema_with = super::schema::on_host_loss)]
    pub on_host_loss: HostLossPolicy,
    /// Seconds between its checkpoints.
    #[serde(default)]
    pub checkpoint_every_s: Option<u64>,
    /// Seconds without work after which it is paused.
    #[serde(default)]
    pub idle_timeout_s: Option<u64>,
    /// What its files start from when it starts anew: the snapshot it was made, paused or restored from; absent for its image.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub base: Option<SnapshotId>,
    /// The operation on it that is under way.
    #[serde(default)]
    pub work: Option<Work>,
    /// Since when it is frozen: held still in memory.
    #[serde(default)]
    pub frozen_since: Option<Time>,
    /// Why the last operation on it was given up; absent once one succeeds.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Its last move from one host to another.
    #[serde(default)]
    pub moved: Option<Moved>,
    /// The last time it was brought back from a lost host.
    #[serde(default)]
    pub restored: Option<Restored>,
    /// What it would be restored from now.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
    /// Where its published ports are reached, while it runs.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The URL of port 4096, if it is published.
    #[serde(default)]
    pub tunnel_url: Option<String>,
    /// The URL of port 20000, if it is published.
    #[serde(default)]
    pub preview_url: Option<String>,
    /// When it was accepted.
    pub created_at: Time,
    /// When it first ran.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Time>,
    /// When it entered its phase.
    pub phase_since: Time,
    /// When it expires; absent for never.
    #[serde(default)]
    pub deadline: Option<Time>,
    /// Until when it may wait for room.
    #[serde(default)]
    pub queue_until: Option<Time>,
}

/// Where one published port is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// The port inside the sandbox.
    pub port: u16,
    /// The address or name callers use.
    pub address: String,
    /// The port on that address.
    pub host_port: u16,
    /// The two as a URL.
    pub url: String,
}

/// What create and ensure answer: the sandbox, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provided {
    /// The sandbox.
    #[serde(flatten)]
    pub sandbox: Sandbox,
    /// Whether this call made it; false if it was there already.
    pub created: bool,
    /// Whether it was brought back: resumed or restored.
    pub recovered: bool,
}

/// A new end for a sandbox: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtendSandbox {
    /// Seconds from now; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
    /// The time itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
}

/// Which of these sandboxes run?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSandboxes {
    /// At most 10,000 ids. Ids that are malformed, unknown or another tenant's simply do not run.
    pub ids: Vec<String>,
}

/// Those that run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningSandboxes {
    /// Their ids, in the order they were asked for.
    #[schema(value_type = Vec<String>)]
    pub running: Vec<SandboxId>,
}

/// Where a sandbox's ports are reached now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tunnels {
    /// The URL of port 4096, if it is published.
    #[serde(default)]
    pub tunnel_url: Option<String>,
    /// The URL of port 20000, if it is published.
    #[serde(default)]
    pub preview_url: Option<String>,
    /// Every published port.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// The platform's environment, to be written to `/tmp/.proliferate_env.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteEnv {
    /// The variables. Never logged.
    pub env: SecretMap,
}

/// What a sandbox uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// When it was read.
    pub at: Time,
    /// CPUs in use.
    pub cpu: Cpu,
    /// CPU used since it started, in milliseconds of one CPU.
    pub cpu_total_ms: u64,
    /// Memory in use.
    pub memory: Size,
    /// Its limit.
    pub memory_limit: Size,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes received since it started.
    pub received: Size,
    /// Bytes sent since it started.
    pub sent: Size,
}
