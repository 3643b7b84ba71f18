//! Secrets of sandboxes: sealed before they reach the ledger, opened only on their way into a sandbox's memory.
//!
//! Nothing here may put a plain value, or the cluster's key, into a log line, an error or a `Debug` form.

use crate::{Error, request::Secrets};
use plimsoll_types::{Code, SandboxId};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use std::{collections::BTreeMap, fmt};

/// First byte of a sealed environment; another one means another form.
const FORMAT: u8 = 1;

/// Bytes of a fingerprint: enough that no two clusters share one.
const FINGERPRINT: usize = 8;

/// The cluster's key, the same on every node. Only its length is ever printed.
#[derive(Clone)]
pub struct ClusterSecret([u8; 32]);

impl ClusterSecret {
    /// Wraps 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Seals a secret environment for one sandbox; `None` for an empty one.
    ///
    /// # Errors
    /// `internal` when the system has no randomness.
    pub fn seal(&self, sandbox: SandboxId, secrets: &Secrets) -> Result<Option<Vec<u8>>, Error> {
        if secrets.0.is_empty() {
            return Ok(None);
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| defect("no randomness to seal secrets with"))?;
        let mut body = serde_json::to_vec(&secrets.0).map_err(|_| defect("secrets cannot be written as JSON"))?;
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key()?
            .seal_in_place_append_tag(nonce_used, aad(sandbox), &mut body)
            .map_err(|_| defect("secrets cannot be sealed"))?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        Ok(Some(sealed))
    }

    /// Opens what [`ClusterSecret::seal`] sealed for this sandbox.
    ///
    /// # Errors
    /// `secrets_lost` when it was sealed for another sandbox, with another key, or was changed.
    pub fn open(&self, sandbox: SandboxId, sealed: &[u8]) -> Result<Secrets, Error> {
        let broken = || {
            let why =
                "the sandbox's secrets do not open with this cluster's secret; was it restored with --forget-secrets?";
            Error::new(Code::SecretsLost, why)
        };
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or_else(broken)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut body = body.to_vec();
        let plain = self.key()?.open_in_place(nonce, aad(sandbox), &mut body).map_err(|_| broken())?;
        let map: BTreeMap<String, String> = serde_json::from_slice(plain).map_err(|_| broken())?;
        Ok(Secrets(map))
    }

    /// Tells this secret from another one and nothing else about it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0);
        let tag = ring::hmac::sign(&key, b"plimsoll backup v1");
        tag.as_ref().iter().take(FINGERPRINT).map(|byte| format!("{byte:02x}")).collect()
    }

    fn key(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0).map_err(|_| defect("the cluster's key is unusable"))?;
        Ok(LessSafeKey::new(key))
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(32 bytes)")
    }
}

/// The secrets' file inside a sandbox: one `NAME=value` a line, with `\`, line feeds and carriage returns escaped as `\\`, `\n`
/// and `\r`, so that a line is always one variable.
#[must_use]
pub fn env_file(secrets: &Secrets) -> String {
    let mut text = String::new();
    for (name, value) in &secrets.0 {
        text.push_str(name);
        text.push('=');
        text.push_str(&value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"));
        text.push('\n');
    }
    text
}

/// Binds what is sealed to its sandbox: moved to another one it does not open.
fn aad(sandbox: SandboxId) -> Aad<String> {
    Aad::from(sandbox.to_string())
}

fn defect(what: &str) -> Error {
    Error::new(Code::Internal, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets(BTreeMap::from([("TOKEN".to_owned(), "hunter2\nline \\ two".to_owned())]))
    }

    #[test]
    fn what_is_sealed_opens_for_its_own_sandbox_only() {
        let (secret, other) = (ClusterSecret::new([7; 32]), ClusterSecret::new([8; 32]));
        let (mine, yours) = (SandboxId::from_parts(1, 1), SandboxId::from_parts(1, 2));
        let sealed = secret.seal(mine, &secrets()).expect("seals").expect("something");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(secret.open(mine, &sealed).expect("opens"), secrets());
        assert!(secret.open(yours, &sealed).is_err() && other.open(mine, &sealed).is_err());
        let mut bent = sealed;
        bent[20] ^= 1;
        assert!(secret.open(mine, &bent).is_err() && secret.open(mine, &[]).is_err());
    }

    #[test]
    fn nothing_prints_a_secret() {
        let shown = format!("{:?} {:?}", ClusterSecret::new([0x41; 32]), secrets());
        assert!(!shown.contains("65") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_file_has_one_line_a_variable() {
        assert_eq!(env_file(&secrets()), "TOKEN=hunter2\\nline \\\\ two\n");
    }
}
