//! One login: TCP, key exchange with the pinned host key, public-key authentication.
//!
//! Password and keyboard-interactive authentication do not exist here.

use super::{
    forward::Pipe,
    keys::{Credential, Keys},
    pin::{self, Pin},
};
use crate::{error, limits, metrics};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::{Code, Identity};
use russh::{
    client::{self, AuthResult, Handle},
    keys::{PrivateKeyWithHashAlg, PublicKey, agent::AgentIdentity, agent::client::AgentClient},
};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// With [`KEEPALIVE_MISSES`], finds a dead peer within 15 s; shorter would wake idle links for nothing.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Keepalives that may stay unanswered.
const KEEPALIVE_MISSES: usize = 2;
/// Keys of an agent that are tried: sshd's MaxAuthTries is 6.
const AGENT_TRIES: usize = 5;

/// Where and how to log in.
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) addr: String,
    pub(crate) port: u16,
    pub(crate) identity: Identity,
    /// The pinned key in OpenSSH's one-line form.
    pub(crate) host_key: Option<String>,
    pub(crate) keys: Keys,
}

/// A connection that is logged in, counted while it lives.
pub(crate) struct Connection {
    pub(crate) handle: Handle<Pin>,
    _open: metrics::Open,
}

impl Login {
    /// Logs in once.
    pub(crate) async fn connect(&self) -> Result<Connection, HostError> {
        self.connect_with(None).await
    }

    /// Logs in once, to a connection through which the host may pass connections on to us.
    pub(crate) async fn connect_with(&self, pipe: Option<Pipe>) -> Result<Connection, HostError> {
        let result = match tokio::time::timeout(limits::CONNECT, self.connect_inner(pipe)).await {
            Ok(result) => result,
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", limits::CONNECT.as_secs()))),
        };
        metrics::connect(&self.name, result.as_ref().err());
        result
    }

    async fn connect_inner(&self, pipe: Option<Pipe>) -> Result<Connection, HostError> {
        let pinned = match &self.host_key {
            None => None,
            Some(line) => Some(PublicKey::from_openssh(line).map_err(|_| {
                let text =
                    format!("the pinned key of host {} cannot be read; remove the host and add it again", self.name);
                error::this_host(Code::HostKeyUnknown, text)
            })?),
        };
        let mut handle = self.greet(pinned, pipe).await?;
        // The host's key is checked before a private key is even read.
        match self.keys.credential(&self.identity).await? {
            Credential::Key(key) => {
                let key = PrivateKeyWithHashAlg::new(key, None);
                let answer = handle.authenticate_publickey(self.user.as_str(), key).await;
                if !answer.map_err(|error| self.broke(&error))?.success() {
                    return Err(self.denied("the key"));
                }
            }
            Credential::Agent => self.ask_agent(&mut handle).await?,
        }
        Ok(Connection { handle, _open: metrics::Open::connection(&self.name) })
    }

    async fn greet(&self, pinned: Option<PublicKey>, pipe: Option<Pipe>) -> Result<Handle<Pin>, HostError> {
        let stream =
            TcpStream::connect((self.addr.as_str(), self.port)).await.map_err(|e| self.unreachable(&e.to_string()))?;
        // Requests are small and answered at once; Nagle would add 40 ms to each.
        stream.set_nodelay(true).map_err(|e| self.unreachable(&e.to_string()))?;
        let (handler, seen) = Pin::new(pinned.clone(), pipe);
        match client::connect_stream(Arc::new(config(pinned.as_ref())), stream, handler).await {
            Ok(handle) => Ok(handle),
            Err(russh::Error::UnknownKey) => Err(match seen.get() {
                Some(shown) => pin::refusal(&self.name, pinned.as_ref(), &shown),
                None => self.unreachable("it showed no host key"),
            }),
            Err(russh::Error::NoCommonAlgo { kind, .. }) => Err(self.unreachable(&format!(
                "its sshd offers no {kind:?} algorithm that we know (RSA and DSA host keys are not supported; add an ed25519 key)"
            ))),
            Err(error) => Err(self.broke(&error)),
        }
    }

    async fn ask_agent(&self, handle: &mut Handle<Pin>) -> Result<(), HostError> {
        let trouble = |why: String| {
            let text = format!("the SSH agent of this node does not answer ({why}); start one and set SSH_AUTH_SOCK");
            error::this_host(Code::SshDenied, text)
        };
        let mut agent = AgentClient::connect_env().await.map_err(|e| trouble(e.to_string()))?;
        let identities = agent.request_identities().await.map_err(|e| trouble(e.to_string()))?;
        for identity in identities.into_iter().take(AGENT_TRIES) {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            let hash = key.algorithm().is_rsa().then_some(russh::keys::HashAlg::Sha512);
            let answer = handle.authenticate_publickey_with(self.user.as_str(), key, hash, &mut agent).await;
            match answer {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { .. }) => {}
                Err(error) => tracing::debug!(host = self.name, %error, "a key of the agent could not sign"),
            }
        }
        Err(self.denied("every key of the agent"))
    }

    fn place(&self) -> String {
        format!("{} ({}:{})", self.name, self.addr, self.port)
    }

    fn unreachable(&self, why: &str) -> HostError {
        let text =
            format!("SSH on host {} does not answer: {why}; check address, port, firewall and sshd", self.place());
        error::unreachable(Code::SshUnreachable, text)
    }

    fn broke(&self, error: &russh::Error) -> HostError {
        self.unreachable(&error::chain(error))
    }

    fn denied(&self, what: &str) -> HostError {
        error::this_host(
            Code::SshDenied,
            format!(
                "host {} refused {what} for user {}; add the public key to that user's authorized_keys",
                self.place(),
                self.user
            ),
        )
    }
}

fn config(pinned: Option<&PublicKey>) -> client::Config {
    client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MISSES,
        nodelay: true,
        preferred: russh::Preferred { key: Cow::Owned(pin::algorithms(pinned)), ..russh::Preferred::DEFAULT },
        ..client::Config::default()
    }
}

/// Asks a host for its key without logging in: one-line form and fingerprint.
pub(crate) async fn host_key(addr: &str, port: u16) -> Result<(String, String), HostError> {
    let unreachable = |why: String| {
        let text = format!("SSH on {addr}:{port} does not answer: {why}; check address, port, firewall and sshd");
        error::unreachable(Code::SshUnreachable, text)
    };
    let ask = async {
        let stream = TcpStream::connect((addr, port)).await.map_err(|e| unreachable(e.to_string()))?;
        let (handler, seen) = Pin::new(None, None);
        // The handler refuses every key, so this always ends before a login.
        let ended = client::connect_stream(Arc::new(config(None)), stream, handler).await;
        let key = seen.get().ok_or_else(|| match ended {
            Ok(_) => unreachable("it showed no host key".to_owned()),
            Err(error) => unreachable(error::chain(&error)),
        })?;
        let line = key.to_openssh().map_err(|_| unreachable("its host key cannot be written down".to_owned()))?;
        Ok((line.trim().to_owned(), pin::fingerprint(&key)))
    };
    match tokio::time::timeout(limits::CONNECT, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(format!("no answer within {} s", limits::CONNECT.as_secs()))),
    }
}
