//! The replicated state machine: what commands exist, how each is applied, what must always hold, how state is read.
//!
//! Apply is total and deterministic: no clock, no randomness, no floats, no unordered maps, no I/O. Whoever proposes has
//! decided everything beforehand; apply only checks that what was assumed still holds and answers a named [`Outcome`].

pub mod apply;
pub mod backup;
pub mod command;
mod crowd;
pub mod event;
mod hashing;
pub mod index;
pub mod invariants;
pub mod model;
pub mod outcome;
pub mod query;
pub mod snapshot;
mod touched;

pub use command::Command;
pub use crowd::Crowd;
pub use event::{Event, EventKind};
pub use model::{
    ApiKey, Assignment, Cordon, Drain, Hold, Host, Moved, Policy, Restored, Role, SUPERSEDED_LIMIT, Sandbox, Snapshot,
    SnapshotKind, SnapshotPhase, SpentToken, Stage, State, Stored, Superseded, Trouble, Work, WorkKind,
};
pub use outcome::{Outcome, PlaceOutcome, Refusal};
pub use query::{EventPage, Filter, Page};
pub use snapshot::SnapshotError;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
