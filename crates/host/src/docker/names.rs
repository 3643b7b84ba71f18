//! One lock per name: what must not be made and removed at the same moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by name, each for as long as somebody holds or awaits it.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Names {
    /// Waits until nobody else holds this name.
    pub(crate) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, lock| lock.strong_count() > 0);
            known.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
                let lock = Arc::default();
                known.insert(name.to_owned(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_name_is_held_once_and_forgotten_when_free() {
        let names = Names::default();
        let held = names.lock("a").now_or_never().expect("free");
        assert!(names.lock("a").now_or_never().is_none());
        assert!(names.lock("b").now_or_never().is_some());
        drop(held);
        assert!(names.lock("a").now_or_never().is_some());
        assert_eq!(names.0.lock().expect("not poisoned").len(), 1, "only the last, until the next look");
    }
}
