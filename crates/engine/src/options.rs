//! What can be set about the engine, and the bounds that cannot.

use crate::secret::ClusterSecret;
use std::time::Duration;

/// How the engine works on this node. Every node of a cluster has the same secret.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Seals secret environments.
    pub secret: ClusterSecret,
    /// How often each host is measured.
    pub poll: Duration,
    /// The longest time from one comparison of a host's containers with state to its next; each host has a pace of its own.
    pub reconcile: Duration,
    /// No good poll for so long makes a host unreachable.
    pub unreachable_after: Duration,
    /// No good poll for so long makes a host lost.
    pub lost_after: Duration,
    /// How long one incarnation may take from starting to running.
    pub create_budget: Duration,
    /// How many creates run at once on one host: Docker gains nothing from more, and image pulls share its disk.
    pub creates_per_host: usize,
}

impl EngineOptions {
    /// The usual timing.
    #[must_use]
    pub const fn new(secret: ClusterSecret) -> Self {
        Self {
            secret,
            poll: Duration::from_secs(2),
            reconcile: Duration::from_secs(15),
            unreachable_after: Duration::from_secs(10),
            lost_after: Duration::from_secs(60),
            create_budget: Duration::from_secs(180),
            creates_per_host: 4,
        }
    }
}
