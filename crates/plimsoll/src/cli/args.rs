//! The command line: every command and flag, with the help that teaches it.

mod operator;

pub use operator::{ClusterCommand, HostAddArgs, HostCommand, KeyCommand, KeyRole, PolicyCommand, RestoreArgs};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::styling};
use plimsoll_types::{Bytes, Constraint, HostName, Label, MilliCpu, SandboxId, SessionId};
use std::path::PathBuf;

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Yellow.on_default().bold())
    .usage(styling::AnsiColor::Yellow.on_default().bold())
    .literal(styling::AnsiColor::Green.on_default());

/// Turns rented Docker hosts into one sandbox cloud, over SSH alone.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, styles = STYLES, max_term_width = 110, after_help = "\
Start here:
  plimsoll dev                                    one node on this machine's Docker, nothing to configure
  plimsoll create --image debian:12               a sandbox on the least-loaded host
  plimsoll exec -it sb-… -- bash                  a terminal in it

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 no room, 6 denied, 7 unreachable,
8 the data folder is damaged (init, join and server). `plimsoll exec` exits with the command's own code.")]
pub struct Cli {
    /// The API of any node; several, comma-separated, are tried in turn.
    #[arg(long, global = true, env = "PLIMSOLL_URL", value_name = "URL")]
    pub url: Option<String>,
    /// File with the API key (or set PLIMSOLL_KEY).
    #[arg(long, global = true, env = "PLIMSOLL_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: what the API answered.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole one-node cluster on this machine's Docker, for trying and developing.
    Dev(DevArgs),
    /// Make this machine the first node of a new cluster; prints the first API key.
    Init(NodeArgs),
    /// Make this machine a further node of a cluster, with a token from `plimsoll cluster token`.
    Join(JoinArgs),
    /// Run this node.
    Server(NodeArgs),
    /// The Docker hosts that sandboxes run on.
    #[command(subcommand)]
    Host(HostCommand),
    /// Make a fresh sandbox.
    Create(CreateArgs),
    /// Get a session's sandbox: the live one, or a new one.
    Ensure(EnsureArgs),
    /// List sandboxes.
    Ls(LsArgs),
    /// Show everything about one sandbox.
    Inspect {
        /// Which.
        sandbox: SandboxId,
    },
    /// Run a command in a sandbox; argv is passed as it is, without a shell.
    Exec(ExecArgs),
    /// Copy a file or folder between this machine and a sandbox (`sb-…:/path`).
    Cp {
        /// From: a path here, or `sb-…:/path`.
        from: String,
        /// To: a path here, or `sb-…:/path`.
        to: String,
    },
    /// Look at and change single files of a sandbox.
    #[command(subcommand)]
    Files(FilesCommand),
    /// Show the output of a sandbox's main process.
    Logs {
        /// Which.
        sandbox: SandboxId,
        /// Go on with new lines as they come.
        #[arg(long, short)]
        follow: bool,
        /// Only so many of the last lines.
        #[arg(long, value_name = "LINES")]
        tail: Option<u32>,
    },
    /// Show what a sandbox uses.
    Stats {
        /// Which.
        sandbox: SandboxId,
    },
    /// Move a sandbox's deadline.
    Extend {
        /// Which.
        sandbox: SandboxId,
        /// How long from now, such as 2h; `never` to keep it.
        lifetime: String,
    },
    /// Pausing, resuming, freezing, moving, snapshots.
    #[command(flatten)]
    Moving(super::moving::MovingCommand),
    /// Terminate sandboxes, workspaces and all.
    Rm {
        /// Which.
        #[arg(required = true)]
        sandboxes: Vec<SandboxId>,
        /// Answer at once instead of waiting until they are gone.
        #[arg(long)]
        no_wait: bool,
    },
    /// Ask where a sandbox would go, and why.
    Place(PlaceArgs),
    /// The control plane's own nodes.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Show what happened, and what happens as it happens.
    Events(super::events::EventsArgs),
    /// Show what the asked node logs, or change it until the node is started again.
    #[command(after_help = "\
Each node logs for itself: name one with --url. Libraries whose debug output has secrets in it stay at info, whatever the filter says.")]
    LogsLevel {
        /// A level such as `debug`, or targets with levels such as `plimsoll_engine=debug,info` [default: show].
        filter: Option<String>,
    },
    /// Watch hosts and their load lines, sandboxes by phase, the queue and the leader.
    Top(super::top::TopArgs),
    /// Show what each host, sandbox and tenant costs per hour, what is idle, and what is left at a selling price.
    Cost(super::cost::CostArgs),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where a node's configuration is.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// The configuration file [default: /etc/plimsoll/plimsoll.toml if it exists].
    #[arg(long, env = "PLIMSOLL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where this node keeps its data; over the file's `data_dir` [default: /var/lib/plimsoll].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How log lines look; over the file's `log.format`.
    #[arg(long, value_enum)]
    pub log_format: Option<crate::config::LogFormat>,
}

/// `plimsoll dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where it keeps its data [default: ~/.local/share/plimsoll/dev].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Docker's socket on this machine.
    #[arg(long, default_value = "/var/run/docker.sock", value_name = "SOCKET")]
    pub docker: PathBuf,
    /// Image for sandboxes that name none.
    #[arg(long, env = "VPS_BASE_IMAGE")]
    pub base_image: Option<String>,
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    pub listen: std::net::SocketAddr,
}

/// `plimsoll join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `plimsoll cluster token` printed; `-` reads it from standard input.
    pub token: String,
    /// The node's configuration.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What a sandbox is to be.
#[derive(Clone, Debug, Args)]
pub struct SpecArgs {
    /// What it starts from [default: the cluster's base image].
    #[arg(long)]
    pub image: Option<String>,
    /// CPUs, such as 2 or 0.5 [default: 2].
    #[arg(long)]
    pub cpu: Option<MilliCpu>,
    /// Memory, such as 3G or 512M [default: 3G].
    #[arg(long)]
    pub memory: Option<Bytes>,
    /// Disk to reserve [default: 5G].
    #[arg(long)]
    pub disk: Option<Bytes>,
    /// Condition on the host's labels: `zone=eu`, `zone!=eu` or `gpu`.
    #[arg(long = "constraint", value_name = "CONDITION")]
    pub constraints: Vec<Constraint>,
    /// No two sandboxes with the same group share a host.
    #[arg(long, value_name = "GROUP")]
    pub anti_affinity: Option<String>,
    /// `runc` or `runsc` (gVisor) [default: runc].
    #[arg(long, value_parser = ["runc", "runsc"])]
    pub runtime: Option<String>,
}

/// What both `create` and `ensure` take.
#[derive(Clone, Debug, Args)]
pub struct SandboxArgs {
    /// What it is to be.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Plain environment.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// File of NAME=VALUE lines that are kept secret: sealed at rest, never in the container's configuration.
    #[arg(long, value_name = "FILE")]
    pub secret_env_file: Option<PathBuf>,
    /// Port to publish; may be repeated.
    #[arg(long = "port", short, value_name = "PORT")]
    pub ports: Vec<u16>,
    /// Label, to filter lists by.
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
    /// How long it lives, such as 30m or 2h; `never` to keep it [default: 1h].
    #[arg(long)]
    pub lifetime: Option<String>,
    /// Wait so long for room instead of being refused, such as 5m.
    #[arg(long, value_name = "TIME")]
    pub queue_timeout: Option<String>,
    /// What it starts from and what becomes of it.
    #[command(flatten)]
    pub lasting: super::lasting::LastingArgs,
    /// OpenSSH public key file that may log in through the gateway.
    #[arg(long = "ssh-key", value_name = "FILE")]
    pub ssh_keys: Vec<PathBuf>,
    /// Answer at once instead of waiting until it runs.
    #[arg(long)]
    pub no_wait: bool,
    /// Command instead of staying idle, after `--`.
    #[arg(last = true)]
    pub argv: Vec<String>,
}

/// `plimsoll create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Your own key for it; refused while the session has a live sandbox.
    #[arg(long)]
    pub session: Option<SessionId>,
    /// Makes the request safe to repeat for 24 hours.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// The sandbox.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// `plimsoll ensure`
#[derive(Debug, Args)]
pub struct EnsureArgs {
    /// Your own key for it.
    pub session: SessionId,
    /// The sandbox, if there is none yet.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// `plimsoll ls`
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Terminated ones too.
    #[arg(long, short)]
    pub all: bool,
    /// Only of this session.
    #[arg(long)]
    pub session: Option<SessionId>,
    /// Only in this phase.
    #[arg(long)]
    pub phase: Option<plimsoll_types::Phase>,
    /// Only on this host.
    #[arg(long)]
    pub host: Option<HostName>,
    /// Only with this label; may be repeated.
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
}

/// `plimsoll exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Connect this terminal's input.
    #[arg(long, short)]
    pub interactive: bool,
    /// Give it a terminal.
    #[arg(long, short)]
    pub tty: bool,
    /// As whom.
    #[arg(long, short)]
    pub user: Option<String>,
    /// Where it starts.
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Added to its environment.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Kill it after so long, such as 30s.
    #[arg(long, value_name = "TIME")]
    pub time_limit: Option<String>,
    /// In which sandbox.
    pub sandbox: SandboxId,
    /// Program and arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub argv: Vec<String>,
}

/// `plimsoll place`
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Only ask; nothing is placed. Required, as placing is what `create` does.
    #[arg(long, required = true)]
    pub dry_run: bool,
    /// The sandbox asked about.
    #[command(flatten)]
    pub spec: SpecArgs,
}

/// `plimsoll files …`; paths are absolute, in the sandbox.
#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// List a folder.
    Ls {
        /// In which sandbox.
        sandbox: SandboxId,
        /// Which folder.
        #[arg(default_value = "/workspace")]
        path: String,
        /// Everything below it too.
        #[arg(long, short)]
        recursive: bool,
    },
    /// Show what stands at a path.
    Stat {
        /// In which sandbox.
        sandbox: SandboxId,
        /// Where.
        path: String,
    },
    /// Print a file as it is.
    Cat {
        /// In which sandbox.
        sandbox: SandboxId,
        /// Which file.
        path: String,
    },
    /// Write standard input to a file, all or nothing; its folders are made.
    Write {
        /// In which sandbox.
        sandbox: SandboxId,
        /// Which file.
        path: String,
        /// Permission bits in octal [default: 0644].
        #[arg(long, value_parser = super::parse::mode)]
        mode: Option<u32>,
        /// Whose it is to be, as `uid:gid` or as the sandbox calls its users [default: the writer's].
        #[arg(long)]
        owner: Option<String>,
        /// As whom to write [default: the sandbox's user].
        #[arg(long, short)]
        user: Option<String>,
    },
    /// Move or rename a file or folder.
    Mv {
        /// In which sandbox.
        sandbox: SandboxId,
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// Remove a file, or a folder with --recursive.
    Rm {
        /// In which sandbox.
        sandbox: SandboxId,
        /// Which.
        path: String,
        /// A folder with all below it.
        #[arg(long, short)]
        recursive: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_sandbox_is_the_command() {
        let id = SandboxId::from_parts(1, 1).to_string();
        let cli = Cli::try_parse_from(["plimsoll", "exec", "-it", &id, "ls", "-la", "--", "x"]).expect("parses");
        let Command::Exec(exec) = cli.command else { panic!("not exec") };
        assert!(exec.tty && exec.interactive);
        assert_eq!(exec.argv, ["ls", "-la", "--", "x"]);
    }
}
