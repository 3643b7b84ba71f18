//! Where the registry is and how to log in there.

use crate::{error, ssh::keys::SecretText};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::fmt;

/// A registry. It is never exposed: only the control plane reaches this address, hosts reach it through their SSH connection.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `http://host:port`, without a path.
    pub url: String,
    /// The user, where it wants one.
    pub username: Option<String>,
    /// And the password.
    pub password: Option<SecretText>,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.username.is_some() { "with a login" } else { "without a login" };
        write!(f, "RegistryOptions({login})")
    }
}

/// A registry's address, read from its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl RegistryOptions {
    /// A registry that asks for no login.
    #[must_use]
    pub fn open(url: impl Into<String>) -> Self {
        Self { url: url.into(), username: None, password: None }
    }

    /// Checks the URL without asking anybody, for who reads a configuration.
    ///
    /// # Errors
    /// `invalid_request`, with what is wrong.
    pub fn check(&self) -> Result<(), HostError> {
        self.place().map(drop)
    }

    pub(crate) fn place(&self) -> Result<Place, HostError> {
        // The URL itself may hold a password, so it is not repeated.
        let invalid = |why: &str| {
            let text = format!("the registry's URL {why}; write http://HOST:PORT, and a login beside it");
            error::permanent(Code::InvalidRequest, text)
        };
        if self.url.starts_with("https://") {
            return Err(invalid(
                "is https, which is not supported: the registry is reached through the SSH connections, never from outside",
            ));
        }
        let rest = self.url.strip_prefix("http://").ok_or_else(|| invalid("does not begin with http://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(invalid("has more than a host and a port"));
        }
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "80"));
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("has no valid port"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_".contains(&b));
        if !plain {
            return Err(invalid("names no host"));
        }
        Ok(Place { host: host.to_owned(), port })
    }
}

impl Place {
    /// The port, where this machine itself reaches it on `127.0.0.1`.
    pub(crate) fn loopback(&self) -> Option<u16> {
        matches!(self.host.as_str(), "127.0.0.1" | "localhost").then_some(self.port)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_base_is_a_registry() {
        let place = |url: &str| RegistryOptions::open(url).place().map(|place| place.to_string()).ok();
        assert_eq!(place("http://127.0.0.1:5000/").as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(place("http://registry").as_deref(), Some("registry:80"));
        assert_eq!(place("http://[::1]:5000").as_deref(), Some("[::1]:5000"));
        for bad in
            ["", "http://", "https://x:1", "http://x:0", "http://x:1/v2", "http://u:p@x:1", "x:1", "http://a b:1"]
        {
            assert_eq!(place(bad), None, "{bad:?}");
        }
        let secret = RegistryOptions {
            url: "http://u:hunter2@x:1".to_owned(),
            username: Some("u".to_owned()),
            password: Some(SecretText::new("hunter2")),
        };
        let shown = format!("{secret:?} {}", secret.check().expect_err("no login in the URL"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
