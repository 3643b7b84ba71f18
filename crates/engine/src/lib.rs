//! The engine: the leader's loops that make desired true, and the façade that everything above talks to.
//!
//! It knows neither raft nor Docker: only the ports that `lifecycle` declares.

pub mod cluster;
mod drivers;
pub mod engine;
pub mod error;
mod facade;
mod leader;
pub mod metrics;
mod node;
mod operation;
pub mod options;
pub mod policy;
pub mod provider;
mod questions;
pub mod request;
pub mod request_id;
mod scrape;
pub mod secret;
mod sessions;
pub mod spec;

pub use cluster::{
    Backup, ClusterOperations, DrainStatus, DrainWish, DriftLine, DriftReport, DriftWish, HostCheck, HostStatus,
    LeftBehind, NewHost, ProposedMove, Settled,
};
pub use engine::Engine;
pub use error::Error;
pub use facade::VpsClusterProvider;
pub use options::EngineOptions;
pub use provider::SandboxProvider;
pub use request::{Awake, Explained, HostVerdict, NewSandbox, Provided, Scope, Secrets, Wait};
pub use request_id::RequestId;
pub use secret::ClusterSecret;
