//! One node's copy of the state, judged after every command: invariants hold, and replicas agree.

use plimsoll_state::{Command, Outcome, State, invariants};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

/// Whole states are compared at every so many indexes (and outcomes at each): writing a state out costs its whole size,
/// and a difference does not go away by itself.
const DIGEST_EVERY: u64 = 16;

/// What is committed: commands and, like raft's own, entries that carry none.
pub(super) type Entry = Option<Arc<Command>>;

/// A node's copy of the state and how far it is.
#[derive(Default)]
pub(super) struct Replica {
    pub(super) state: State,
    pub(super) applied: u64,
}

/// What the first replica to apply an index made of it; every other must agree.
#[derive(Default)]
pub(super) struct Agreement {
    outcomes: BTreeMap<u64, Outcome>,
    digests: BTreeMap<u64, u64>,
}

impl Agreement {
    /// What the command at an index came to.
    pub(super) fn outcome(&self, index: u64) -> Option<&Outcome> {
        self.outcomes.get(&index)
    }
}

impl Replica {
    /// Applies the entries up to and including `upto`; answers what broke.
    pub(super) fn catch_up(&mut self, log: &[Entry], upto: u64, agreement: &mut Agreement) -> Vec<String> {
        let mut broken = Vec::new();
        while self.applied < upto {
            let index = self.applied + 1;
            if let Some(command) =
                usize::try_from(self.applied).ok().and_then(|at| log.get(at)).and_then(Option::as_ref)
            {
                let outcome = self.state.apply(index, command);
                broken.extend(judge(&self.state, index));
                match agreement.outcomes.get(&index) {
                    None => drop(agreement.outcomes.insert(index, outcome)),
                    Some(first) if *first == outcome => {}
                    Some(first) => broken.push(format!("index {index}: replicas answer {first:?} and {outcome:?}")),
                }
            }
            self.applied = index;
            if index.is_multiple_of(DIGEST_EVERY) {
                let digest = digest(&self.state);
                if *agreement.digests.entry(index).or_insert(digest) != digest {
                    broken.push(format!("index {index}: replicas have different states"));
                }
            }
        }
        broken
    }

    /// The same state as a node would have that was sent a snapshot.
    pub(super) fn through_snapshot(&self) -> Result<Self, String> {
        let mut bytes = Vec::new();
        self.state.write_snapshot(&mut bytes).map_err(|error| error.to_string())?;
        let state = State::read_snapshot(bytes.as_slice()).map_err(|error| error.to_string())?;
        if state != self.state {
            return Err(format!("index {}: the state read from a snapshot differs from the one written", self.applied));
        }
        Ok(Self { state, applied: self.applied })
    }
}

/// A digest of the whole state.
fn digest(state: &State) -> u64 {
    let mut bytes = Vec::new();
    let mut hasher = DefaultHasher::new();
    // A state that cannot be written has no digest in common with one that can.
    if state.write_snapshot(&mut bytes).is_ok() {
        hasher.write(&bytes);
    }
    hasher.finish()
}

/// What the state machine itself says must hold.
fn judge(state: &State, index: u64) -> Vec<String> {
    invariants::check(state).into_iter().map(|violation| format!("index {index}: {violation}")).collect()
}
