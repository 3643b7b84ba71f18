//! Join tokens: printable, expiring, and good on any member.
//!
//! A token holds a member's address, the CA's fingerprint (so the joining node knows whom it talks to), an expiry and a
//! random number, signed with a key derived from the cluster secret. Nothing is stored to make one. That it was used is
//! replicated before the new node gets anything ([`plimsoll_state::Command::SpendJoinToken`]), so it lets in one node, whoever leads.

use crate::{
    error::{Error, Result},
    identity::ClusterSecret,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a token is good: long enough to carry it to another machine, short enough to forget it somewhere.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

const PREFIX: &str = "plimsoll-join-";
/// Longest token text that is looked at.
const MAX_TEXT: usize = 1024;

/// A token, taken apart. Holding it lets one node in, so it is never printed but where it is made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    /// Where a member is reached.
    pub(crate) address: String,
    /// Of the cluster's CA certificate.
    pub(crate) fingerprint: [u8; 32],
    /// Milliseconds since the Unix epoch.
    pub(crate) expires_ms: u64,
    /// Tells tokens apart.
    pub(crate) nonce: [u8; 16],
    /// Over the expiry and the nonce.
    signature: [u8; 32],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(via {})", self.address)
    }
}

impl JoinToken {
    /// Makes a token.
    pub(crate) fn new(secret: &ClusterSecret, address: &str, fingerprint: [u8; 32], lifetime: Duration) -> Self {
        let expires_ms = now_ms().saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        let nonce = rand::random();
        let tag = ring::hmac::sign(&secret.derive("join token"), &message(expires_ms, &nonce));
        let mut signature = [0; 32];
        signature.copy_from_slice(tag.as_ref());
        Self { address: address.to_owned(), fingerprint, expires_ms, nonce, signature }
    }

    /// The text an operator carries to the new node.
    pub(crate) fn to_text(&self) -> Result<String> {
        let bytes = rmp_serde::to_vec(self).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Reads a token without judging it: only the cluster can.
    pub(crate) fn from_text(text: &str) -> Result<Self> {
        let malformed =
            || Error::JoinDenied("it is no join token; copy the whole line that starts with plimsoll-join-".into());
        let body = text.trim().strip_prefix(PREFIX).filter(|body| body.len() <= MAX_TEXT).ok_or_else(malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| malformed())?;
        rmp_serde::from_slice(&bytes).map_err(|_| malformed())
    }

    /// Judges a token.
    pub(crate) fn check(&self, secret: &ClusterSecret) -> Result<()> {
        let key = secret.derive("join token");
        ring::hmac::verify(&key, &message(self.expires_ms, &self.nonce), &self.signature)
            .map_err(|_| Error::JoinDenied("this cluster did not make it".into()))?;
        if self.expires_ms <= now_ms() {
            return Err(Error::JoinDenied("it has expired".into()));
        }
        Ok(())
    }
}

fn message(expires_ms: u64, nonce: &[u8; 16]) -> Vec<u8> {
    [&expires_ms.to_be_bytes()[..], nonce].concat()
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_only_its_cluster_accepts_it() {
        let (ours, theirs) = (ClusterSecret::random(), ClusterSecret::random());
        let token = JoinToken::new(&ours, "10.0.0.1:7000", [7; 32], TOKEN_LIFETIME);
        let read = JoinToken::from_text(&token.to_text().unwrap()).unwrap();
        assert_eq!(read, token);
        read.check(&ours).unwrap();
        assert!(matches!(read.check(&theirs), Err(Error::JoinDenied(_))));
        let longer = JoinToken { expires_ms: token.expires_ms + 1, ..token };
        assert!(matches!(longer.check(&ours), Err(Error::JoinDenied(_))), "the expiry is signed");
    }

    #[test]
    fn expired_and_malformed_tokens_are_refused() {
        let secret = ClusterSecret::random();
        let token = JoinToken::new(&secret, "h:1", [0; 32], Duration::ZERO);
        assert!(token.check(&secret).unwrap_err().to_string().contains("expired"));
        for text in ["", "plimsoll-join-", "plimsoll-join-AAAA", "hello", "plimsoll-join-!!"] {
            assert!(matches!(JoinToken::from_text(text), Err(Error::JoinDenied(_))), "{text:?}");
        }
    }
}
