//! The registry that snapshots go through, as the control plane itself reaches it: a small typed client of the OCI distribution API.
//!
//! It moves no layers: hosts push and pull those. Credentials never reach a log line or an error.

mod client;
mod http;
mod options;
mod paging;
pub(crate) mod seal;

pub(crate) use client::{Client, Manifest};
pub(crate) use options::Place;
pub use options::RegistryOptions;
