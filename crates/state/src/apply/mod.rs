//! How each command changes state: one file a command group, each a total function.

use crate::{Command, Outcome, State};

impl State {
    /// Applies one command at a raft index. Total and deterministic: the same state and command give the same new state
    /// and outcome on every node.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        let _ = command;
        self.applied = index;
        Outcome::Done
    }
}
