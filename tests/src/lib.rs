//! What the suites that cross crates share: the built binary as a command line, and clusters of real node processes.

pub mod cli;
pub mod cluster;
pub mod dashboard;
pub mod guide;
pub mod lab;
pub mod prometheus;
pub mod registry;
pub mod storm;

pub use cli::Cli;
pub use cluster::Cluster;
pub use prometheus::Prometheus;
pub use registry::Registry;
