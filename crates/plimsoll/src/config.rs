//! A node's configuration: one TOML file, then environment variables, then flags, each over the one before.

pub mod cluster;

use anyhow::{Context, Result, bail};
use cluster::Cluster;
use plimsoll_types::HostAddress;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where the file is looked for when no flag names one.
pub const DEFAULT_FILE: &str = "/etc/plimsoll/plimsoll.toml";

/// The whole file. Every key has a default; an unknown key is an error, as it is nearly always a misspelling.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where this node keeps its identity, log and snapshots.
    pub data_dir: Option<PathBuf>,
    /// The HTTP surface.
    pub api: Api,
    /// Traffic between control-plane nodes.
    pub raft: Raft,
    /// How hosts are logged in to.
    pub ssh: Ssh,
    /// SSH into sandboxes; off unless `listen` is set.
    pub gateway: Gateway,
    /// Where snapshots are kept; without one nothing can be snapshot, paused or moved.
    pub registry: Registry,
    /// Polling of hosts.
    pub poll: Poll,
    /// What a new cluster starts with; afterwards the replicated policy rules.
    pub cluster: Cluster,
    /// Logging.
    pub log: Log,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The URL other machines reach it at; `http://<listen>` if absent.
    pub url: Option<String>,
    /// Whether `/metrics` needs a key.
    pub metrics_public: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7070)), url: None, metrics_public: false }
    }
}

/// `[raft]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// What peers dial, as `name-or-address:port`; `listen` if absent.
    pub address: Option<String>,
}

impl Default for Raft {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7071)), address: None }
    }
}

/// `[ssh]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ssh {
    /// The private key for hosts that name none of their own.
    pub identity_file: Option<PathBuf>,
}

/// `[gateway]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where `ssh <sandbox id>@…` connects to.
    pub listen: Option<SocketAddr>,
    /// The name or address that callers are told; the listening address if absent.
    pub address: Option<String>,
}

/// `[registry]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// An OCI registry as this node reaches it, such as `http://127.0.0.1:5000`. Hosts reach it through their SSH connection.
    pub url: Option<String>,
    /// Its user, if it asks for one.
    pub username: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<PathBuf>,
}

/// `[poll]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// Time between two polls of one host.
    pub interval_ms: u64,
    /// No good poll for so long: nothing new is placed there.
    pub unreachable_after_ms: u64,
    /// No good poll for so long: the host counts as lost.
    pub lost_after_ms: u64,
}

impl Default for Poll {
    fn default() -> Self {
        Self { interval_ms: 2_000, unreachable_after_ms: 10_000, lost_after_ms: 60_000 }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `pretty` or `json`.
    pub format: LogFormat,
    /// A filter such as `info` or `plimsoll_engine=debug,info`.
    pub level: String,
    /// A collector that takes spans over OTLP/HTTP, such as `http://127.0.0.1:4318`.
    pub otlp: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, level: "info".into(), otlp: None }
    }
}

impl Config {
    /// Reads the file, then what the environment says over it. Without a path the default file is read if it exists.
    ///
    /// # Errors
    /// When the file is named and missing, is no TOML, has an unknown key, or a variable has a bad value.
    pub fn load(path: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut config = match path {
            Some(path) => Self::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE))?,
            None => Self::default(),
        };
        config.apply_env(&env)?;
        let poll = &config.poll;
        if poll.interval_ms < 100
            || poll.unreachable_after_ms <= poll.interval_ms
            || poll.lost_after_ms <= poll.unreachable_after_ms
        {
            bail!("poll: use 100 <= interval_ms < unreachable_after_ms < lost_after_ms, or every host would flap");
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("the configuration {} is invalid", path.display()))
    }

    fn apply_env(&mut self, env: &impl Fn(&str) -> Option<String>) -> Result<()> {
        fn parsed<T>(name: &str, text: &str) -> Result<T>
        where
            T: std::str::FromStr,
            T::Err: std::fmt::Display,
        {
            text.parse().map_err(|error| anyhow::anyhow!("{name}={text:?} is invalid: {error}"))
        }
        let get = |name: &str| env(name).filter(|text| !text.is_empty());
        if let Some(text) = get("PLIMSOLL_DATA_DIR") {
            self.data_dir = Some(text.into());
        }
        if let Some(text) = get("PLIMSOLL_API_LISTEN") {
            self.api.listen = parsed("PLIMSOLL_API_LISTEN", &text)?;
        }
        if let Some(text) = get("PLIMSOLL_API_URL") {
            self.api.url = Some(text);
        }
        if let Some(text) = get("PLIMSOLL_RAFT_LISTEN") {
            self.raft.listen = parsed("PLIMSOLL_RAFT_LISTEN", &text)?;
        }
        if let Some(text) = get("PLIMSOLL_RAFT_ADDRESS") {
            self.raft.address = Some(text);
        }
        if let Some(text) = get("PLIMSOLL_SSH_IDENTITY_FILE") {
            self.ssh.identity_file = Some(text.into());
        }
        if let Some(text) = get("PLIMSOLL_GATEWAY_LISTEN") {
            self.gateway.listen = Some(parsed("PLIMSOLL_GATEWAY_LISTEN", &text)?);
        }
        if let Some(text) = get("PLIMSOLL_REGISTRY_URL") {
            self.registry.url = Some(text);
        }
        if let Some(text) = get("PLIMSOLL_LOG") {
            self.log.level = text;
        }
        if let Some(text) = get("OTEL_EXPORTER_OTLP_ENDPOINT") {
            self.log.otlp = Some(text);
        }
        // The variables that operators of the provider before this one have set already.
        if let Some(text) = get("VPS_BASE_IMAGE") {
            self.cluster.base_image = Some(text);
        }
        if let Some(text) = get("VPS_DATA_VOLUME") {
            self.cluster.host_data_dir = Some(text);
        }
        Ok(())
    }

    /// The node's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "/var/lib/plimsoll".into())
    }

    /// The URL of this node's API.
    #[must_use]
    pub fn api_url(&self) -> String {
        self.api.url.clone().unwrap_or_else(|| format!("http://{}", self.api.listen))
    }

    /// What peers dial.
    #[must_use]
    pub fn raft_address(&self) -> String {
        self.raft.address.clone().unwrap_or_else(|| self.raft.listen.to_string())
    }
}

/// The hosts that `VPS_HOST` and `VPS_SSH_USER` name: comma-separated names or addresses, each with an optional port.
///
/// # Errors
/// When one of them is no host address.
pub fn hosts_from_env(env: impl Fn(&str) -> Option<String>) -> Result<Vec<HostAddress>> {
    let Some(hosts) = env("VPS_HOST") else { return Ok(Vec::new()) };
    let user = env("VPS_SSH_USER").filter(|user| !user.is_empty()).unwrap_or_else(|| "root".into());
    let named = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
    named.map(|host| format!("ssh://{user}@{host}").parse().with_context(|| format!("VPS_HOST has {host:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "data_dir = \"/a\"\n[api]\nlisten = \"127.0.0.1:1\"\n").expect("written");
        let env = |name: &str| (name == "PLIMSOLL_DATA_DIR").then(|| "/b".to_owned());
        let config = Config::load(Some(file.path()), env).expect("valid");
        assert_eq!(config.data_dir(), PathBuf::from("/b"));
        assert_eq!(config.api.listen.port(), 1);
    }

    #[test]
    fn the_commented_example_is_the_defaults() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/plimsoll.toml");
        let mut read = Config::load(Some(Path::new(example)), none).expect("valid");
        assert_eq!(read.data_dir.take(), Some(Config::default().data_dir()));
        assert_eq!(std::mem::take(&mut read.cluster).policy().expect("valid"), plimsoll_state::Policy::default());
        assert_eq!(read, Config::default());
        let text = std::fs::read_to_string(example).expect("readable");
        for key in ["url", "address", "identity_file", "base_image", "metrics_public", "password_file", "otlp"] {
            assert!(text.contains(&format!("{key} = ")), "{key} is not explained");
        }
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[api]\nlissten = \"x\"\n").expect("written");
        let error = Config::load(Some(file.path()), none).expect_err("misspelt");
        assert!(format!("{error:#}").contains("lissten"), "{error:#}");
    }

    #[test]
    fn the_first_providers_variables_make_hosts_and_policy() {
        let env = |name: &str| {
            let value = match name {
                "VPS_HOST" => "10.0.0.1, host.example:2222",
                "VPS_SSH_USER" => "deploy",
                "VPS_BASE_IMAGE" => "shadow-sandbox:latest",
                "VPS_DATA_VOLUME" => "/srv/boxes/",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let hosts = hosts_from_env(env).expect("valid");
        let printed: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["ssh://deploy@10.0.0.1:22", "ssh://deploy@host.example:2222"]);
        let policy = Config::load(None, env).expect("valid").cluster.policy().expect("valid");
        assert_eq!(&*policy.data_dir, "/srv/boxes");
        assert_eq!(policy.base_image, Some(plimsoll_types::ImageRef::new("shadow-sandbox:latest").expect("valid")));
    }
}
