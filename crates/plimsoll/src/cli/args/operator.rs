//! What operators type: hosts, the control plane, its rules and keys.

use clap::{Args, Subcommand, ValueEnum};
use plimsoll_types::{HostName, Label};
use std::path::PathBuf;

/// `plimsoll host …`
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Check a host, pin its key and add it.
    Add(HostAddArgs),
    /// Check a host without adding it.
    Check(HostAddArgs),
    /// List hosts with their load.
    #[command(visible_alias = "ls")]
    List,
    /// Show everything about one host.
    Inspect {
        /// Which.
        name: HostName,
    },
    /// Place nothing new on a host.
    Cordon {
        /// Which.
        name: HostName,
        /// Why, for whoever finds it cordoned.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Draining and undraining.
    #[command(flatten)]
    Drain(crate::cli::drain::DrainCommand),
    /// Place on a host again.
    Uncordon {
        /// Which.
        name: HostName,
    },
    /// Set labels (`key=value`) or remove them (`key-`).
    Label {
        /// Which.
        name: HostName,
        /// The changes.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Change what a host costs; sandboxes stay where they are.
    Set {
        /// Which.
        name: HostName,
        /// What it costs per hour from now on, such as 0.032.
        #[arg(long)]
        price: f64,
    },
    /// Forget a host that holds no sandboxes.
    #[command(visible_alias = "rm")]
    Remove {
        /// Which.
        name: HostName,
    },
}

/// `plimsoll host add`
#[derive(Debug, Args)]
pub struct HostAddArgs {
    /// What to call it.
    pub name: HostName,
    /// `ssh://user@addr[:port]`, or `unix:///var/run/docker.sock` for this machine.
    pub address: plimsoll_types::HostAddress,
    /// Private key file, at the same path on every node [default: the node's own].
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    pub identity: Option<PathBuf>,
    /// Use the SSH agent of every node instead of a key file.
    #[arg(long)]
    pub agent: bool,
    /// The host key's fingerprint you expect (`SHA256:…`).
    #[arg(long, conflicts_with = "accept_host_key")]
    pub fingerprint: Option<String>,
    /// Pin whatever key the host shows now.
    #[arg(long)]
    pub accept_host_key: bool,
    /// Labels, to constrain placement with.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
    /// What it costs per hour, such as 0.032.
    #[arg(long, default_value_t = 0.0)]
    pub price: f64,
    /// Which of its addresses published ports listen on.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub publish: std::net::IpAddr,
    /// Name or address in URLs, where it differs from --publish.
    #[arg(long)]
    pub advertise: Option<String>,
}

/// `plimsoll cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the nodes, who leads, and how far each is.
    Status,
    /// Print a token with which one more node can join.
    Token,
    /// Remove a node for good.
    Remove {
        /// Its number.
        node: u64,
    },
    /// Hand leadership to a node.
    Transfer {
        /// Its number.
        node: u64,
    },
    /// The rules in force for the whole cluster.
    Policy {
        /// What to do with them [default: show].
        #[command(subcommand)]
        command: Option<PolicyCommand>,
    },
}

/// `plimsoll cluster policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show every rule.
    Show,
    /// Change rules; the others stay as they are.
    Set {
        /// Rules as `show` names them, with their new values; an empty value unsets.
        #[arg(required = true, value_name = "RULE=VALUE")]
        rules: Vec<String>,
    },
}

/// `plimsoll key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; it is shown once.
    Create {
        /// What to call it.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value_t = KeyRole::Platform)]
        role: KeyRole,
        /// Whose sandboxes it sees.
        #[arg(long, default_value = "default")]
        tenant: plimsoll_types::TenantId,
    },
    /// List keys (never their secrets).
    #[command(visible_alias = "ls")]
    List,
    /// End a key.
    Revoke {
        /// Its id.
        key: plimsoll_types::KeyId,
    },
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyRole {
    /// Everything.
    Operator,
    /// Its tenant's sandboxes.
    Platform,
    /// Metrics and health only.
    Metrics,
}
