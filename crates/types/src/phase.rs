//! Where a sandbox is and where it should be, and the one table of legal moves between phases.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The observed position of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted, waiting in the queue for room.
    Pending,
    /// A host is chosen and its capacity reserved; nothing has been done on the host yet.
    Assigned,
    /// The host is being told to make the container.
    Starting,
    /// The container runs and its endpoints are known.
    Running,
    /// Being committed and pushed, to be paused.
    Pausing,
    /// Holds no capacity; can be resumed from its snapshot on any host.
    Paused,
    /// Running, and being moved to another host.
    Migrating,
    /// Its host was lost.
    Lost,
    /// Being started elsewhere from its last checkpoint.
    Restoring,
    /// Could not start, or died; the reason says why.
    Failed,
    /// Being taken down.
    Terminating,
    /// Gone; the record stays for billing and audit.
    Terminated,
}

/// The wanted position of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It should be running.
    Running,
    /// It should be paused.
    Paused,
    /// It should be gone.
    Terminated,
}

use Phase::{
    Assigned, Failed, Lost, Migrating, Paused, Pausing, Pending, Restoring, Running, Starting, Terminated, Terminating,
};

/// Every legal move; nothing else judges one. Within a generation phases only advance: the moves that lead back to
/// `Assigned` or out of `Restoring` and `Migrating` come with the next generation. A resume that fails is paused again.
pub const MOVES: &[(Phase, &[Phase])] = &[
    (Pending, &[Assigned, Failed, Terminating, Terminated]),
    (Assigned, &[Assigned, Starting, Paused, Failed, Lost, Terminating, Terminated]),
    (Starting, &[Assigned, Running, Paused, Failed, Lost, Terminating]),
    (Running, &[Pausing, Migrating, Failed, Lost, Terminating]),
    (Pausing, &[Paused, Running, Failed, Lost, Terminating]),
    (Paused, &[Assigned, Terminating, Terminated]),
    (Migrating, &[Running, Failed, Lost, Terminating]),
    (Lost, &[Running, Restoring, Failed, Terminating]),
    (Restoring, &[Restoring, Running, Failed, Lost, Terminating]),
    (Failed, &[Assigned, Terminating, Terminated]),
    (Terminating, &[Terminated]),
    (Terminated, &[]),
];

impl Phase {
    /// Every phase, in the order of a sandbox's life.
    pub const ALL: [Self; 12] = [
        Pending,
        Assigned,
        Starting,
        Running,
        Pausing,
        Paused,
        Migrating,
        Lost,
        Restoring,
        Failed,
        Terminating,
        Terminated,
    ];

    /// Whether [`MOVES`] lists the move.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        MOVES.iter().any(|(from, to)| *from == self && to.contains(&next))
    }

    /// Whether a sandbox in this phase still stands for its session: anything but failed, terminating and terminated.
    #[must_use]
    pub const fn is_live(self) -> bool {
        !matches!(self, Failed | Terminating | Terminated)
    }

    /// The name in the API, in tables and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Pending => "pending",
            Assigned => "assigned",
            Starting => "starting",
            Running => "running",
            Pausing => "pausing",
            Paused => "paused",
            Migrating => "migrating",
            Lost => "lost",
            Restoring => "restoring",
            Failed => "failed",
            Terminating => "terminating",
            Terminated => "terminated",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Text that names no phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a phase; phases are pending, assigned, starting, running, pausing, paused, migrating, lost, restoring, failed, terminating, terminated"
)]
pub struct UnknownPhase(String);

impl FromStr for Phase {
    type Err = UnknownPhase;
    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Terminated => "terminated",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_one_row_and_can_end() {
        for phase in Phase::ALL {
            assert_eq!(MOVES.iter().filter(|(from, _)| *from == phase).count(), 1, "{phase}");
            let ends = phase == Terminated || phase.may_become(Terminating) || phase.may_become(Terminated);
            assert!(ends, "{phase} has no way out");
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
    }

    #[test]
    fn nothing_leaves_terminated_and_running_never_goes_back() {
        assert!(Phase::ALL.iter().all(|next| !Terminated.may_become(*next)));
        assert!(!Running.may_become(Starting) && !Running.may_become(Assigned) && !Running.may_become(Pending));
    }
}
