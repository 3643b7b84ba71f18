//! Hosts on the wire.

use super::{
    drain::Drain,
    sandbox::Resources,
    units::{Cpu, Size, Time},
};
use plimsoll_types::{Health, HostAddress, HostName, Labels};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};
use utoipa::ToSchema;

/// A host to check or to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// What to call it.
    #[schema(value_type = String, example = "hel1-a")]
    pub name: HostName,
    /// `ssh://user@addr[:port]` or `unix:///var/run/docker.sock`.
    #[schema(value_type = String, example = "ssh://root@203.0.113.7")]
    pub address: HostAddress,
    /// With which private key nodes log in.
    #[serde(default)]
    pub identity: HostIdentity,
    /// The host key's fingerprint (`SHA256:…`) as the operator confirmed it; needed to add an `ssh://` host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Labels that constraints can ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour; the cheaper of equals is preferred.
    #[serde(default)]
    pub price_milli_per_hour: u64,
    /// The address published ports listen on; loopback if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub publish: Option<IpAddr>,
    /// The name or address in URLs, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

/// Which private key nodes log in with. Keys themselves never travel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostIdentity {
    /// What the node's own configuration says.
    #[default]
    NodeDefault,
    /// This file on every node.
    File(String),
    /// The agent behind `SSH_AUTH_SOCK` on every node.
    Agent,
}

/// What checking a host found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostCheck {
    /// The host key in OpenSSH's one-line form; absent for `unix://`.
    #[serde(default)]
    pub host_key: Option<String>,
    /// Its fingerprint, to be confirmed by the operator.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// What was found; absent while the key is not confirmed.
    #[serde(default)]
    pub report: Option<Survey>,
    /// What an operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What was found on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Survey {
    /// What it is.
    pub facts: HostFacts,
    /// How it is.
    pub load: Load,
    /// Free disk.
    pub disk_free: Size,
    /// Free inodes.
    pub inodes_free: u64,
    /// Its clock minus the control plane's.
    pub clock_skew_ms: i64,
    /// Whether the base image is there.
    pub base_image_present: bool,
    /// Whether gVisor's `runsc` is there.
    pub runsc_present: bool,
    /// sshd's MaxSessions, where it could be read.
    #[serde(default)]
    pub max_sessions: Option<u32>,
    /// sshd's MaxStartups, where it could be read.
    #[serde(default)]
    pub max_startups: Option<String>,
}

/// What a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostFacts {
    /// Two hosts with one machine id are one machine.
    pub machine_id: String,
    /// The machine's own name.
    pub hostname: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// Docker's version.
    pub docker_version: String,
    /// Docker's newest API version.
    pub api_version: String,
    /// The kernel's version.
    pub kernel: String,
    /// OCI runtimes it has.
    pub runtimes: Vec<String>,
    /// What it has in all.
    pub totals: Resources,
    /// Where Docker keeps its data.
    pub docker_root: String,
}

impl From<plimsoll_types::HostFacts> for HostFacts {
    fn from(from: plimsoll_types::HostFacts) -> Self {
        Self {
            machine_id: from.machine_id,
            hostname: from.hostname,
            architecture: from.architecture,
            docker_version: from.docker_version,
            api_version: from.api_version,
            kernel: from.kernel,
            runtimes: from.runtimes,
            totals: from.totals.into(),
            docker_root: from.docker_root,
        }
    }
}

/// A host's measured load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Load {
    /// When it was read.
    pub at: Time,
    /// CPUs in use.
    pub cpu: Cpu,
    /// Memory in use.
    pub memory: Size,
    /// Disk in use.
    pub disk: Size,
    /// Inodes in use, in thousandths of all.
    pub inodes_permille: u16,
    /// CPU pressure (PSI "some", 10 s) in hundredths of a percent.
    pub cpu_pressure_centipercent: u16,
    /// Memory pressure likewise.
    pub memory_pressure_centipercent: u16,
    /// I/O pressure likewise.
    pub io_pressure_centipercent: u16,
    /// Running containers of ours.
    pub sandboxes: u32,
}

impl From<plimsoll_types::MeasuredLoad> for Load {
    fn from(from: plimsoll_types::MeasuredLoad) -> Self {
        Self {
            at: Time(from.at),
            cpu: Cpu(from.cpu),
            memory: Size(from.memory),
            disk: Size(from.disk),
            inodes_permille: from.inodes_permille,
            cpu_pressure_centipercent: from.pressure.cpu_centipercent,
            memory_pressure_centipercent: from.pressure.memory_centipercent,
            io_pressure_centipercent: from.pressure.io_centipercent,
            sandboxes: from.sandboxes,
        }
    }
}

/// A host as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Its id, as events call it; metrics and logs call it by its name.
    #[schema(example = "host-1")]
    pub id: String,
    /// What the operator calls it.
    #[schema(value_type = String)]
    pub name: HostName,
    /// How it is reached.
    #[schema(value_type = String)]
    pub address: HostAddress,
    /// With which key.
    pub identity: HostIdentity,
    /// The pinned host key in OpenSSH's one-line form.
    #[serde(default)]
    pub host_key: Option<String>,
    /// Its fingerprint.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// Its labels.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// The address published ports listen on.
    #[schema(value_type = String)]
    pub publish: IpAddr,
    /// The name or address in URLs, where it differs.
    #[serde(default)]
    pub advertise: Option<String>,
    /// What it is.
    pub facts: HostFacts,
    /// How it is.
    #[schema(schema_with = super::schema::health)]
    pub health: Health,
    /// Since when.
    pub health_since: Time,
    /// Why; empty for ready.
    #[serde(default)]
    pub health_reason: String,
    /// Since when and why nothing new is placed there, if an operator said so.
    #[serde(default)]
    pub cordon: Option<Cordon>,
    /// Until when and why it is backed off from.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// Since when its disk is nearly full, and what fills it. What is not the cluster's own is named and never touched.
    #[serde(default)]
    pub disk_full: Option<FullDisk>,
    /// How it is drained: nothing new is placed there, and what is there moves away.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// What may be reserved on it.
    pub line: Resources,
    /// What is reserved on it.
    pub reserved: Resources,
    /// How many sandboxes hold a reservation.
    pub sandboxes: u32,
    /// Its measured load, if known.
    #[serde(default)]
    pub load: Option<Load>,
    /// When it was added.
    pub added_at: Time,
}

/// An operator's wish that nothing new be placed on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cordon {
    /// Since when.
    pub since: Time,
    /// Why.
    pub reason: String,
}

/// A pause in placing on a host whose creates keep failing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantine {
    /// Until when.
    pub until: Time,
    /// Why.
    pub reason: String,
}

/// A disk that is nearly full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FullDisk {
    /// Since when.
    pub since: Time,
    /// What fills it, in a sentence.
    pub reason: String,
}

/// What removing a host came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostRemoved {
    /// What an operator should know: above all, what of ours may be left on the machine. Empty if nothing is.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a host is cordoned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CordonHost {
    /// For whoever finds it cordoned.
    pub reason: String,
}

/// Changes of a host; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeHost {
    /// Labels to set.
    #[schema(value_type = BTreeMap<String, String>)]
    pub set: Labels,
    /// Keys of labels to remove.
    pub remove: Vec<String>,
    /// Its price from now on, in thousandths of a currency unit per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_milli_per_hour: Option<u64>,
}
