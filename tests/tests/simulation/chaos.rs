//! Many seeds, on all processors; a failure prints the seed's story and the command that runs it alone.

use super::script::Script;
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Seeds unless `PLIMSOLL_SIM_SEEDS` says how many.
const SEEDS: u64 = 1000;
/// Real time that one seed may take; the usual is a fraction of a second, so this is a loop that never rests.
const STUCK: Duration = Duration::from_secs(120);

thread_local! {
    /// Panics on this thread, those inside tasks included: tokio catches them, and nobody would know.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

type Story = Arc<Mutex<Vec<String>>>;

/// Plays one seed in a runtime of its own; what went wrong, if anything did.
fn play(seed: u64) -> Result<(), String> {
    let story: Arc<Mutex<Option<Story>>> = Arc::default();
    let kept = Arc::clone(&story);
    PANICS.set(0);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let script = Script::new(seed).await;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(script.world().story());
            script.run().await;
        });
    }));
    if played.is_ok() && PANICS.get() == 0 {
        return Ok(());
    }
    let story = story.lock().unwrap_or_else(PoisonError::into_inner).take();
    let lines = story.map(|story| story.lock().unwrap_or_else(PoisonError::into_inner).join("\n")).unwrap_or_default();
    let why = match played {
        Ok(()) => "a task panicked".to_owned(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "see the panic above".into()),
    };
    Err(format!("{lines}\n{why}"))
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("PLIMSOLL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PLIMSOLL_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn every_seed_settles_and_keeps_every_invariant() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        before(info);
    }));
    let seeds = seeds();
    let next = Arc::new(AtomicU64::new(seeds.start));
    let (report, reports) = mpsc::channel();
    for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
        let (next, report, end) = (Arc::clone(&next), report.clone(), seeds.end);
        std::thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || report.send((seed, play(seed))).is_err() {
                    return;
                }
            }
        });
    }
    drop(report);
    let mut left: std::collections::BTreeSet<u64> = seeds.collect();
    while !left.is_empty() {
        // A thread that never reports is left behind: it cannot be ended, and the process ends with the tests.
        let (seed, played) = reports
            .recv_timeout(STUCK)
            .unwrap_or_else(|_| panic!("a seed never rests; the first that did not end: {}", command(left.first())));
        left.remove(&seed);
        if let Err(why) = played {
            panic!("{why}\n\nseed {seed} failed; run it alone with:\n  {}\n", command(Some(&seed)));
        }
    }
}

fn command(seed: Option<&u64>) -> String {
    let seed = seed.map_or_else(String::new, u64::to_string);
    format!("PLIMSOLL_SIM_SEED={seed} cargo test -p plimsoll-tests --test simulation")
}
