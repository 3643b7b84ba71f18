//! The invariants of the architecture that a simulation can check, one file each. A check answers with what is broken.

mod acknowledged;
mod content;
mod converged;
mod foreign;
mod generations;
mod one_copy;
mod owners;
mod replicas;
mod reservations;
mod snapshots;
mod uniqueness;

use super::oracle::Scene;

/// A rule and how to check it.
pub struct Invariant {
    /// The rule in a sentence.
    pub name: &'static str,
    /// Every place where it is broken.
    pub check: fn(&Scene<'_>) -> Vec<String>,
}

/// What holds at every moment.
pub const ALWAYS: &[Invariant] = &[
    Invariant { name: "no acknowledged write is lost", check: acknowledged::check },
    Invariant { name: "reservations stay under the load line", check: reservations::check },
    Invariant { name: "a sandbox has at most one running container", check: one_copy::check },
    Invariant { name: "a generation never goes back", check: generations::check },
    Invariant { name: "one key or session never has two live sandboxes", check: uniqueness::check },
    Invariant { name: "replicas agree and are sound", check: replicas::check },
    Invariant { name: "what is available can be pulled", check: snapshots::check },
    Invariant { name: "what was written stays", check: content::check },
    Invariant { name: "what is not ours is left alone", check: foreign::check },
];

/// What holds once faults have healed and time has passed.
pub const SETTLED: &[Invariant] = &[
    Invariant { name: "desired is observed", check: converged::check },
    Invariant { name: "nothing of ours is without an owner", check: owners::check },
];
