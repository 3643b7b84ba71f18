//! API keys: made here, shown once, kept as hashes.

use super::VpsClusterProvider;
use crate::{Error, spec};
use plimsoll_lifecycle::ports::LedgerError;
use plimsoll_state::{ApiKey, Command, Role, command::RevokeKey};
use plimsoll_types::{Code, KeyId, TenantId, Timestamp};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use std::{fmt::Write, sync::Arc};

/// How every secret begins, so that scanners for leaked secrets know it.
const PREFIX: &str = "plm_";
/// Longest name of a key; it stands in tables.
const NAME_MAX: usize = 64;
/// No secret is longer; what is longer is not hashed.
const SECRET_MAX: usize = 256;

impl VpsClusterProvider {
    pub(super) async fn make_key(
        &self,
        name: &str,
        role: Role,
        tenant: TenantId,
    ) -> Result<(Arc<ApiKey>, String), Error> {
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(spec::invalid("name", format_args!("use 1 to {NAME_MAX} bytes without control characters")));
        }
        let secret = Self::new_secret(self.node.now())?;
        let key = self.accept_key(&secret, name, role, tenant).await?;
        Ok((key, secret))
    }

    /// The secret of a key that does not exist yet, for a caller who keeps it safely before [`VpsClusterProvider::accept_key`].
    ///
    /// # Errors
    /// `internal` when the system has no randomness.
    pub fn new_secret(now: Timestamp) -> Result<String, Error> {
        new_secret(KeyId::from_parts(now.0, rand::random()))
    }

    /// Makes the key that a secret from [`VpsClusterProvider::new_secret`] stands for. Done already is success.
    ///
    /// # Errors
    /// When the secret is malformed, or the ledger does not take the key.
    pub async fn accept_key(
        &self,
        secret: &str,
        name: &str,
        role: Role,
        tenant: TenantId,
    ) -> Result<Arc<ApiKey>, Error> {
        let key = Self::key_for(secret, name, role, tenant, self.node.now())?;
        let (id, hash) = (key.id, key.hash);
        if let Some(known) = self.node.read(|state| state.keys.get(&id).filter(|key| key.hash == hash).cloned()) {
            return Ok(known);
        }
        self.node.commit(Command::CreateKey(key.clone())).await?;
        Ok(Arc::new(key))
    }

    /// The record of the key that a secret stands for.
    ///
    /// # Errors
    /// When the secret is malformed.
    pub fn key_for(secret: &str, name: &str, role: Role, tenant: TenantId, now: Timestamp) -> Result<ApiKey, Error> {
        let id = id_in(secret).ok_or_else(|| spec::invalid("secret", format_args!("it is no key of Plimsoll's")))?;
        Ok(ApiKey { id, name: name.into(), role, tenant, hash: hash(secret), created_at: now })
    }

    pub(super) async fn end_key(&self, key: KeyId) -> Result<(), Error> {
        self.node.commit(Command::RevokeKey(RevokeKey { key, at: self.node.now() })).await.map(drop)
    }

    /// The key that a secret belongs to. Its id is public and finds it; the rest is compared in constant time.
    pub(super) async fn key_of(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, Error> {
        let Some(id) = id_in(secret) else { return Ok(None) };
        let known = || self.node.read(|state| state.keys.get(&id).cloned());
        let mut found = known();
        // It may have been made on another node a moment ago. What is known here never changes: a wrong secret needs no question.
        if found.is_none() && !self.lookups.is_unknown(id) {
            self.lookups.confirm(|| self.node.ledger.barrier()).await.map_err(unconfirmed)?;
            found = known();
            if found.is_none() {
                self.lookups.unknown(id);
            }
        }
        Ok(found.filter(|key| equal(&key.hash, &hash(secret))))
    }
}

/// The id of the key that a secret names.
fn id_in(secret: &str) -> Option<KeyId> {
    if secret.len() > SECRET_MAX {
        return None;
    }
    let (id, _) = secret.strip_prefix(PREFIX)?.split_once('_')?;
    format!("key-{id}").parse().ok()
}

fn unconfirmed(error: LedgerError) -> Error {
    let Error { code, message, .. } = error.into();
    Error::new(code, format!("this node does not know the API key and cannot ask the others: {message}"))
}

/// `plm_<id>_<64 hex digits>`: 256 random bits.
fn new_secret(id: KeyId) -> Result<String, Error> {
    let mut bits = [0_u8; 32];
    SystemRandom::new().fill(&mut bits).map_err(|_| Error::new(Code::Internal, "no randomness for a key"))?;
    let id = id.to_string();
    let mut secret = format!("{PREFIX}{}_", id.strip_prefix("key-").unwrap_or(&id));
    for byte in bits {
        // Writing into a string cannot fail.
        let _always = write!(secret, "{byte:02x}");
    }
    Ok(secret)
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

/// Looks at every byte, whatever the first ones say.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0_u8, |difference, (a, b)| difference | (a ^ b))) == 0
}
