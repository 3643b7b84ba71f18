//! Every bound of the surface, with its reason.

use std::time::Duration;

/// A create request with 64 labels, 64 keys and a large environment is below 300 KiB.
pub(crate) const MAX_JSON: usize = 1 << 20;
/// A client that takes longer to send a JSON body is stuck, or means harm.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(30);
/// Reads, and changes that one commit settles.
pub(crate) const QUICK: Duration = Duration::from_secs(60);
/// See [`crate::Options::default_wait`].
pub(crate) const DEFAULT_WAIT: Duration = Duration::from_secs(170);
/// How long a takedown is waited for unless asked otherwise: with what its commit takes it stays below the 30 s that platforms allow.
pub(crate) const TERMINATE_WAIT: Duration = Duration::from_secs(25);
/// What committing it may take beyond that.
pub(crate) const COMMIT_TIME: Duration = Duration::from_secs(4);
/// How long a snapshot is waited for unless asked otherwise: below the 120 s that platforms allow.
pub(crate) const SNAPSHOT_WAIT: Duration = Duration::from_secs(115);
/// The longest wait for a migration: the time platforms give one.
pub(crate) const MAX_MIGRATE_WAIT: Duration = Duration::from_secs(25 * 60);
/// Writing the environment: below the 30 s that platforms allow.
pub(crate) const WRITE_ENV: Duration = Duration::from_secs(25);
/// Health: below the 10 s that platforms allow; the engine decides sooner.
pub(crate) const HEALTH: Duration = Duration::from_secs(5);
/// The longest `Prefer: wait`: load balancers rarely let a request idle for longer.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(600);
/// The longest wait for room; a platform that waits longer has given up on the user.
pub(crate) const MAX_QUEUE: Duration = Duration::from_secs(3600);
/// Ten years: longer than any sandbox, short enough that times stay representable.
pub(crate) const MAX_LIFETIME_S: u64 = 10 * 366 * 24 * 3600;

/// Waiting creates count; each holds a few kilobytes.
pub(crate) const MAX_REQUESTS: usize = 4096;
/// Uploads of requests beyond that which are read on for, so that they get their answer.
pub(crate) const MAX_REFUSED: usize = 256;
/// Placements in one batch: what goes into one log entry. Each counts as a request of its own.
pub(crate) const MAX_BATCH: usize = 256;
/// Each holds at most some hundred kilobytes in buffers.
pub(crate) const MAX_STREAMS: usize = 1024;
/// More than requests and streams together, so that health checks get through.
pub(crate) const MAX_CONNECTIONS: usize = 8192;

/// Pages: large enough for a dashboard, small enough that one answer stays below some megabytes.
pub(crate) const PAGE: usize = 100;
/// The largest page.
pub(crate) const MAX_PAGE: usize = 1000;
/// Records looked at in one go while the state is held, so that apply is not held up.
pub(crate) const SCAN: usize = 2000;
/// Ids in one check: a platform's billing asks for all it knows.
pub(crate) const MAX_CHECK: usize = 10_000;

/// Collected output unless asked otherwise.
pub(crate) const OUTPUT: u64 = 1 << 20;
/// The most output one collected run keeps of each stream: it is held in memory.
pub(crate) const MAX_OUTPUT: u64 = 8 << 20;
/// The output a list of commands keeps of each unless asked otherwise.
pub(crate) const COMMAND_OUTPUT: u64 = 64 << 10;
/// The most output a list of commands keeps of each.
pub(crate) const MAX_COMMAND_OUTPUT: u64 = 1 << 20;
/// Commands in one list.
pub(crate) const MAX_COMMANDS: usize = 64;
/// The platform's default for a command.
pub(crate) const EXEC_TIME: Duration = Duration::from_secs(30);
/// The longest collected run; longer ones are streams.
pub(crate) const MAX_EXEC_TIME: Duration = Duration::from_secs(3600);
/// After the time limit the host has so long to kill the process and say so.
pub(crate) const EXEC_GRACE: Duration = Duration::from_secs(30);
/// Repositories named by one sandbox.
pub(crate) const MAX_REPOS: usize = 64;
/// The longest log filter: some dozens of targets.
pub(crate) const MAX_LOG_FILTER: usize = 1024;

/// A folder read as JSON is held in memory, twice; larger ones are read as tar.
pub(crate) const MAX_FOLDER: usize = 32 << 20;
/// A WebSocket message: a screenful of pasted text is far below.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;
/// The first message of a WebSocket must come within this time.
pub(crate) const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Silence on a stream is broken so often: proxies close what idles for a minute, and a dead peer is found.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
/// Events read in one go while the state is held.
pub(crate) const EVENTS: usize = 256;
/// How long a shutdown waits for requests under way.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// `/readyz` answers no after this: load balancers ask every few seconds.
pub(crate) const READY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// The platform's budgets in seconds: our answer comes first.
    #[test]
    fn every_answer_comes_within_the_platforms_budget() {
        for (ours, budget) in [
            (DEFAULT_WAIT, 180),
            (SNAPSHOT_WAIT, 120),
            (TERMINATE_WAIT + COMMIT_TIME, 30),
            (WRITE_ENV, 30),
            (HEALTH, 10),
        ] {
            assert!(ours < Duration::from_secs(budget), "{ours:?} of {budget} s");
        }
    }
}
