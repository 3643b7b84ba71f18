//! Emptying hosts and evening them out, on the wire.

use super::units::Time;
use plimsoll_types::{HostName, Phase, SandboxId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How to drain a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainHost {
    /// Most moves at once; the policy's `drain_parallel` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 64)]
    pub parallel: Option<u32>,
    /// Seconds for which moves are begun; what is left then stays, and is named. Without end if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// For whoever finds it drained.
    pub reason: String,
    /// Only say what would move where, and what could not.
    pub dry_run: bool,
}

/// An operator's wish to empty a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Since when.
    pub since: Time,
    /// Until when moves are begun.
    #[serde(default)]
    pub deadline: Option<Time>,
    /// Most moves at once.
    pub parallel: u32,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// How far a drain is; for a host that is not drained, what a drain would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainStatus {
    /// The host.
    #[schema(value_type = String)]
    pub host: HostName,
    /// How it is drained; absent if it is not.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// Nothing is left on it: it can be taken away.
    pub empty: bool,
    /// Nothing more moves by itself at present: it is empty, or its deadline has passed, or what is left has nowhere to go.
    pub settled: bool,
    /// Sandboxes that are on their way to another host now.
    pub moving: u32,
    /// Sandboxes that moved away since the drain began.
    pub moved: u32,
    /// What is left on it, those on their way included.
    pub left: Vec<LeftBehind>,
}

/// A sandbox that is left on a host that is, or would be, drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftBehind {
    /// Which.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// Where it is in its life.
    #[schema(schema_with = super::schema::phase)]
    pub phase: Phase,
    /// Why it is still there, or why it cannot go.
    pub why: String,
    /// Where it goes, or would go now; absent if nowhere.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub to: Option<HostName>,
}

/// How to even hosts out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RebalanceHosts {
    /// Only say what would move.
    pub dry_run: bool,
    /// How far apart hosts may be: the difference of their dominant shares, in thousandths; 200 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 10, maximum = 1000)]
    pub spread_permille: Option<u32>,
}

/// The fewest moves that even hosts out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebalance {
    /// Whether they were only proposed.
    pub dry_run: bool,
    /// The moves; empty if hosts are even enough.
    pub moves: Vec<RebalanceMove>,
}

/// One move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceMove {
    /// What moves.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// From where.
    #[schema(value_type = String)]
    pub from: HostName,
    /// To where.
    #[schema(value_type = String)]
    pub to: HostName,
    /// Why it is moved; if it should have been begun and was not, why.
    pub reason: String,
    /// Whether it was begun.
    pub begun: bool,
}
