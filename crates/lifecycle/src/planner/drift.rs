//! Drift: what the containers' labels on all hosts say, compared with what state says. It decides nothing; an operator does.
//!
//! A cluster that was restored from a backup may know less than its hosts hold. Generations order what happened since: of one
//! sandbox the container with the highest one is the latest.

use crate::{
    naming,
    ports::{ContainerSeen, ContainerState},
};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Generation, HostId, Phase, SandboxId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// How a finding is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// A container that state does not know, or of a later generation than state's: it can be taken over.
    Adopt,
    /// A container that nothing needs any more: it would be removed.
    Orphan,
    /// State has it on a host, and no host has a container of it.
    Lost,
    /// Hosts that do not answer may have it.
    Unknown,
    /// It is as state says.
    Same,
}

impl Verdict {
    /// Every verdict, the ones to act on first.
    pub const ALL: [Self; 5] = [Self::Adopt, Self::Orphan, Self::Lost, Self::Unknown, Self::Same];

    /// The name in the API and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopt => "adopt",
            Self::Orphan => "orphan",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Same => "same",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of the comparison: a container, or a sandbox that should have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is to be read.
    pub verdict: Verdict,
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Where the container is, or should be.
    pub host: Option<HostId>,
    /// The generation that is meant: the container's, or state's where there is none.
    pub generation: Generation,
    /// The container, where one was found.
    pub seen: Option<ContainerSeen>,
    /// Its phase, where state knows the sandbox.
    pub phase: Option<Phase>,
    /// Why, in a sentence.
    pub why: String,
}

/// What was found on the hosts that answered, and which did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The cluster's containers by host, stopped ones included.
    pub seen: BTreeMap<HostId, Vec<ContainerSeen>>,
    /// Hosts that do not answer.
    pub silent: BTreeSet<HostId>,
}

/// Compares. `state` must be read, behind a barrier, after the hosts were listed. Lines with something to act on come first.
#[must_use]
pub fn drift(state: &State, sighting: &Sighting) -> Vec<Finding> {
    let mut by_sandbox: BTreeMap<SandboxId, Vec<Copy<'_>>> = BTreeMap::new();
    let ours = |seen: &&ContainerSeen| state.cluster.is_some() && seen.cluster == state.cluster;
    for (host, list) in &sighting.seen {
        for seen in list.iter().filter(ours) {
            // Helpers have no generation; who made one removes it, and what a dead operation left is removed by the reconciler.
            if let (Some(id), Some(generation)) = (seen.sandbox, seen.generation) {
                by_sandbox.entry(id).or_default().push(Copy { host: *host, generation, seen });
            }
        }
    }
    for sandbox in state.sandboxes.values() {
        by_sandbox.entry(sandbox.id).or_default();
    }
    let mut lines = Vec::new();
    for (id, mut copies) in by_sandbox {
        copies.sort_by_key(|copy| (copy.generation, copy.host, copy.seen.id.as_str()));
        match state.sandboxes.get(&id) {
            None => strangers(id, &copies, &mut lines),
            Some(sandbox) if sandbox.phase.is_live() || later(sandbox, &copies).is_some() => {
                known(sandbox, &copies, sighting, &mut lines);
            }
            Some(sandbox) => {
                lines.extend(copies.iter().map(|copy| copy.line(sandbox_says(sandbox), id, Some(sandbox))))
            }
        }
    }
    lines.sort_by_key(|line| (line.verdict, line.host, line.sandbox, line.generation));
    lines
}

/// One container of a sandbox.
#[derive(Clone, Copy)]
struct Copy<'a> {
    host: HostId,
    generation: Generation,
    seen: &'a ContainerSeen,
}

type Said = (Verdict, String);

impl Copy<'_> {
    /// Whether it can have been the sandbox: it ran, and was not put aside for another.
    fn lived(&self) -> bool {
        let ran = match self.seen.state {
            ContainerState::Running | ContainerState::Paused | ContainerState::Exited(_) => true,
            ContainerState::Created | ContainerState::Dead => false,
        };
        ran && !naming::is_fenced(&self.seen.name)
    }

    fn line(&self, (verdict, why): Said, sandbox: SandboxId, known: Option<&Sandbox>) -> Finding {
        Finding {
            verdict,
            sandbox,
            host: Some(self.host),
            generation: self.generation,
            seen: Some(self.seen.clone()),
            phase: known.map(|known| known.phase),
            why,
        }
    }
}

fn sandbox_says(sandbox: &Sandbox) -> Said {
    (Verdict::Orphan, format!("state has it as {}", sandbox.phase))
}

/// Containers of a sandbox that state does not know.
fn strangers(id: SandboxId, copies: &[Copy<'_>], lines: &mut Vec<Finding>) {
    let named = |copy: &&Copy<'_>| copy.lived() && copy.seen.session.is_some();
    let latest = copies.iter().rev().find(named).map(|copy| copy.seen.id.as_str());
    for copy in copies {
        let said = if latest == Some(copy.seen.id.as_str()) {
            (Verdict::Adopt, "state does not know it: made after the backup".to_owned())
        } else if latest.is_some() {
            (Verdict::Orphan, "an older copy of it, or one that never ran".to_owned())
        } else {
            (Verdict::Orphan, "state does not know it, and it never ran or its labels name no session".to_owned())
        };
        lines.push(copy.line(said, id, None));
    }
}

/// The container of a later incarnation than state's. While a migration is under way its target is part of that, unless the source is
/// gone: then it was finished.
fn later<'a, 'b>(sandbox: &Sandbox, copies: &'b [Copy<'a>]) -> Option<&'b Copy<'a>> {
    if matches!(sandbox.phase, Phase::Terminating | Phase::Terminated) {
        return None;
    }
    let there = current(sandbox, copies).is_some();
    let target = sandbox.work.as_ref().and_then(|work| work.target);
    let moving =
        |copy: &Copy<'_>| there && target.is_some_and(|at| (at.host, at.generation) == (copy.host, copy.generation));
    let after = |copy: &&Copy<'_>| {
        let newer = copy.generation > sandbox.generation || (!there && copy.generation == sandbox.generation);
        copy.lived() && newer && !moving(copy)
    };
    copies.iter().rev().find(after)
}

/// The container that state means.
fn current<'a, 'b>(sandbox: &Sandbox, copies: &'b [Copy<'a>]) -> Option<&'b Copy<'a>> {
    let here = |copy: &&Copy<'_>| {
        sandbox.assignment.is_some_and(|at| (at.host, at.generation) == (copy.host, copy.generation))
            && !naming::is_fenced(&copy.seen.name)
    };
    match &sandbox.container {
        Some(id) => copies.iter().filter(here).find(|copy| copy.seen.id == **id),
        None => copies.iter().find(here),
    }
}

fn known(sandbox: &Sandbox, copies: &[Copy<'_>], sighting: &Sighting, lines: &mut Vec<Finding>) {
    let (now, latest) = (current(sandbox, copies), later(sandbox, copies));
    let is = |copy: &Copy<'_>, other: Option<&Copy<'_>>| other.is_some_and(|other| other.seen.id == copy.seen.id);
    for copy in copies {
        let said = if is(copy, latest) {
            (Verdict::Adopt, format!("later than what state knows, generation {}", sandbox.generation))
        } else if is(copy, now) {
            (Verdict::Same, latest.map_or_else(|| ended(copy), until))
        } else {
            beside(sandbox, copy)
        };
        lines.push(copy.line(said, sandbox.id, Some(sandbox)));
    }
    if now.is_none() && latest.is_none() && expects(sandbox) {
        lines.push(missing(sandbox, sighting));
    }
}

fn until(latest: &Copy<'_>) -> String {
    format!("until generation {} is taken over; it is removed after that", latest.generation)
}

fn ended(copy: &Copy<'_>) -> String {
    match copy.seen.state {
        ContainerState::Exited(code) => format!("its container has ended, with exit code {code}"),
        ContainerState::Created | ContainerState::Running | ContainerState::Paused | ContainerState::Dead => {
            String::new()
        }
    }
}

/// A container that is neither the present one nor a later one.
fn beside(sandbox: &Sandbox, copy: &Copy<'_>) -> Said {
    let target = sandbox.work.as_ref().and_then(|work| work.target);
    if target.is_some_and(|at| (at.host, at.generation) == (copy.host, copy.generation)) {
        return (Verdict::Same, "the target of its migration".to_owned());
    }
    let replaced = |it: &plimsoll_state::Superseded| (it.host, it.generation) == (copy.host, copy.generation);
    if sandbox.superseded.iter().any(replaced) || naming::is_fenced(&copy.seen.name) {
        return (Verdict::Same, "a replaced copy, kept for its time".to_owned());
    }
    (Verdict::Orphan, format!("state has it at generation {}, {}", sandbox.generation, sandbox.phase))
}

/// Whether a container of it should stand somewhere. One that was only told to start may have run and ended since: started again it
/// would run a second time.
fn expects(sandbox: &Sandbox) -> bool {
    match sandbox.phase {
        Phase::Assigned
        | Phase::Starting
        | Phase::Running
        | Phase::Pausing
        | Phase::Migrating
        | Phase::Lost
        | Phase::Restoring => true,
        Phase::Pending | Phase::Paused | Phase::Failed | Phase::Terminating | Phase::Terminated => false,
    }
}

fn missing(sandbox: &Sandbox, sighting: &Sighting) -> Finding {
    let host = sandbox.assignment.map(|at| at.host);
    let away = host.is_some_and(|host| sighting.silent.contains(&host));
    let (verdict, why) = if away {
        (Verdict::Unknown, "its host does not answer".to_owned())
    } else if sighting.silent.is_empty() {
        (Verdict::Lost, format!("state has it as {}, and no host has a container of it", sandbox.phase))
    } else {
        let count = sighting.silent.len();
        (Verdict::Unknown, format!("not on its host; {count} hosts do not answer and may have it"))
    };
    let (generation, phase) = (sandbox.generation, Some(sandbox.phase));
    Finding { verdict, sandbox: sandbox.id, host, generation, seen: None, phase, why }
}
