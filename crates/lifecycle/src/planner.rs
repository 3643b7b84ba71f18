//! The planner: which steps bring a sandbox, or a host, from what is to what state wants. It decides and never acts.
//!
//! Plans are derived from state and from what was seen on the host, and from nothing else: whoever leads derives the same.

mod collect;
mod drift;
mod reconcile;
mod sandbox;
mod step;
mod work;

pub use collect::{Room, collect};
pub use drift::{Finding, Sighting, Verdict, drift};
pub use reconcile::{Before, Listed, reconcile};
pub use sandbox::{Facts, container_plan, plan};
pub use step::{Plan, Planned, Side, Step};
pub use work::{WorkFacts, undo, work};
