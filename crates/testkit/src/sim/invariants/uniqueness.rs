//! No session has two live sandboxes, and no idempotency key was answered with two sandboxes.

use crate::sim::oracle::Scene;
use std::collections::BTreeMap;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut live: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sandbox in scene.state.sandboxes.values().filter(|sandbox| sandbox.phase.is_live()) {
        live.entry((&sandbox.tenant, &sandbox.session)).or_default().push(sandbox.id);
    }
    let sessions = live.into_iter().filter(|(_, ids)| ids.len() > 1);
    let mut broken: Vec<_> =
        sessions.map(|((tenant, session), ids)| format!("session {tenant}/{session} has {ids:?}")).collect();
    let keys = scene.promises.keys.iter().filter(|(_, ids)| ids.len() > 1);
    broken.extend(keys.map(|(key, ids)| format!("key {key} was answered with {ids:?}")));
    broken
}
