//! What a caller was told stays so: a sandbox that exists is in the state with its session, one that is gone stays gone.

use crate::sim::oracle::Scene;
use plimsoll_types::Desired;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, (tenant, session)) in &scene.promises.sandboxes {
        match scene.state.sandboxes.get(id) {
            None => broken.push(format!("{id} was acknowledged and is gone")),
            Some(sandbox) if sandbox.tenant != *tenant || sandbox.session != *session => {
                let detail = format!("{id} was acknowledged for {tenant}/{session}");
                broken.push(format!("{detail} and is {}/{}", sandbox.tenant, sandbox.session));
            }
            Some(_) => {}
        }
    }
    let wanted = scene.promises.gone.iter().filter_map(|id| scene.state.sandboxes.get(id));
    let back = wanted.filter(|sandbox| sandbox.desired != Desired::Terminated);
    broken.extend(back.map(|sandbox| format!("{} was said to be gone and is {}", sandbox.id, sandbox.phase)));
    broken
}
