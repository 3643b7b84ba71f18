//! Keeps the guard: its bound is renewed on a thread of its own, because that takes two syncs and no append should wait for them.
//! What must be on disk before an answer (a vote, a lower bound before a truncation) is still written by whoever asks.

use super::guard::Guard;
use crate::error::Result;
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// The guard, shared with the thread that renews it. The thread ends when this is dropped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
}

struct Shared {
    guard: Mutex<Guard>,
    /// Why the bound could not be renewed: the log stops then, as after any failed sync.
    failed: Mutex<Option<String>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there are no more threads.
    pub(crate) fn start(guard: Guard) -> io::Result<Self> {
        let shared = Arc::new(Shared { guard: Mutex::new(guard), failed: Mutex::new(None) });
        // One renewal waits at most: it writes the newest bound there is by then.
        let (wake, woken) = sync_channel(1);
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("plimsoll-guard".into()).spawn(move || renew(&theirs, &woken))?;
        Ok(Self { shared, wake })
    }

    /// Has the bound renewed if a step has passed, without waiting for it. `last` must be on disk already.
    ///
    /// # Errors
    /// When an earlier renewal failed.
    pub(crate) fn advance(&self, last: Option<u64>) -> io::Result<()> {
        if let Some(reason) = lock(&self.shared.failed).clone() {
            return Err(io::Error::other(reason));
        }
        // One that is held is being renewed just now.
        if let Ok(mut guard) = self.shared.guard.try_lock()
            && guard.aim(last)
        {
            // One that waits already will do.
            let _waits = self.wake.try_send(());
        }
        Ok(())
    }

    /// Does something with the guard and waits for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn now(&self, work: impl FnOnce(&mut Guard) -> Result<()>) -> io::Result<()> {
        work(&mut lock(&self.shared.guard)).map_err(io::Error::other)
    }
}

fn renew(shared: &Shared, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        if let Err(error) = lock(&shared.guard).renew() {
            *lock(&shared.failed) = Some(error.to_string());
            return;
        }
    }
}

// What a panic leaves behind is what was last written, or a bound that is too low: both are true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
