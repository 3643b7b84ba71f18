//! What is known of a host: how to reach it, what it is, how it is, and how much may be loaded on it.

use crate::{
    load::Pressure,
    resources::Resources,
    units::{Bytes, MilliCpu},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

/// Where a host's Docker is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddress {
    /// `ssh://user@addr[:port]`: Docker's socket through an SSH connection.
    Ssh {
        /// The account; it must be allowed to use Docker's socket.
        user: Box<str>,
        /// A DNS name or an IP address, without brackets.
        addr: Box<str>,
        /// sshd's port.
        port: u16,
    },
    /// `unix:///path`: the machine the control plane itself runs on.
    Unix {
        /// Docker's socket.
        path: PathBuf,
    },
}

/// Text that is no host address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host address {text:?} is invalid: {rule}; write ssh://user@addr[:port] or unix:///var/run/docker.sock")]
pub struct InvalidAddress {
    text: String,
    rule: &'static str,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { user, addr, port } if addr.contains(':') => write!(f, "ssh://{user}@[{addr}]:{port}"),
            Self::Ssh { user, addr, port } => write!(f, "ssh://{user}@{addr}:{port}"),
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for HostAddress {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |rule| InvalidAddress { text: text.chars().take(120).collect(), rule };
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ') || text.len() > 512 {
            return Err(invalid("it has blanks or control characters, or is longer than 512"));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            let absolute = path.starts_with('/') && path.len() > 1;
            return if absolute {
                Ok(Self::Unix { path: path.into() })
            } else {
                Err(invalid("the socket's path must be absolute"))
            };
        }
        let rest = text.strip_prefix("ssh://").ok_or_else(|| invalid("the scheme is neither ssh nor unix"))?;
        let (user, place) = rest.split_once('@').ok_or_else(|| invalid("the user is missing"))?;
        let place = place.trim_end_matches('/');
        let (addr, port) = if let Some(v6) = place.strip_prefix('[') {
            let (addr, port) = v6.split_once(']').ok_or_else(|| invalid("the bracket is not closed"))?;
            addr.parse::<std::net::Ipv6Addr>().map_err(|_| invalid("only an IPv6 address stands in brackets"))?;
            (addr, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("") }))
        } else {
            place.rsplit_once(':').map_or((place, None), |(addr, port)| (addr, Some(port)))
        };
        let port = match port {
            None => 22,
            Some(digits) => {
                digits.parse().ok().filter(|p| *p != 0).ok_or_else(|| invalid("the port is not 1 to 65535"))?
            }
        };
        let host_ok = !addr.is_empty() && addr.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
        let user_ok = !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if !host_ok || addr.starts_with('-') || (addr.contains(':') && !place.starts_with('[')) {
            return Err(invalid("the address is neither a name nor an IP address (IPv6 goes in brackets)"));
        }
        if !user_ok || user.starts_with('-') {
            return Err(invalid("the user has characters other than letters, digits, '.', '-' and '_'"));
        }
        Ok(Self::Ssh { user: user.into(), addr: addr.into(), port })
    }
}

impl Serialize for HostAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which private key a node logs in with. State holds where the key is, never the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The node's own configuration says (`ssh.identity_file`, or the text in `VPS_SSH_KEY`).
    #[default]
    NodeDefault,
    /// This file on every node.
    File(PathBuf),
    /// The agent behind `SSH_AUTH_SOCK` on every node.
    Agent,
}

/// Which of the host's addresses published ports listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublishAddress(pub IpAddr);

/// Loopback: a port is public only where an operator says so.
impl Default for PublishAddress {
    fn default() -> Self {
        Self(IpAddr::from([127, 0, 0, 1]))
    }
}

/// What the check at `host add` and later polls found the host to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// Of the machine, from `/etc/machine-id` or, failing that, Docker's own id: two hosts with one id are one machine.
    pub machine_id: String,
    /// The machine's own name.
    pub hostname: String,
    /// As Docker says it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Docker's version.
    pub docker_version: String,
    /// Docker's newest API version, `1.41` or later.
    pub api_version: String,
    /// The kernel's version.
    pub kernel: String,
    /// OCI runtimes Docker offers.
    pub runtimes: Vec<String>,
    /// CPU and memory of the machine, disk of the filesystem with Docker's data.
    pub totals: Resources,
    /// The folder of Docker's data.
    pub docker_root: String,
}

/// Whether a host can be used, as the leader's polls see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Answers.
    Ready,
    /// No good poll for 10 s: nothing new is placed there.
    Unreachable,
    /// No good poll for 60 s: each sandbox's recovery policy acts.
    Lost,
}

impl Health {
    /// The name in the API, in tables and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is kept back from a host's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadLine {
    /// CPU that may be reserved, in thousandths of the total: 1,000 reserves each CPU once.
    pub cpu_overcommit_permille: u32,
    /// Memory that is never reserved: the kernel, Docker and sshd live in it.
    pub memory_reserve: Bytes,
    /// Disk that is never reserved: images and logs live in it.
    pub disk_reserve: Bytes,
    /// Past this pressure nothing more is placed on a host, whatever is reserved; 10,000 (100 %) never triggers.
    #[serde(default = "LoadLine::default_pressure")]
    pub pressure_max: Pressure,
}

impl Default for LoadLine {
    fn default() -> Self {
        Self {
            cpu_overcommit_permille: 1000,
            memory_reserve: Bytes::gib(1),
            disk_reserve: Bytes::gib(2),
            pressure_max: Self::default_pressure(),
        }
    }
}

impl LoadLine {
    /// CPU never refuses a host: builds on a full one wait for CPUs all the time, its use already counts in the score, and it can
    /// be shared out thinner where memory cannot. A healthy host hardly waits for memory: at 20 % it thrashes, and one more sandbox
    /// would make it worse. An image pull alone keeps a small disk busy at 40 to 60 %: only what lies well above is overload.
    #[must_use]
    pub const fn default_pressure() -> Pressure {
        Pressure { cpu_centipercent: 10_000, memory_centipercent: 2_000, io_centipercent: 9_500 }
    }

    /// What may be reserved on a host with these totals.
    #[must_use]
    pub fn of(&self, totals: Resources) -> Resources {
        let cpu = u128::from(totals.cpu.0) * u128::from(self.cpu_overcommit_permille) / 1000;
        Resources {
            cpu: MilliCpu(u64::try_from(cpu).unwrap_or(u64::MAX)),
            memory: totals.memory.saturating_sub(self.memory_reserve),
            disk: totals.disk.saturating_sub(self.disk_reserve),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, printed) in [
            ("ssh://root@10.0.0.1", "ssh://root@10.0.0.1:22"),
            ("ssh://me@host.example:2222/", "ssh://me@host.example:2222"),
            ("ssh://root@[::1]", "ssh://root@[::1]:22"),
            ("ssh://root@[fe80::1]:23", "ssh://root@[fe80::1]:23"),
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
        ] {
            let address: HostAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse(), Ok(address));
        }
        for bad in [
            "",
            "http://x",
            "ssh://host",
            "ssh://@h",
            "ssh://u@",
            "ssh://u@h:0",
            "ssh://u@h:x",
            "ssh://-o@h",
            "ssh://u@-h",
            "ssh://u@::1",
            "ssh://u@[::1",
            "ssh://u@[host]",
            "unix://relative",
            "ssh://u@h h",
            "ssh://u@[::1]x",
        ] {
            assert!(bad.parse::<HostAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_load_line_keeps_back_the_reserve() {
        let totals = Resources { cpu: MilliCpu(4000), memory: Bytes::mib(7745), disk: Bytes::gib(160) };
        let line = LoadLine::default().of(totals);
        assert_eq!(line, Resources { cpu: MilliCpu(4000), memory: Bytes::mib(6721), disk: Bytes::gib(158) });
        assert_eq!(
            LoadLine::default().of(Resources::ZERO),
            Resources::ZERO,
            "a tiny host has no room, not a wrapped one"
        );
    }
}
