//! Every command that can be proposed. Each is fully specified: ids, hosts, times and generations are in it.

use crate::model::{ApiKey, Assignment, Policy};
use plimsoll_types::{
    ClusterId, Endpoint, Generation, Health, HostAddress, HostFacts, HostId, HostName, Identity, KeyId, Labels, NodeId,
    OperationId, Phase, PublishAddress, SandboxId, SandboxSpec, SessionId, TenantId, Timestamp,
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
    /// Backs off from a host whose creates keep failing, or ends that.
    QuarantineHost(QuarantineHost),
    /// Forgets a host that holds no sandboxes.
    RemoveHost(RemoveHost),
    /// Records new sandboxes with the hosts chosen for them, each judged by itself.
    Place(Vec<Place>),
    /// Gives hosts to sandboxes that waited in the queue.
    Assign(Vec<Assign>),
    /// Records progress of sandboxes' incarnations.
    Advance(Vec<Advance>),
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
