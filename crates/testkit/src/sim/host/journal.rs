//! What ever ran in the whole fleet, so that an oracle can say that nothing ran twice.

use plimsoll_types::{Generation, SandboxId};
use std::collections::{BTreeMap, BTreeSet};

/// One start of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// On which host, by name.
    pub host: String,
    /// Docker's id.
    pub container: String,
    /// For which sandbox.
    pub sandbox: SandboxId,
    /// For which incarnation.
    pub generation: Generation,
}

/// The whole fleet's record of starts, in order.
#[derive(Debug, Default)]
pub struct Journal {
    starts: Vec<Start>,
    running: BTreeMap<SandboxId, BTreeSet<(String, String, Generation)>>,
    doubled: Vec<String>,
}

impl Journal {
    pub(super) fn started(&mut self, start: Start) {
        let copies = self.running.entry(start.sandbox).or_default();
        copies.insert((start.host.clone(), start.container.clone(), start.generation));
        if copies.iter().filter(|(_, _, generation)| *generation == start.generation).count() > 1 {
            self.doubled.push(format!("{} runs twice at generation {}: {copies:?}", start.sandbox, start.generation));
        }
        let elsewhere = self.starts.iter().find(|before| {
            before.sandbox == start.sandbox && before.generation == start.generation && before.host != start.host
        });
        if let Some(before) = elsewhere {
            self.doubled.push(format!(
                "generation {} of {} ran on {} and {}",
                start.generation, start.sandbox, before.host, start.host
            ));
        }
        self.starts.push(start);
    }

    pub(super) fn stopped(&mut self, host: &str, sandbox: SandboxId, container: &str) {
        if let Some(copies) = self.running.get_mut(&sandbox) {
            copies.retain(|(on, id, _)| on != host || id != container);
        }
    }

    /// Every start, in order.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// Every time that two containers of one incarnation ran at once, or one incarnation ran on two hosts.
    #[must_use]
    pub fn doubled(&self) -> &[String] {
        &self.doubled
    }
}
