//! One confirmation at a time for everybody who presents a key that this node does not know. Whoever has no key cannot make the
//! leader work: however many ask, one question is under way, and what was answered no is answered no again for a while.

use plimsoll_lifecycle::ports::LedgerError;
use plimsoll_types::KeyId;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{self, Instant};

/// How long a confirmation may take, waiting for the one before it included. Longer than an election would hold up health checks.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an unknown key stays unknown without a question. Nobody has a key's secret before the key is replicated, so that this
/// delays no key; it is short because the first operator's key is written down just before.
const UNKNOWN_FOR: Duration = Duration::from_secs(3);
/// Most unknown keys remembered, some tens of bytes each. Past that the one question at a time is the bound.
const UNKNOWN_MAX: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Lookups {
    /// Held by whoever asks; the others wait for it and mostly find their answer given.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// How many confirmations were begun; the newest has this number.
    begun: u64,
    /// The last one that ended, and how.
    ended: Option<(u64, Result<(), LedgerError>)>,
    unknown: BTreeMap<KeyId, Instant>,
}

impl Lookups {
    /// Whether this key was found to be unknown a moment ago.
    pub(super) fn is_unknown(&self, key: KeyId) -> bool {
        self.known().unknown.get(&key).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers an unknown key.
    pub(super) fn unknown(&self, key: KeyId) {
        let now = Instant::now();
        let unknown = &mut self.known().unknown;
        if unknown.len() >= UNKNOWN_MAX {
            unknown.retain(|_, until| *until > now);
        }
        if unknown.len() < UNKNOWN_MAX {
            unknown.insert(key, now + UNKNOWN_FOR);
        }
    }

    /// Returns once this node has applied what was acknowledged before the call: by a barrier of its own or of somebody who asked
    /// later.
    ///
    /// # Errors
    /// When no quorum confirms in time.
    pub(super) async fn confirm<F>(&self, barrier: impl FnOnce() -> F + Send) -> Result<(), LedgerError>
    where
        F: Future<Output = Result<(), LedgerError>> + Send,
    {
        let confirmed = time::timeout(PATIENCE, self.take_turn(barrier)).await;
        confirmed.unwrap_or_else(|_| Err(LedgerError::NoQuorum("it did not confirm in time".to_owned())))
    }

    async fn take_turn<F>(&self, barrier: impl FnOnce() -> F + Send) -> Result<(), LedgerError>
    where
        F: Future<Output = Result<(), LedgerError>> + Send,
    {
        // Those under way by now may have begun before what must be seen was acknowledged.
        let needed = self.known().begun + 1;
        let _turn = self.turn.lock().await;
        let mine = {
            let mut known = self.known();
            if let Some((number, answer)) = &known.ended
                && *number >= needed
            {
                return answer.clone();
            }
            known.begun += 1;
            known.begun
        };
        let answer = barrier().await;
        self.known().ended = Some((mine, answer.clone()));
        answer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio::{sync::Semaphore, task::JoinSet};

    /// Asks for a confirmation that takes until `answers` has a permit, counting how many were begun.
    fn ask(
        asking: &mut JoinSet<Result<(), LedgerError>>,
        lookups: &Arc<Lookups>,
        begun: &Arc<AtomicUsize>,
        answers: &Arc<Semaphore>,
    ) {
        let (lookups, begun, answers) = (Arc::clone(lookups), Arc::clone(begun), Arc::clone(answers));
        asking.spawn(async move {
            let barrier = || async {
                begun.fetch_add(1, Ordering::Relaxed);
                answers.acquire().await.expect("open").forget();
                Ok(())
            };
            lookups.confirm(barrier).await
        });
    }

    /// Virtual time passes only when everybody waits.
    async fn idle() {
        time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_two_questions_answer_them() {
        let (lookups, begun, answers) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(0)));
        let mut asking = JoinSet::new();
        ask(&mut asking, &lookups, &begun, &answers);
        idle().await;
        for _ in 0..1000 {
            ask(&mut asking, &lookups, &begun, &answers);
        }
        idle().await;
        assert_eq!(begun.load(Ordering::Relaxed), 1, "one at a time");
        answers.add_permits(1);
        idle().await;
        assert_eq!(begun.load(Ordering::Relaxed), 2, "those who came later need one that began after they came");
        answers.add_permits(1);
        assert!(asking.join_all().await.into_iter().all(|answer| answer.is_ok()));
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_quorum_everybody_is_answered_soon() {
        let (lookups, begun, answers) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(0)));
        let (mut asking, before) = (JoinSet::new(), Instant::now());
        for _ in 0..10 {
            ask(&mut asking, &lookups, &begun, &answers);
        }
        assert!(asking.join_all().await.into_iter().all(|answer| answer.is_err()));
        assert!(before.elapsed() <= PATIENCE + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_keys_are_remembered_for_a_while_and_in_bounds() {
        let lookups = Lookups::default();
        let key = |n: u64| KeyId::from_parts(n, 1);
        (0..2000).for_each(|n| lookups.unknown(key(n)));
        assert!(lookups.is_unknown(key(0)) && !lookups.is_unknown(key(1999)));
        time::advance(UNKNOWN_FOR).await;
        assert!(!lookups.is_unknown(key(0)));
        lookups.unknown(key(1999));
        assert!(lookups.is_unknown(key(1999)));
    }
}
