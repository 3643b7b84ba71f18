//! The replicated state itself.

mod image;
mod work;

pub use image::{Snapshot, SnapshotKind, SnapshotPhase, Stored};
pub use work::{Moved, Restored, SUPERSEDED_LIMIT, Stage, Superseded, Trouble, Work, WorkKind};

use crate::{command::Idempotency, event::Event, index::Index};
use plimsoll_types::{
    ClusterId, Desired, Endpoint, Generation, Health, HostAddress, HostFacts, HostId, HostName, Identity, KeyId,
    Labels, LoadLine, Millis, NodeId, OperationId, Phase, PublishAddress, Resources, SandboxId, SandboxSpec, SessionId,
    SnapshotId, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Everything the control plane must never forget. Cloning is for tests; snapshots are taken with [`crate::snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The cluster's identity, once it was initialised.
    pub cluster: Option<ClusterId>,
    /// The rules in force.
    pub policy: Policy,
    /// Hosts by id.
    pub hosts: BTreeMap<HostId, Arc<Host>>,
    /// The id the next host gets.
    pub next_host: u32,
    /// Sandboxes by id, terminated ones included until they are forgotten. `Arc`, so that a reader takes one out cheaply.
    pub sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// Snapshots by id, those being deleted included until the registry has nothing of them.
    pub snapshots: BTreeMap<SnapshotId, Arc<Snapshot>>,
    /// Idempotency keys still remembered.
    pub idempotency: BTreeMap<(TenantId, Box<str>), Remembered>,
    /// API keys by id.
    pub keys: BTreeMap<KeyId, Arc<ApiKey>>,
    /// Join tokens that were used, by nonce, until nobody can take them for good any more.
    pub join_tokens: BTreeMap<[u8; 16], SpentToken>,
    /// The highest number a join token gave a node; no number is given twice.
    pub highest_node: Option<NodeId>,
    /// The last events, oldest first, at most [`Policy::events_kept`].
    pub events: VecDeque<Arc<Event>>,
    /// Index and sequence number of the last event that was dropped to keep that limit.
    pub events_dropped: Option<(u64, u32)>,
    /// That nothing is done on hosts, and why: a cluster that was restored may know less than its hosts hold.
    pub hold: Option<Hold>,
    /// The raft index of the last command applied.
    pub applied: u64,
    /// Derived from the rest and never written to a snapshot.
    #[serde(skip)]
    pub(crate) index: Index,
}

/// Nothing is started, moved or removed until somebody who has looked says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why, in a sentence.
    pub reason: Box<str>,
}

/// A host that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// What the operator calls it.
    pub name: HostName,
    /// How it is reached.
    pub address: HostAddress,
    /// With which key.
    pub identity: Identity,
    /// The pinned host key in OpenSSH's one-line form; none for `unix://`.
    pub host_key: Option<String>,
    /// The operator's labels.
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// Which of its addresses published ports listen on.
    pub publish: PublishAddress,
    /// The name or address in URLs, where it differs from `publish`.
    #[serde(default)]
    pub advertise: Option<Box<str>>,
    /// What it is.
    pub facts: HostFacts,
    /// How it is.
    pub health: Health,
    /// Since when it is so.
    pub health_since: Timestamp,
    /// Why, in a sentence; empty for ready.
    pub health_reason: Box<str>,
    /// Why nothing new is placed there, if an operator said so.
    pub cordon: Option<Cordon>,
    /// Until when it is backed off from, and why.
    #[serde(default)]
    pub quarantine: Option<Cordon>,
    /// Since when its disk is nearly full, and what fills it.
    #[serde(default)]
    pub disk_full: Option<Cordon>,
    /// That everything on it is to move away; it takes nothing new, as if cordoned, until undrained.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// The sum of the reservations on it.
    pub reserved: Resources,
    /// The load line in force when something was last reserved on it: `reserved` never exceeds this one. Totals that
    /// shrink later, or a stricter policy, leave it as it was; the host then takes nothing new until it has room again.
    #[serde(default)]
    pub line: Resources,
    /// How many sandboxes hold a reservation on it.
    pub sandboxes: u32,
    /// When it was added.
    pub added_at: Timestamp,
}

/// A reason with a time: since when for a cordon and a full disk, until when for a quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Since or until when.
    pub at: Timestamp,
    /// Why.
    pub reason: Box<str>,
}

/// An operator's wish to empty a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when.
    pub at: Timestamp,
    /// Until when moves are begun; what is left then stays, and is named.
    pub deadline: Option<Timestamp>,
    /// Most moves at once.
    pub parallel: u32,
    /// Why, for whoever finds it drained.
    pub reason: Box<str>,
}

/// A sandbox, from acceptance until its record is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The platform's key for it.
    pub session: SessionId,
    /// What it is to be.
    pub spec: Arc<SandboxSpec>,
    /// Where it should be.
    pub desired: Desired,
    /// Where it is.
    pub phase: Phase,
    /// Why it is there, where there is something to say.
    pub reason: Box<str>,
    /// Its incarnation; zero before the first assignment.
    pub generation: Generation,
    /// Its host and reservation, while it has one.
    pub assignment: Option<Assignment>,
    /// The container of this generation, once created: Docker's full 64-digit id.
    pub container: Option<Box<str>>,
    /// Where its ports are reached, while running.
    pub endpoints: Vec<Endpoint>,
    /// Until when it may wait in the queue.
    pub queue_until: Option<Timestamp>,
    /// When it expires.
    pub deadline: Option<Timestamp>,
    /// The operation that asked for it.
    pub operation: OperationId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it first ran.
    pub started_at: Option<Timestamp>,
    /// When it ended: terminated or failed.
    pub ended_at: Option<Timestamp>,
    /// When it entered its phase.
    pub phase_since: Timestamp,
    /// How long it was asked to live; a resume after its deadline gives it that long again.
    #[serde(default)]
    pub lifetime: Option<Millis>,
    /// What its filesystem starts from when it starts anew: the snapshot it was made, paused or restored from. `None`: its image.
    #[serde(default)]
    pub base: Option<SnapshotId>,
    /// The operation on it that is under way; never two.
    #[serde(default)]
    pub work: Option<Work>,
    /// Since when its processes are held still in memory by `freeze`.
    #[serde(default)]
    pub frozen_since: Option<Timestamp>,
    /// Why the last operation on it was given up; cleared when one succeeds.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Its last move from one host to another.
    #[serde(default)]
    pub moved: Option<Moved>,
    /// The last time that it was brought back from a lost host.
    #[serde(default)]
    pub restored: Option<Restored>,
    /// Incarnations on lost hosts that were replaced; their copies are stopped and kept for a while when the host is back. The
    /// oldest first, at most [`SUPERSEDED_LIMIT`].
    #[serde(default)]
    pub superseded: Vec<Superseded>,
}

/// A sandbox on a host at a generation. It holds the spec's resources reserved until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Where.
    pub host: HostId,
    /// Which incarnation.
    pub generation: Generation,
}

/// What an idempotency key made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The sandbox it made.
    pub sandbox: SandboxId,
    /// The request it stood for.
    pub request: Idempotency,
    /// When.
    pub at: Timestamp,
}

/// A join token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentToken {
    /// The node it let in.
    pub node: NodeId,
    /// Until when it would have been good.
    pub expires_at: Timestamp,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything: hosts, keys, members, every tenant's sandboxes.
    Operator,
    /// Its tenant's sandboxes.
    Platform,
    /// Metrics and health only.
    Metrics,
}

/// An API key as it is stored: never the secret, only its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its public id.
    pub id: KeyId,
    /// What its maker calls it.
    pub name: Box<str>,
    /// What it may do.
    pub role: Role,
    /// Whose sandboxes it sees.
    pub tenant: TenantId,
    /// SHA-256 of the secret: 256 random bits need no slow hash.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}

/// The rules in force for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// What is kept back on each host.
    pub load_line: LoadLine,
    /// Most sandboxes waiting for room at once.
    pub queue_limit: u32,
    /// How long the record of a terminated sandbox is kept.
    pub retention: Millis,
    /// How long idempotency keys are remembered.
    pub idempotency_ttl: Millis,
    /// How many events are kept.
    pub events_kept: u32,
    /// First part of container names: `<prefix>-session-<session>`.
    pub name_prefix: Box<str>,
    /// Folder on hosts that holds workspaces: `<data_dir>/<session>`.
    pub data_dir: Box<str>,
    /// How many checkpoints of a sandbox are kept.
    pub checkpoints_kept: u32,
    /// How long a replaced copy is kept, stopped, on a host that was lost and came back.
    pub superseded_kept: Millis,
    /// How long an operation (snapshot, pause, migration) may take before it is given up.
    pub work_budget: Millis,
    /// Most moves at once out of one draining host, unless the drain says otherwise.
    pub drain_parallel: u32,
    /// Image for sandboxes that name none.
    pub base_image: Option<plimsoll_types::ImageRef>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            load_line: LoadLine::default(),
            queue_limit: 10_000,
            retention: Millis::secs(24 * 3600),
            idempotency_ttl: Millis::secs(24 * 3600),
            events_kept: 10_000,
            name_prefix: "shadow".into(),
            data_dir: "/var/shadow/sandboxes".into(),
            checkpoints_kept: 3,
            superseded_kept: Millis::secs(24 * 3600),
            work_budget: Millis::secs(1800),
            drain_parallel: 2,
            base_image: None,
        }
    }
}
