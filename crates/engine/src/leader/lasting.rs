//! A loop of the leader's lasts as long as its lead: one that panics begins anew, and the others do not notice. Without that a defect
//! in one of them would end them all, on a node that goes on leading.

use futures_util::FutureExt as _;
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time;

/// Before a loop that panicked begins anew: it may panic again at once, and each time is a line in the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a loop until it ends by itself. It derives what to do from state, so that beginning anew is no other than a new lead.
pub(super) async fn lasting<F: Future<Output = ()>>(name: &str, run: impl Fn() -> F) {
    // The panic hook has logged the message and the place.
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        tracing::error!(name, "a loop of the leader's panicked; it begins anew");
        time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_begins_anew_until_it_ends_by_itself() {
        let begun = AtomicU32::new(0);
        let run = || async {
            // Both before and after the first wait.
            let nth = begun.fetch_add(1, Ordering::Relaxed);
            assert!(nth != 0, "at once");
            time::sleep(PAUSE).await;
            assert!(nth != 1, "later");
        };
        lasting("a test", run).await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
