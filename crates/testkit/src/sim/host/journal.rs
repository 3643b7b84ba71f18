//! What ever ran in the whole fleet, so that an oracle can say that nothing ran twice.

use plimsoll_types::{Generation, OperationId, SandboxId};
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
    /// By which operation; a move that was given up and the next one have the same generation.
    pub operation: Option<OperationId>,
}

/// A container that began to run, or went on, while another one of its sandbox ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Of which sandbox.
    pub sandbox: SandboxId,
    /// The host and incarnation that began.
    pub began: (String, Generation),
    /// The host and incarnation that ran already.
    pub beside: (String, Generation),
}

/// A container that runs: host, Docker's id, incarnation.
type Copy = (String, String, Generation);

/// The whole fleet's record of starts, in order.
#[derive(Debug, Default)]
pub struct Journal {
    starts: Vec<Start>,
    running: BTreeMap<SandboxId, BTreeSet<Copy>>,
    doubled: Vec<String>,
    overlaps: Vec<Overlap>,
    freezes: BTreeMap<SandboxId, u64>,
    unfrozen: Vec<String>,
    /// Hosts that were away, or did something late: nobody can know what runs there.
    disturbed: BTreeSet<String>,
}

impl Journal {
    pub(super) fn started(&mut self, start: Start) {
        let elsewhere = self.starts.iter().find(|before| {
            (before.sandbox, before.generation, before.operation) == (start.sandbox, start.generation, start.operation)
                && before.host != start.host
        });
        if let Some(before) = elsewhere {
            self.doubled.push(format!(
                "generation {} of {} ran on {} and {}",
                start.generation, start.sandbox, before.host, start.host
            ));
        }
        self.starts.push(start);
    }

    /// A container runs, be it that it was started or thawed.
    pub(super) fn runs(&mut self, host: &str, container: &str, sandbox: SandboxId, generation: Generation) {
        let copies = self.running.entry(sandbox).or_default();
        for (beside, id, other) in copies.iter() {
            if (beside.as_str(), id.as_str()) == (host, container) {
                continue;
            }
            let (began, beside) = ((host.to_owned(), generation), (beside.clone(), *other));
            if !self.disturbed.contains(host) && !self.disturbed.contains(&beside.0) {
                self.overlaps.push(Overlap { sandbox, began, beside });
            }
        }
        copies.insert((host.to_owned(), container.to_owned(), generation));
    }

    pub(super) fn froze(&mut self, host: &str, sandbox: SandboxId, container: &str) {
        *self.freezes.entry(sandbox).or_default() += 1;
        self.stopped(host, sandbox, container);
    }

    pub(super) fn stopped(&mut self, host: &str, sandbox: SandboxId, container: &str) {
        if let Some(copies) = self.running.get_mut(&sandbox) {
            copies.retain(|(on, id, _)| on != host || id != container);
        }
    }

    pub(super) fn committed_running(&mut self, host: &str, what: String) {
        if !self.disturbed.contains(host) {
            self.unfrozen.push(what);
        }
    }

    pub(super) fn disturb(&mut self, host: &str) {
        if !self.disturbed.contains(host) {
            self.disturbed.insert(host.to_owned());
        }
    }

    /// Every start, in order.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// Every time that one incarnation, made by one operation, ran on two hosts.
    #[must_use]
    pub fn doubled(&self) -> &[String] {
        &self.doubled
    }

    /// Every time that two containers of a sandbox ran at once on hosts that were never away.
    #[must_use]
    pub fn overlaps(&self) -> &[Overlap] {
        &self.overlaps
    }

    /// Whether a host was ever away or late.
    #[must_use]
    pub fn disturbed(&self, host: &str) -> bool {
        self.disturbed.contains(host)
    }

    /// How often a sandbox was held still.
    #[must_use]
    pub fn freezes(&self, sandbox: SandboxId) -> u64 {
        self.freezes.get(&sandbox).copied().unwrap_or(0)
    }

    /// Every time that a running container was to be committed on a host that was never away: its files would be of many moments.
    #[must_use]
    pub fn unfrozen(&self) -> &[String] {
        &self.unfrozen
    }
}
