//! What the leader's loops know and metrics show: there while this node leads, gone with its lead.

use super::{activity::Activity, drainer::Troubles, loads::Loads};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// One lead.
#[derive(Default)]
pub(crate) struct Leading {
    pub(crate) loads: Loads,
    /// What was seen of the sandboxes that pause when they are idle.
    pub(crate) activity: Activity,
    /// Why sandboxes could not leave draining hosts.
    pub(crate) stuck: Troubles,
    waiting: AtomicUsize,
}

impl Leading {
    /// How many placements wait for the placer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waiting(&self, count: usize) {
        self.waiting.store(count, Ordering::Relaxed);
    }
}

/// Where the present lead is shown, if this node leads.
#[derive(Default)]
pub(crate) struct Shown(Mutex<Option<Arc<Leading>>>);

/// Shows a lead for as long as it lives.
pub(crate) struct Showing<'a>(&'a Shown);

impl Shown {
    pub(crate) fn get(&self) -> Option<Arc<Leading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn show(&self, leading: Arc<Leading>) -> Showing<'_> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(leading);
        Showing(self)
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
