//! `Freeze`: holds a sandbox still where it is, in memory, or lets it go on. Its capacity stays reserved.

use super::entry::Entry;
use crate::{EventKind, Outcome, Refusal, State, command::Freeze};
use plimsoll_types::Phase;

pub(super) fn set(state: &mut State, entry: &mut Entry, item: &Freeze) -> Result<Outcome, Refusal> {
    let sandbox = state.sandboxes.get(&item.sandbox).ok_or(Refusal::SandboxUnknown)?;
    if item.generation != sandbox.generation {
        return Err(Refusal::GenerationPast);
    }
    if sandbox.phase != Phase::Running {
        return Err(Refusal::WrongPhase(sandbox.phase));
    }
    if sandbox.frozen_since.is_some() == item.frozen {
        return Ok(Outcome::Done);
    }
    if let Some(work) = &sandbox.work {
        return Err(Refusal::UnderWay(work.operation));
    }
    let tenant = sandbox.tenant.clone();
    state.update_sandbox(item.sandbox, |sandbox| sandbox.frozen_since = item.frozen.then_some(item.at));
    entry.emit(state, item.at, EventKind::Frozen { sandbox: item.sandbox, tenant, frozen: item.frozen });
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, testing::*};
    use plimsoll_types::Generation;

    #[test]
    fn a_frozen_sandbox_runs_and_keeps_its_room() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let freeze = |frozen| Freeze { sandbox: id(1), generation: Generation::FIRST, frozen, at: at(40) };
        check(&mut state, &Command::Freeze(freeze(true)), &Outcome::Done);
        check(&mut state, &Command::Freeze(freeze(true)), &Outcome::Done);
        assert_eq!((sandbox(&state, 1).frozen_since, host(&state, 0).sandboxes), (Some(at(40)), 1));
        let stale = Freeze { generation: Generation(2), ..freeze(false) };
        check(&mut state, &Command::Freeze(stale), &Outcome::Refused(Refusal::GenerationPast));
        check(&mut state, &Command::Freeze(freeze(false)), &Outcome::Done);
        assert_eq!(sandbox(&state, 1).frozen_since, None);
    }
}
