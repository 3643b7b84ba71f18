//! How long a create may take: pulling its image has a budget of its own, apart from everything else.
//!
//! All of it is read from state: a new leader allows what is left and no more.

use super::{Create, Stop, Trouble, View};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::{Health, Phase, Timestamp};
use std::time::Duration;

/// What the image may take on top: a few GiB over a slow link. Docker keeps the layers that have arrived, so a longer one succeeds when
/// the sandbox is asked for again.
const PULL_BUDGET: Duration = Duration::from_secs(600);

impl Create<'_> {
    /// What is left of the time for its present phase: while it is assigned it waits for its turn and for its image, and the time
    /// for starting begins with that phase.
    pub(super) fn left(&self) -> Option<Duration> {
        let View { sandbox, host, .. } = self.view;
        if sandbox.phase == Phase::Lost {
            // It waited for its host; its time begins when that is back.
            let back = self.since(host.health_since.max(sandbox.phase_since));
            return self.allowed().checked_sub(back).filter(|left| !left.is_zero());
        }
        let mut left = self.allowed().checked_sub(self.since(sandbox.phase_since))?;
        if host.health != Health::Ready {
            // Nothing is pulled while its host is silent.
            let silent = self.since(sandbox.phase_since.max(host.health_since));
            left = left.min(self.node.options.create_budget.checked_sub(silent)?);
        }
        Some(left).filter(|left| !left.is_zero())
    }

    /// How long its present phase may take.
    pub(super) fn allowed(&self) -> Duration {
        let create = self.node.options.create_budget;
        let pulls = matches!(self.view.sandbox.phase, Phase::Assigned | Phase::Restoring);
        if pulls { create + PULL_BUDGET } else { create }
    }

    fn since(&self, then: Timestamp) -> Duration {
        Duration::from_millis(self.node.now().since(then).0)
    }

    /// Pulls an image for as long as this incarnation is wanted: whoever ends it does not wait for an image.
    pub(super) async fn pull<T>(&self, pulling: impl Future<Output = Result<T, HostError>>) -> Result<(), Stop> {
        let before = &self.view.sandbox;
        let mut pulling = std::pin::pin!(pulling);
        loop {
            let (seen, wanted) = self.node.read(|state| {
                let now = state.sandboxes.get(&before.id);
                (state.applied, now.is_some_and(|now| (now.generation, now.phase) == (before.generation, before.phase)))
            });
            if !wanted {
                return Err(Stop::Moved);
            }
            tokio::select! {
                pulled = &mut pulling => {
                    return pulled.map(drop).map_err(|error| Stop::Host(Trouble { error, pulling: true }));
                }
                _ = self.node.ledger.changed(seen) => {}
            }
        }
    }
}
