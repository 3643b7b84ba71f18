//! What happened, in order: the audit trail that `GET /v1/events` streams and billing reads.

use plimsoll_types::{Generation, Health, HostId, Phase, SandboxId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The raft index of the command that made it.
    pub index: u64,
    /// Its place among the events of that command, from zero: (index, seq) orders all events.
    pub seq: u32,
    /// When the command was proposed.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A sandbox entered a phase.
    Sandbox {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// The phase it entered.
        phase: Phase,
        /// At which generation.
        generation: Generation,
        /// On which host, if any.
        host: Option<HostId>,
        /// Why, if a reason was given.
        reason: Box<str>,
    },
    /// A sandbox's deadline moved.
    Deadline {
        /// Which.
        sandbox: SandboxId,
        /// Whose.
        tenant: TenantId,
        /// The new one.
        deadline: Option<Timestamp>,
    },
    /// A host's health, cordon or quarantine changed, or it was added or removed.
    Host {
        /// Which.
        host: HostId,
        /// Its health afterwards; `None` once removed.
        health: Option<Health>,
        /// What changed, in a few words.
        change: Box<str>,
    },
    /// Keys, policy or the cluster's identity changed.
    Cluster {
        /// What changed, in a few words; never a secret.
        change: Box<str>,
    },
}
