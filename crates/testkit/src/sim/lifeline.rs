//! Whether a simulated process lives. A killed one sees nothing more: whatever it awaits never returns.

use std::{future::Future, sync::Arc};
use tokio::sync::watch;

/// One incarnation of a node's process. Clones share the fate.
#[derive(Clone, Debug)]
pub struct Lifeline(Arc<watch::Sender<bool>>);

impl Default for Lifeline {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Lifeline {
    /// Ends it, for ever.
    pub fn cut(&self) {
        self.0.send_replace(false);
    }

    /// Whether it lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it is dead.
    pub async fn dead(&self) {
        let mut alive = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _closed = alive.wait_for(|alive| !alive).await;
    }

    /// What the future yields, as long as the process lives; after that nothing, ever. The future is dropped at death, as
    /// a process's work is.
    pub async fn guard<F: Future>(&self, work: F) -> F::Output {
        tokio::select! {
            biased;
            () = self.dead() => std::future::pending().await,
            output = work => output,
        }
    }
}
