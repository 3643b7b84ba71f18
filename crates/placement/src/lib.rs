//! Chooses a host for a sandbox, and says why not: filters with typed reasons, a least-loaded score, an exact index.
//!
//! This crate has no runtime, clock, randomness, floats or I/O; it never learns anything by itself. Whoever uses it says
//! what each host is ([`HostView`]) and what became of each decision ([`Placer::settle`], [`Placer::confirm`]).

pub mod candidate;
pub mod explanation;
pub mod filters;
pub mod host;
mod index;
pub mod naive;
pub mod placer;
pub mod rejection;
pub mod request;
pub mod score;
mod tickets;

pub use candidate::Candidate;
pub use explanation::{Explanation, Refusal, Verdict};
pub use host::HostView;
pub use placer::{Decision, Placer};
pub use rejection::Rejection;
pub use request::Request;
pub use score::Score;
pub use tickets::Ticket;
