//! The control plane and its keys on the wire.

use super::{
    drift::Hold,
    secret::Secret,
    units::{Size, Time},
};
use plimsoll_types::{ClusterId, ImageRef, KeyId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The control plane as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// The cluster's id, once it was initialised.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterId>,
    /// The node that answers.
    pub node: u64,
    /// Its release.
    pub version: String,
    /// The leader, if one is known.
    #[serde(default)]
    pub leader: Option<u64>,
    /// The raft term.
    pub term: u64,
    /// The last index in this node's log.
    pub last_log: u64,
    /// The last index this node applied.
    pub applied: u64,
    /// Every member.
    pub nodes: Vec<Node>,
    /// Hosts by health.
    pub hosts: BTreeMap<String, u64>,
    /// Sandboxes by phase.
    pub sandboxes: BTreeMap<String, u64>,
    /// The same for each host (by its id) that has any.
    #[serde(default)]
    pub sandboxes_by_host: BTreeMap<String, BTreeMap<String, u64>>,
    /// The image of sandboxes that name none.
    #[serde(default)]
    pub base_image: Option<String>,
    /// That nothing is done on hosts, until an operator resumes; absent where all goes its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// One member of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Where peers reach it.
    pub raft_address: String,
    /// Where its API is.
    pub api_url: String,
    /// Whether it votes.
    pub role: NodeRole,
    /// Whether it leads.
    pub leader: bool,
    /// The last log index known to be on it; only the leader knows.
    #[serde(default)]
    pub matched: Option<u64>,
    /// Milliseconds since it last answered the leader.
    #[serde(default)]
    pub silent_ms: Option<u64>,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Votes.
    Voter,
    /// Receives the log, does not vote yet.
    Learner,
}

/// To whom leadership goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferLeadership {
    /// A voter's id.
    pub to: u64,
}

/// The rules in force for the whole cluster. They are read, changed and sent back whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Another one after every change. Sent back, it must still be the one in force, else `conflict`; without it the change is
    /// made whatever is in force.
    #[serde(default)]
    pub revision: Option<String>,
    /// CPU that may be reserved, in thousandths of what a host has: 1,000 reserves each CPU once.
    #[schema(minimum = 100, maximum = 16_000)]
    pub cpu_overcommit_permille: u32,
    /// Memory of each host that is never reserved.
    pub memory_reserve: Size,
    /// Disk of each host that is never reserved.
    pub disk_reserve: Size,
    /// Past this CPU pressure (PSI "some", 10 s, in hundredths of a percent) nothing is placed on a host; 10,000 never triggers.
    #[schema(maximum = 10_000)]
    pub cpu_pressure_max_centipercent: u16,
    /// Memory pressure likewise.
    #[schema(maximum = 10_000)]
    pub memory_pressure_max_centipercent: u16,
    /// I/O pressure likewise.
    #[schema(maximum = 10_000)]
    pub io_pressure_max_centipercent: u16,
    /// Most sandboxes waiting for room at once.
    pub queue_limit: u32,
    /// How long the record of a terminated sandbox is kept, in seconds.
    pub retention_s: u64,
    /// How long idempotency keys are remembered, in seconds.
    pub idempotency_ttl_s: u64,
    /// How many events are kept.
    pub events_kept: u32,
    /// First part of container names: `<prefix>-session-<session>`. It cannot change while there are sandboxes.
    pub name_prefix: String,
    /// Folder on hosts that holds workspaces. It cannot change while there are sandboxes.
    pub data_dir: String,
    /// How many checkpoints of a sandbox are kept.
    #[serde(default = "kept_checkpoints")]
    #[schema(minimum = 1)]
    pub checkpoints_kept: u32,
    /// How long a replaced copy is kept, stopped, on a host that was lost and came back, in seconds.
    #[serde(default = "superseded_kept_s")]
    pub superseded_kept_s: u64,
    /// How long an operation (snapshot, pause, migration) may take before it is given up, in seconds.
    #[serde(default = "work_budget_s")]
    pub work_budget_s: u64,
    /// Most moves at once out of one draining host, unless the drain says otherwise.
    #[serde(default = "drain_parallel")]
    #[schema(minimum = 1, maximum = 64)]
    pub drain_parallel: u32,
    /// The image of sandboxes that name none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub base_image: Option<ImageRef>,
    /// Rules that only a newer release knows: a client sends back what it cannot read, a node refuses what it does not know.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

// What a document says that was read from a node of the release before these rules: what was in force there.

const fn kept_checkpoints() -> u32 {
    3
}

const fn superseded_kept_s() -> u64 {
    24 * 3600
}

const fn work_budget_s() -> u64 {
    1800
}

const fn drain_parallel() -> u32 {
    2
}

/// What a node logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLevel {
    /// The node that was asked; each has its own.
    pub node: u64,
    /// What is logged, such as `info` or `plimsoll_engine=debug,info`.
    pub filter: String,
}

/// What a node is to log until it is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLogLevel {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or pairs of target and level: `plimsoll_engine=debug,info`.
    #[schema(max_length = 1024, example = "plimsoll_engine=debug,info")]
    pub filter: String,
}

/// A token that lets one more node join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// The token; whoever has it can join until it expires.
    pub token: Secret,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything: hosts, keys, nodes, every tenant's sandboxes.
    Operator,
    /// Its tenant's sandboxes.
    Platform,
    /// Metrics and health only.
    Metrics,
}

/// An API key to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What to call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whose sandboxes it sees; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
}

/// An API key as it is kept: its secret is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Its public id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What its maker calls it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whose sandboxes it sees.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// When it was made.
    pub created_at: Time,
}

/// A key that was just made, with its secret: shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    /// The key.
    #[serde(flatten)]
    pub key: Key,
    /// What callers present: `Authorization: Bearer plm_…`.
    pub secret: Secret,
}

/// Whether sandboxes can be provided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Healthy {
    /// There is a quorum and at least one host answers.
    pub healthy: bool,
    /// Why not; absent where it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
