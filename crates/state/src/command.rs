//! Every command that can be proposed. Each is fully specified: ids, hosts, times and generations are in it.

mod hold;

pub use hold::{Found, SetHold, TakeOver, WriteOff};

use crate::model::{ApiKey, Assignment, Drain, Policy, Stored, WorkKind};
use plimsoll_types::{
    Bytes, ClusterId, Endpoint, Generation, Health, HostAddress, HostFacts, HostId, HostName, Identity, KeyId, Labels,
    Millis, NodeId, OperationId, Phase, PublishAddress, SandboxId, SandboxSpec, SessionId, SnapshotId, SnapshotName,
    TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is proposed to raft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Gives a new cluster its identity; refused if it has one.
    InitCluster(InitCluster),
    /// Replaces the cluster's policy.
    SetPolicy(SetPolicy),
    /// Adds a host that was checked.
    AddHost(Box<AddHost>),
    /// Records what polls found: health, and facts if they changed.
    ReportHost(Box<ReportHost>),
    /// Cordons or uncordons a host.
    CordonHost(CordonHost),
    /// Changes a host's labels.
    LabelHost(LabelHost),
    /// Changes what a host costs.
    PriceHost(PriceHost),
    /// Says what fills a host's disk, or that it has room again.
    NoteDisk(NoteDisk),
    /// Backs off from a host whose creates keep failing, or ends that.
    QuarantineHost(QuarantineHost),
    /// Drains or undrains a host.
    DrainHost(DrainHost),
    /// Forgets a host that holds no sandboxes.
    RemoveHost(RemoveHost),
    /// Records new sandboxes with the hosts chosen for them, each judged by itself.
    Place(Vec<Place>),
    /// Gives hosts to sandboxes that waited in the queue.
    Assign(Vec<Assign>),
    /// Records progress of sandboxes' incarnations.
    Advance(Vec<Advance>),
    /// Begins an operation on a running sandbox: snapshot, pause, migration.
    Begin(Box<Begin>),
    /// Records that an operation's snapshot is in the registry.
    Taken(Box<Taken>),
    /// Moves a migrating sandbox to its target, where it runs.
    Switch(Box<Switch>),
    /// Gives an operation up; the sandbox is as it was.
    GiveUp(GiveUp),
    /// Holds a running sandbox still in memory, or lets it go on.
    Freeze(Freeze),
    /// Wants snapshots gone.
    DeleteSnapshots(Vec<DeleteSnapshot>),
    /// Drops records of deleted snapshots that the registry has nothing of any more.
    ForgetSnapshots(ForgetSnapshots),
    /// Wants sandboxes gone; what must happen on hosts follows from state.
    Terminate(Vec<Terminate>),
    /// Moves a sandbox's deadline.
    SetDeadline(SetDeadline),
    /// Drops records of terminated sandboxes whose retention has passed.
    Forget(Vec<SandboxId>),
    /// Drops idempotency keys that were remembered long enough.
    ForgetIdempotency(ForgetIdempotency),
    /// Adds an API key (its hash).
    CreateKey(ApiKey),
    /// Ends an API key.
    RevokeKey(RevokeKey),
    /// Uses a join token up for one new node, before that node gets anything.
    SpendJoinToken(SpendJoinToken),
    /// Puts the cluster on hold, or ends that.
    SetHold(SetHold),
    /// On hold: a container that was found becomes its sandbox's present one.
    TakeOver(Box<TakeOver>),
    /// On hold: sandboxes of which no host has anything are given up.
    WriteOff(Vec<WriteOff>),
}

/// See [`Command::InitCluster`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitCluster {
    /// The new cluster's id.
    pub cluster: ClusterId,
    /// Its first policy.
    pub policy: Policy,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::SetPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPolicy {
    /// The whole new policy.
    pub policy: Policy,
    /// The policy it was made from: refused if another one is in force by now.
    #[serde(default)]
    pub expected: Option<Policy>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::AddHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddHost {
    /// What the operator calls it; unique.
    pub name: HostName,
    /// How it is reached; unique.
    pub address: HostAddress,
    /// With which key.
    pub identity: Identity,
    /// The pinned host key in OpenSSH's one-line form (`ssh-ed25519 AAAA…`); none for `unix://`.
    pub host_key: Option<String>,
    /// The operator's labels.
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// Which of its addresses published ports listen on.
    pub publish: PublishAddress,
    /// The name or address in URLs, where it differs from `publish`.
    pub advertise: Option<Box<str>>,
    /// What the check found.
    pub facts: HostFacts,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::ReportHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportHost {
    /// Which host.
    pub host: HostId,
    /// How it is now.
    pub health: Health,
    /// Why, in a sentence; empty for ready.
    pub reason: Box<str>,
    /// New facts, if they changed.
    pub facts: Option<HostFacts>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::CordonHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonHost {
    /// Which host.
    pub host: HostId,
    /// Whether it is to be cordoned.
    pub cordoned: bool,
    /// Why, for whoever finds it cordoned.
    pub reason: Box<str>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::LabelHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelHost {
    /// Which host.
    pub host: HostId,
    /// Labels to set.
    pub set: Labels,
    /// Keys to remove.
    pub remove: Vec<Box<str>>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::PriceHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceHost {
    /// Which host.
    pub host: HostId,
    /// Its price from now on, in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::NoteDisk`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteDisk {
    /// Which host.
    pub host: HostId,
    /// What fills its disk, in a sentence; `None` once it has room again.
    pub reason: Option<Box<str>>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::QuarantineHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineHost {
    /// Which host.
    pub host: HostId,
    /// Until when nothing is placed there; `None` ends the quarantine.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Box<str>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::DrainHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainHost {
    /// Which host.
    pub host: HostId,
    /// How it is drained; `None` undrains it.
    pub drain: Option<Drain>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::RemoveHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveHost {
    /// Which host.
    pub host: HostId,
    /// When it was proposed.
    pub at: Timestamp,
}

/// A new sandbox and, if there was room, the host chosen for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The new sandbox's id.
    pub sandbox: SandboxId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The platform's key for it.
    pub session: SessionId,
    /// What it is to be.
    pub spec: Arc<SandboxSpec>,
    /// Where; `None` puts it in the queue until `queue_until`.
    pub host: Option<HostId>,
    /// Until when it may wait in the queue; only with `host: None`.
    pub queue_until: Option<Timestamp>,
    /// When it expires.
    pub deadline: Option<Timestamp>,
    /// How long it was asked to live.
    #[serde(default)]
    pub lifetime: Option<Millis>,
    /// The caller's `Idempotency-Key` with the request's hash.
    pub idempotency: Option<Idempotency>,
    /// The operation that asked; containers made for it carry it.
    pub operation: OperationId,
    /// When it was proposed.
    pub at: Timestamp,
}

/// An `Idempotency-Key` and what it stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key, unique per tenant.
    pub key: Box<str>,
    /// SHA-256 of the canonical request.
    pub request_hash: [u8; 32],
}

/// A host for a sandbox that waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Where, at which generation.
    pub assignment: Assignment,
    /// The deadline from now on, if it changes: a sandbox that was paused past its own gets a new one.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// What it is restored from, if its host is lost; `at` is the last sign of life, from which the data-loss window counts.
    #[serde(default)]
    pub restore: Option<RestoreFrom>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// What a sandbox on a lost host starts again from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFrom {
    /// The snapshot; it must be this sandbox's own and available.
    pub snapshot: SnapshotId,
    /// When the host was last heard of.
    pub last_seen: Timestamp,
}

/// See [`Command::Begin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which incarnation; it must be the current one.
    pub generation: Generation,
    /// The operation's id; the same one again is the same operation.
    pub operation: OperationId,
    /// What is to be done.
    pub kind: WorkKind,
    /// The id of the snapshot that it takes.
    pub snapshot: SnapshotId,
    /// The name of a snapshot that somebody asked for.
    pub name: Option<SnapshotName>,
    /// Where a migration goes.
    pub to: Option<HostId>,
    /// Only if the sandbox's deadline is still this one; set by expiry so that an extension made meanwhile wins.
    pub if_deadline: Option<Timestamp>,
    /// When it is given up.
    pub deadline: Timestamp,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::Taken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Of which sandbox.
    pub sandbox: SandboxId,
    /// By which operation.
    pub operation: OperationId,
    /// What is in the registry.
    pub stored: Stored,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::Switch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// By which operation.
    pub operation: OperationId,
    /// Its container on the target.
    pub container: Box<str>,
    /// Where its ports are reached there.
    pub endpoints: Vec<Endpoint>,
    /// How long it did not run.
    pub downtime: Millis,
    /// Bytes that were sent and fetched.
    pub bytes: Bytes,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::GiveUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which operation.
    pub operation: OperationId,
    /// Why: a code and a sentence.
    pub reason: Box<str>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::Freeze`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which incarnation; it must be the current one.
    pub generation: Generation,
    /// Whether it is to be held still.
    pub frozen: bool,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::ForgetSnapshots`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetSnapshots {
    /// Which.
    pub snapshots: Vec<SnapshotId>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// A wish that a snapshot be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteSnapshot {
    /// Which.
    pub snapshot: SnapshotId,
    /// When it was proposed.
    pub at: Timestamp,
}

/// Progress of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// The incarnation that moved; another one's news is refused.
    pub generation: Generation,
    /// The phase it reached.
    pub to: Phase,
    /// Its container, once it exists.
    pub container: Option<Box<str>>,
    /// Where its ports are reached; given with `running`.
    pub endpoints: Vec<Endpoint>,
    /// Whether the host has nothing left of it, so that its reservation ends; only with failed, paused and terminated
    /// (the last two always end it).
    #[serde(default)]
    pub release: bool,
    /// Why, for failed, lost and terminated.
    pub reason: Box<str>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// A wish that a sandbox be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminate {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Why: asked, expired, queue timeout, …
    pub reason: Box<str>,
    /// Only if the deadline is still this one; set by expiry so that an extension made meanwhile wins.
    pub if_deadline: Option<Timestamp>,
    /// Only if it is still in this phase; set by the queue's timeout so that an assignment made meanwhile wins.
    #[serde(default)]
    pub if_phase: Option<Phase>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::SetDeadline`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDeadline {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// The new deadline; `None` never expires.
    pub deadline: Option<Timestamp>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::ForgetIdempotency`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetIdempotency {
    /// Keys remembered before this time are dropped.
    pub before: Timestamp,
}

/// See [`Command::RevokeKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeKey {
    /// Which key.
    pub key: KeyId,
    /// When it was proposed.
    pub at: Timestamp,
}

/// See [`Command::SpendJoinToken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendJoinToken {
    /// What tells the token from others.
    pub nonce: [u8; 16],
    /// The number the new node gets: above every number given before.
    pub node: NodeId,
    /// Until when the token would have been good.
    pub expires_at: Timestamp,
    /// When it was proposed.
    pub at: Timestamp,
}
