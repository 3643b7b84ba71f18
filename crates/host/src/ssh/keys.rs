//! The private keys a node logs in with: a file, the agent, or the node's default.
//!
//! A key is read when a connection is opened and dropped after the login; no key is ever part of a log or an error.

use crate::error;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::{Code, Identity};
use russh::keys::PrivateKey;
use std::{fmt, path::PathBuf, sync::Arc};

/// A text that must not be shown.
#[derive(Clone)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// Hides a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for who sends it where it belongs.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// The node's default key.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// A file with an OpenSSH private key; goes before the text.
    pub default_file: Option<PathBuf>,
    /// The text of an OpenSSH private key (`VPS_SSH_KEY`).
    pub default_text: Option<SecretText>,
}

/// What a connection logs in with.
pub(crate) enum Credential {
    Key(Arc<PrivateKey>),
    Agent,
}

impl Keys {
    /// Finds the credential an identity stands for.
    pub(crate) async fn credential(&self, identity: &Identity) -> Result<Credential, HostError> {
        match identity {
            Identity::File(path) => from_file(path).await,
            Identity::Agent => Ok(Credential::Agent),
            Identity::NodeDefault => match (&self.default_file, &self.default_text) {
                (Some(path), _) => from_file(path).await,
                (None, Some(text)) => parse(&text.0, "the key in VPS_SSH_KEY"),
                (None, None) if std::env::var_os("SSH_AUTH_SOCK").is_some() => Ok(Credential::Agent),
                (None, None) => Err(denied(
                    "this node has no SSH key: set ssh.identity_file in the configuration, put a key into VPS_SSH_KEY, start an \
                     agent (SSH_AUTH_SOCK), or give the host an identity file of its own",
                )),
            },
        }
    }
}

async fn from_file(path: &PathBuf) -> Result<Credential, HostError> {
    let what = format!("the identity file {}", path.display());
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| denied(format!("{what} cannot be read on this node: {error}")))?;
    parse(&text, &what)
}

fn parse(text: &str, what: &str) -> Result<Credential, HostError> {
    let text = normal(text);
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.algorithm().is_rsa() => {
            Err(denied(format!("{what} is an RSA key, which is not supported; make one with `ssh-keygen -t ed25519`")))
        }
        Ok(key) => Ok(Credential::Key(Arc::new(key))),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(denied(format!(
            "{what} is protected by a passphrase; use an agent (`--agent`), or remove the passphrase with `ssh-keygen -p`"
        ))),
        // The library's own text is left out: it may quote what it could not parse.
        Err(_) => Err(denied(format!("{what} is not an OpenSSH private key (ed25519 or ECDSA)"))),
    }
}

/// Environment variables often carry the line breaks of a key as `\n`, and files from Windows carry carriage returns.
fn normal(text: &str) -> String {
    let text = if text.contains('\n') { text.to_owned() } else { text.replace("\\n", "\n") };
    format!("{}\n", text.replace('\r', "").trim())
}

fn denied(message: impl Into<String>) -> HostError {
    error::this_host(Code::SshDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unusable_keys_say_why_and_show_nothing() {
        let text = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END OPENSSH PRIVATE KEY-----";
        let keys = Keys { default_file: None, default_text: Some(SecretText::new(text)) };
        let error = keys.credential(&Identity::NodeDefault).await.map(|_| ()).expect_err("no key");
        assert_eq!(error.code, Code::SshDenied);
        assert!(!error.message.contains("c2VjcmV0"), "{error}");
        assert!(!format!("{keys:?}").contains("c2VjcmV0"));
        let missing = Identity::File("/nonexistent/key".into());
        let error = keys.credential(&missing).await.map(|_| ()).expect_err("no file");
        assert!(error.message.contains("/nonexistent/key cannot be read"), "{error}");
    }

    #[test]
    fn line_breaks_survive_an_environment_variable() {
        assert_eq!(normal("a\\nb"), "a\nb\n");
        assert_eq!(normal("a\r\nb\r\n\r\n"), "a\nb\n");
    }
}
