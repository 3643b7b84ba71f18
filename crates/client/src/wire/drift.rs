//! Holding a cluster, and what its hosts hold compared with what its state says, on the wire.

use super::units::Time;
use plimsoll_types::{HostName, Phase, SandboxId, SessionId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// That nothing is started, moved or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Since when.
    pub since: Time,
    /// Why.
    pub reason: String,
}

/// To put a cluster on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldCluster {
    /// Why, for whoever is refused meanwhile.
    #[schema(min_length = 1, max_length = 255)]
    pub reason: String,
}

/// To end a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeCluster {
    /// Although something is not settled: what was not taken over is removed from hosts then.
    pub force: bool,
}

/// What to settle, on hold; what is not named is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettleDrift {
    /// Take over containers that state does not know, or knows an earlier generation of.
    pub adopt: bool,
    /// Remove containers that nothing needs.
    pub remove_orphans: bool,
    /// Count sandboxes that are nowhere as failed.
    pub mark_lost: bool,
}

/// How one line of a comparison is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftVerdict {
    /// A container that state does not know, or of a later generation than state's.
    Adopt,
    /// A container that nothing needs any more: it would be removed.
    Orphan,
    /// State has it on a host, and no host has a container of it.
    Lost,
    /// Hosts that do not answer may have it.
    Unknown,
    /// It is as state says.
    Same,
}

impl DriftVerdict {
    /// Every verdict, the ones to act on first.
    pub const ALL: [Self; 5] = [Self::Adopt, Self::Orphan, Self::Lost, Self::Unknown, Self::Same];

    /// The name, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopt => "adopt",
            Self::Orphan => "orphan",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Same => "same",
        }
    }
}

/// What the hosts hold, compared with what state says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// The hold, if the cluster is on one: only then can anything be settled.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Hosts that were looked at.
    pub hosts: u32,
    /// Hosts that did not answer; while there are any, nothing is called lost.
    pub silent: Vec<SilentHost>,
    /// Snapshots in the registry that state has no record of: they are deleted after a hold. Absent where the registry was not asked.
    #[serde(default)]
    pub snapshots_unrecorded: Option<u64>,
    /// Lines by verdict.
    pub counts: BTreeMap<String, u64>,
    /// Every container, and every sandbox that should have one; those to act on first.
    pub lines: Vec<DriftLine>,
    /// What this call settled, in order.
    #[serde(default)]
    pub settled: Vec<DriftSettled>,
}

/// A host that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentHost {
    /// Which.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Why.
    pub why: String,
}

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftLine {
    /// How it is to be read.
    pub verdict: DriftVerdict,
    /// Which sandbox.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// The platform's key for it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// Whose it is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// Where the container is, or should be.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub host: Option<HostName>,
    /// The container's generation, or state's where there is no container.
    pub generation: u64,
    /// The container's full id.
    #[serde(default)]
    pub container: Option<String>,
    /// How Docker has it: `created`, `running`, `paused`, `exited`, `dead`.
    #[serde(default)]
    pub container_state: Option<String>,
    /// Its phase, where state knows the sandbox.
    #[serde(default)]
    #[schema(schema_with = super::schema::phase)]
    pub phase: Option<Phase>,
    /// Why; empty where there is nothing to say.
    pub why: String,
}

/// What came of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftSettled {
    /// What it was.
    pub verdict: DriftVerdict,
    /// Which sandbox.
    #[schema(value_type = String)]
    pub sandbox: SandboxId,
    /// On which host.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub host: Option<HostName>,
    /// Why it was not done; absent if it was.
    #[serde(default)]
    pub refused: Option<String>,
}
