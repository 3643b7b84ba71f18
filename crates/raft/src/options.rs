//! How a node is set up.

use crate::error::{Error, Result};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// A node's settings. Only the folder and the addresses have no sensible default.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's folder.
    pub data_dir: PathBuf,
    /// Where to listen for peers.
    pub listen: SocketAddr,
    /// Where peers reach this node, as `host:port`.
    pub advertise: String,
    /// Where this node's API is, as a URL; shown to whoever asks for the members.
    pub api_url: String,
    /// Raft's timers.
    pub timers: Timers,
    /// A snapshot is taken every so many log entries; the log is kept for twice as many.
    pub snapshot_every: u64,
    /// Proposals of this node that may be under way; further ones are refused as overload.
    pub max_proposals: usize,
}

/// Raft's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// How often the leader shows itself; a sign that is not answered within three quarters of it counts as lost, so that a shorter
    /// one would lose them all on a busy machine.
    pub heartbeat: Duration,
    /// The shortest time that a follower waits after the lease before it stands for election. It must be much longer than a vote
    /// takes, with its flushes to the disk: whoever waited longer sees the other's vote in time.
    pub election_min: Duration,
    /// The longest; also the lease: a leader is followed for so long after its last sign, and nobody else is voted for. A follower
    /// thus stands after a silence of `election_max + election_min` at the earliest, and of twice `election_max` at the latest. A
    /// lease shorter than a second would let stalls of a busy disk or processor depose leaders that are well.
    pub election_max: Duration,
    /// How long a follower may take to install a snapshot.
    pub snapshot: Duration,
    /// How long a proposal waits for a leader and a quorum.
    pub proposal: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            snapshot: Duration::from_secs(60),
            proposal: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Entries between snapshots: a few seconds of a busy cluster, so that a restart replays little.
    pub const SNAPSHOT_EVERY: u64 = 10_000;
    /// Proposals under way: what a full group commit takes in, with as many waiting behind it.
    pub const MAX_PROPOSALS: usize = 4_096;

    /// Settings with defaults.
    #[must_use]
    pub fn new(
        data_dir: impl Into<PathBuf>,
        listen: SocketAddr,
        advertise: impl Into<String>,
        api_url: impl Into<String>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen,
            advertise: advertise.into(),
            api_url: api_url.into(),
            timers: Timers::default(),
            snapshot_every: Self::SNAPSHOT_EVERY,
            max_proposals: Self::MAX_PROPOSALS,
        }
    }

    pub(crate) fn raft_config(&self) -> Result<Arc<openraft::Config>> {
        let valid_address = self
            .advertise
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !valid_address {
            return Err(Error::Invalid(format!("the raft address {:?} is not host:port", self.advertise)));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = openraft::Config {
            cluster_name: "plimsoll".into(),
            heartbeat_interval: ms(self.timers.heartbeat),
            election_timeout_min: ms(self.timers.election_min),
            election_timeout_max: ms(self.timers.election_max),
            install_snapshot_timeout: ms(self.timers.snapshot),
            max_payload_entries: 1024,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            // The snapshot before the newest must have a log to continue from, should the newest be damaged.
            max_in_snapshot_log_to_keep: self.snapshot_every.saturating_mul(2),
            replication_lag_threshold: self.snapshot_every.saturating_mul(2),
            purge_batch_size: (self.snapshot_every / 4).max(1),
            enable_pre_vote: Some(true),
            // A node that restarts must be elected again: its old lease means nothing to it now.
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms ...500ms".into(),
            ..openraft::Config::default()
        };
        config.validate().map(Arc::new).map_err(|error| Error::Invalid(format!("the raft timers are wrong: {error}")))
    }
}
