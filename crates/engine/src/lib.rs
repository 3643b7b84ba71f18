//! The engine: the leader's loops that make desired true, and the façade that everything above talks to.
//!
//! It knows neither raft nor Docker: only the ports that `lifecycle` declares.

pub mod cluster;
pub mod error;
pub mod provider;
pub mod request;

pub use cluster::{ClusterOperations, HostCheck, HostStatus, NewHost};
pub use error::Error;
pub use provider::SandboxProvider;
pub use request::{Explained, HostVerdict, NewSandbox, Provided, Scope, Wait};
