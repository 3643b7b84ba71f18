//! API keys: made here, shown once, kept as hashes.

use super::VpsClusterProvider;
use crate::{Error, spec};
use plimsoll_state::{ApiKey, Command, Role, command::RevokeKey};
use plimsoll_types::{Code, KeyId, TenantId};
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
        let id = self.node.new_key();
        let secret = new_secret(id)?;
        let key = ApiKey { id, name: name.into(), role, tenant, hash: hash(&secret), created_at: self.node.now() };
        self.node.commit(Command::CreateKey(key.clone())).await?;
        Ok((Arc::new(key), secret))
    }

    pub(super) async fn end_key(&self, key: KeyId) -> Result<(), Error> {
        self.node.commit(Command::RevokeKey(RevokeKey { key, at: self.node.now() })).await.map(drop)
    }

    /// The key that a secret belongs to. Its id is public and finds it; the rest is compared in constant time.
    pub(super) fn key_of(&self, secret: &str) -> Option<Arc<ApiKey>> {
        if secret.len() > SECRET_MAX {
            return None;
        }
        let (id, _) = secret.strip_prefix(PREFIX)?.split_once('_')?;
        let id: KeyId = format!("key-{id}").parse().ok()?;
        let key = self.node.read(|state| state.keys.get(&id).cloned())?;
        equal(&key.hash, &hash(secret)).then_some(key)
    }
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
