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
    /// Write a copy of the cluster's state into a file, or check one.
    Backup(crate::cli::backup::BackupArgs),
    /// On a new machine: go on from a backup, when every node is lost.
    Restore(RestoreArgs),
    /// Compare what hosts hold with what the cluster knows, and settle it when told.
    Drift(crate::cli::drift::DriftArgs),
    /// Start, move and remove nothing, until resumed.
    Hold {
        /// Why, for whoever is refused meanwhile.
        #[arg(long)]
        reason: String,
    },
    /// End a hold: hosts are made as the cluster knows them.
    Resume {
        /// Although something is not settled: what was not taken over is removed.
        #[arg(long)]
        force: bool,
    },
    /// The rules in force for the whole cluster.
    Policy {
        /// What to do with them [default: show].
        #[command(subcommand)]
        command: Option<PolicyCommand>,
    },
}

/// `plimsoll cluster restore`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Only when every node is lost: one node that lives has newer state, and others join it. The data folder must be empty. The cluster keeps its
id; its members, and their certificates, are gone: a node that turns up later is a stranger. More nodes join as ever, with
`plimsoll cluster token` and `plimsoll join`.

The cluster is on hold then, because hosts may hold what the backup does not know:
  plimsoll cluster restore cluster.backup --identity identity.copy
  plimsoll server
  plimsoll cluster drift                                    what is there, what is not
  plimsoll cluster drift --apply --mark-lost --adopt --remove-orphans
  plimsoll cluster resume")]
pub struct RestoreArgs {
    /// The backup.
    pub file: PathBuf,
    /// A copy of any old node's `identity` file: holds the secret that sandboxes' environments are sealed with.
    #[arg(long, value_name = "FILE", conflicts_with = "forget_secrets")]
    pub identity: Option<PathBuf>,
    /// Go on without that secret: neither sandboxes with secret environments nor commands in them can be started anew.
    #[arg(long)]
    pub forget_secrets: bool,
    /// Make another operator key, if the old ones are lost (they stay good); it is shown once and saved for this user.
    #[arg(long)]
    pub new_key: bool,
    /// Which node.
    #[command(flatten)]
    pub node: crate::cli::args::NodeArgs,
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
