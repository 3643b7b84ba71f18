//! Who holds a sandbox still: an operation that reads its files, or somebody's wish to freeze it. Never both at once, so that no
//! late thaw wakes what is being read.

use super::desk::not_leading;
use crate::{Error, node::Node, request::no_such_sandbox};
use plimsoll_state::{Command, Refusal, command::Freeze};
use plimsoll_types::{Code, Generation, Phase, SandboxId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// One turn a sandbox. Bounded by those that are waited for: the rest are dropped.
#[derive(Default)]
pub(crate) struct Stillness(Mutex<BTreeMap<SandboxId, Arc<Turn<()>>>>);

impl Stillness {
    /// Waits for this sandbox's turn and keeps it until the guard is dropped.
    pub(crate) async fn of(&self, sandbox: SandboxId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(sandbox).or_default())
        };
        turn.lock_owned().await
    }
}

/// Commits the wish and tells Docker before anything else happens to the sandbox; what a crash leaves undone the reconciler does.
pub(crate) async fn set(node: &Node, id: SandboxId, generation: Generation, frozen: bool) -> Result<(), Error> {
    // An operation keeps its turn for as long as it takes, and its caller would rather know.
    if let Some(refused) = under_way(node, id) {
        return Err(refused);
    }
    let _turn = node.stillness.of(id).await;
    if node.leading.get().is_none() {
        return Err(not_leading());
    }
    let wish = Freeze { sandbox: id, generation, frozen, at: node.now() };
    match node.commit_one(Command::Freeze(wish)).await? {
        Ok(()) => {}
        Err(Refusal::UnderWay(_)) => return Err(under_way(node, id).unwrap_or_else(not_leading)),
        Err(refusal) => return Err(Error::from(refusal).about(id)),
    }
    let found = node.read(|state| {
        let sandbox = state.sandboxes.get(&id)?;
        let host = state.hosts.get(&sandbox.assignment?.host)?;
        Some((Arc::clone(sandbox), Arc::clone(host)))
    });
    let (sandbox, host) = found.ok_or_else(|| no_such_sandbox(id))?;
    let Some(container) = sandbox.container.as_deref().filter(|_| sandbox.phase == Phase::Running) else {
        return Err(Error::new(Code::WrongPhase, format!("{id} is {} by now", sandbox.phase)).about(id));
    };
    let driver = node.drivers.of(&host);
    let told = if frozen { driver.freeze(container).await } else { driver.thaw(container).await };
    told.map_err(|error| Error::from(error).about(id))
}

fn under_way(node: &Node, id: SandboxId) -> Option<Error> {
    let work = node.read(|state| state.sandboxes.get(&id)?.work.clone())?;
    let message = format!("{} of {id} is under way as {}; wait for it", work.kind, work.operation);
    Some(Error::new(Code::OperationUnderWay, message).about(id))
}
