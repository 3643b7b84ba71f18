//! The clock port on tokio's paused time: a minute of waiting costs nothing and every run reads the same times.

use plimsoll_lifecycle::ports::Clock;
use plimsoll_types::Timestamp;
use tokio::time::Instant;

/// Virtual time since the simulation began, counted from a fixed date.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    began: Instant,
}

impl SimClock {
    /// When every simulation begins: 14 November 2023, 22:13:20 UTC.
    pub const EPOCH: Timestamp = Timestamp(1_700_000_000_000);

    /// Starts at [`SimClock::EPOCH`]. Call it inside the runtime, after its time was paused.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(Self::EPOCH.0.saturating_add(passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_turns_only_with_virtual_time() {
        let clock = SimClock::new();
        assert_eq!(clock.now(), SimClock::EPOCH);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(SimClock::EPOCH).0, 3_600_000);
    }
}
