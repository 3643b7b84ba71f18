//! Which failures speak against a host, and when there are too many of them.
//!
//! One sandbox must never take a host away from the others: its image, its name and its command are its own affair.

use super::job::Trouble;
use plimsoll_lifecycle::ports::{HostError, HostFailure};
use plimsoll_types::{Code, HostId, Millis, SandboxId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Different sandboxes that a host failed, without one that ran in between, before nothing more is placed there for a while.
pub(super) const BLAMES: usize = 3;
/// Failures further apart than this say nothing about each other.
const WINDOW: Duration = Duration::from_secs(600);
/// The first quarantine; it doubles with each further one in a row.
const QUARANTINE: Millis = Millis::secs(60);
/// The longest quarantine: a host that was repaired is used again within the quarter of an hour.
const LONGEST: Millis = Millis::secs(900);

impl Trouble {
    /// Whether the host failed at its own part, whatever it was asked to run.
    pub(super) fn is_hosts_own(&self) -> bool {
        let HostError { failure, code, .. } = &self.error;
        let own = matches!(
            code,
            Code::HostFull | Code::DockerUnreachable | Code::DockerTooOld | Code::SshDenied | Code::Timeout
        );
        // A start is the host's fault only where the adapter is sure of it.
        let start = *code == Code::StartFailed && *failure == HostFailure::ThisHost;
        // Silence is judged by the host's health, except where it answered and did not finish.
        let silence = *failure == HostFailure::Unreachable && *code != Code::Timeout;
        !self.pulling && !silence && (own || start)
    }
}

/// What speaks against each host. Bounded by [`BLAMES`] sandboxes a host.
#[derive(Default)]
pub(super) struct Blames(BTreeMap<HostId, Record>);

#[derive(Default)]
struct Record {
    /// When each sandbox failed there last.
    sandboxes: BTreeMap<SandboxId, Instant>,
    /// Quarantines in a row.
    quarantines: u32,
}

impl Blames {
    /// Something ran there: it is well.
    pub(super) fn clear(&mut self, host: HostId) {
        self.0.remove(&host);
    }

    /// Counts a failure; answers how long the host is to be left alone, if this was one too many.
    pub(super) fn count(&mut self, host: HostId, sandbox: SandboxId, now: Instant) -> Option<Millis> {
        let record = self.0.entry(host).or_default();
        record.sandboxes.retain(|_, at| now.duration_since(*at) < WINDOW);
        record.sandboxes.insert(sandbox, now);
        if record.sandboxes.len() < BLAMES {
            return None;
        }
        record.sandboxes.clear();
        let length = QUARANTINE.0.saturating_mul(1 << record.quarantines.min(8)).min(LONGEST.0);
        record.quarantines = record.quarantines.saturating_add(1);
        Some(Millis(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId(1);

    fn sandbox(n: u128) -> SandboxId {
        SandboxId::from_parts(1, n)
    }

    #[tokio::test(start_paused = true)]
    async fn several_sandboxes_within_the_window_are_too_many() {
        let (mut blames, now) = (Blames::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(blames.count(HOST, sandbox(1), now), None, "one sandbox, however often");
        }
        assert_eq!(blames.count(HOST, sandbox(2), now), None);
        assert_eq!(blames.count(HostId(2), sandbox(3), now), None, "another host");
        assert_eq!(blames.count(HOST, sandbox(3), now), Some(QUARANTINE));
        for n in 4..6 {
            assert_eq!(blames.count(HOST, sandbox(n), now), None);
        }
        assert_eq!(blames.count(HOST, sandbox(6), now), Some(Millis(2 * QUARANTINE.0)));
        for n in 7..9 {
            assert_eq!(blames.count(HOST, sandbox(n), now), None);
        }
        assert_eq!(blames.count(HOST, sandbox(9), now + WINDOW), None, "the others are too long ago");
        blames.clear(HOST);
        for n in 10..12 {
            assert_eq!(blames.count(HOST, sandbox(n), now), None);
        }
        assert_eq!(blames.count(HOST, sandbox(12), now), Some(QUARANTINE), "as if for the first time");
    }

    #[test]
    fn only_the_hosts_own_failures_count() {
        use HostFailure::{Permanent, ThisHost, Transient, Unreachable};
        for (failure, code, pulling, counts) in [
            (ThisHost, Code::HostFull, false, true),
            (Transient, Code::DockerUnreachable, false, true),
            (Unreachable, Code::Timeout, false, true),
            (ThisHost, Code::StartFailed, false, true),
            (Transient, Code::StartFailed, false, false),
            (Permanent, Code::StartFailed, false, false),
            (Unreachable, Code::SshUnreachable, false, false),
            (Unreachable, Code::DockerUnreachable, false, false),
            (ThisHost, Code::NameClash, false, false),
            (ThisHost, Code::PortClash, false, false),
            (Transient, Code::Conflict, false, false),
            (Transient, Code::ImagePullFailed, true, false),
            (Permanent, Code::ImageNotFound, true, false),
            (ThisHost, Code::HostFull, true, false),
            (Unreachable, Code::Timeout, true, false),
        ] {
            let trouble = Trouble { error: HostError::new(failure, code, "x"), pulling };
            assert_eq!(trouble.is_hosts_own(), counts, "{failure:?} {code} {pulling}");
        }
    }
}
