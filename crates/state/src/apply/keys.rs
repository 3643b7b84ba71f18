//! API keys: only hashes come here, never a secret.

use super::entry::Entry;
use crate::{ApiKey, Outcome, Refusal, State, command::RevokeKey};
use std::sync::Arc;

/// Most API keys: far more than people keep track of, and each is in the memory of every node.
pub const KEYS_LIMIT: usize = 10_000;

/// A retry of the same proposal is answered like the first.
pub(super) fn create(state: &mut State, entry: &mut Entry, key: &ApiKey) -> Result<Outcome, Refusal> {
    if let Some(known) = state.keys.get(&key.id) {
        return if **known == *key { Ok(Outcome::KeyCreated(key.id)) } else { Err(Refusal::KeyExists) };
    }
    if state.index.key_hashes.contains_key(&key.hash) {
        return Err(Refusal::KeyExists);
    }
    if state.keys.len() >= KEYS_LIMIT {
        return Err(Refusal::LimitReached);
    }
    state.index.key_hashes.insert(key.hash, key.id);
    state.keys.insert(key.id, Arc::new(key.clone()));
    entry.cluster(state, key.created_at, &format!("API key {} created", key.id));
    Ok(Outcome::KeyCreated(key.id))
}

pub(super) fn revoke(state: &mut State, entry: &mut Entry, revoke: &RevokeKey) -> Result<Outcome, Refusal> {
    let key = state.keys.remove(&revoke.key).ok_or(Refusal::KeyUnknown)?;
    state.index.key_hashes.remove(&key.hash);
    entry.cluster(state, revoke.at, &format!("API key {} revoked", key.id));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Role, testing::*};
    use plimsoll_types::KeyId;

    fn key(n: u8) -> ApiKey {
        let id = KeyId::from_parts(1, u128::from(n));
        ApiKey { id, name: "k".into(), role: Role::Platform, tenant: tenant(), hash: [n; 32], created_at: at(5) }
    }

    #[test]
    fn keys_come_and_go() {
        let mut state = cluster();
        let created = Outcome::KeyCreated(key(1).id);
        check(&mut state, &Command::CreateKey(key(1)), &created);
        check(&mut state, &Command::CreateKey(key(1)), &created);
        assert_eq!(state.key_by_hash(&[1; 32]).map(|key| key.id), Some(key(1).id));
        let exists = Outcome::Refused(Refusal::KeyExists);
        check(&mut state, &Command::CreateKey(ApiKey { hash: [2; 32], ..key(1) }), &exists);
        check(&mut state, &Command::CreateKey(ApiKey { hash: [1; 32], ..key(2) }), &exists);
        let revoke = Command::RevokeKey(RevokeKey { key: key(1).id, at: at(6) });
        check(&mut state, &revoke, &Outcome::Done);
        check(&mut state, &revoke, &Outcome::Refused(Refusal::KeyUnknown));
        assert!(state.key_by_hash(&[1; 32]).is_none());
    }
}
