//! What to do next, as values: the planner that derives steps from state, and the ports that adapters implement.
//!
//! Nothing here does anything: no runtime, clock, randomness or I/O. The engine executes what the planner prints.

pub mod naming;
pub mod planner;
pub mod ports;

pub use planner::{Plan, Step};
