//! Load: a closed loop of clients that ask again as soon as they are answered, and an open loop with Poisson arrivals whose latency
//! counts from when each request was meant to be sent, so that a stall is felt by all who would have come during it.

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use rand::Rng as _;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, task::JoinSet};

/// Anything that does one request after the other.
pub trait Worker: Send + 'static {
    /// Does one; an error counts as a failed one.
    fn once(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// How many requests one such is worth.
    fn size(&self) -> u64 {
        1
    }
}

/// What a run of load saw.
#[derive(Debug)]
pub struct Seen {
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
    /// Requests that failed.
    pub failed: u64,
    /// The first failure.
    pub failure: Option<String>,
    /// Wall time.
    pub took: Duration,
}

impl Seen {
    fn new() -> Result<Self> {
        // Up to ten minutes at three digits.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self { latency, failed: 0, failure: None, took: Duration::ZERO })
    }

    fn note(&mut self, took: Duration, size: u64, result: Result<()>) {
        match result {
            Ok(()) => self.latency.saturating_record_n(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), size),
            Err(error) => {
                self.failed += size;
                self.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.failed += other.failed;
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
        Ok(())
    }

    /// Requests that succeeded per second.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn rate(&self) -> f64 {
        self.latency.len() as f64 / self.took.as_secs_f64()
    }

    /// A quantile in milliseconds.
    #[allow(clippy::cast_precision_loss)] // bounded by ten minutes
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Every worker asks again as soon as it is answered, `warm` without and `time` with being measured. Gives the workers back.
pub async fn closed<W: Worker>(workers: Vec<W>, warm: Duration, time: Duration) -> Result<(Seen, Vec<W>)> {
    let begin = Instant::now() + warm;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move {
            let mut seen = Seen::new()?;
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok((seen, worker));
                }
                let result = worker.once().await;
                let now = Instant::now();
                // What ends after the end is not counted: the time that it took is not either.
                if sent >= begin && now <= end {
                    seen.note(now - sent, worker.size(), result);
                }
            }
        });
    }
    let (mut all, mut workers) = (Seen::new()?, Vec::new());
    all.took = time;
    while let Some(done) = tasks.join_next().await {
        let (seen, worker) = done??;
        all.add(&seen)?;
        workers.push(worker);
    }
    Ok((all, workers))
}

/// Requests arrive at random, `rate` in a second on average; a free worker takes each. Gives the workers back.
pub async fn open<W: Worker>(workers: Vec<W>, rate: f64, time: Duration) -> Result<(Seen, Vec<W>)> {
    let count = workers.len();
    let (free, mut idle) = mpsc::channel(count.max(1));
    for worker in workers {
        free.send(worker).await.ok().context("the channel holds them all")?;
    }
    let (noted, mut results) = mpsc::channel::<(Duration, u64, Result<()>)>(count.max(1) * 4);
    let collect = tokio::spawn(async move {
        let mut seen = Seen::new()?;
        while let Some((took, size, result)) = results.recv().await {
            seen.note(took, size, result);
        }
        anyhow::Ok(seen)
    });
    let handle = tokio::runtime::Handle::current();
    // A thread of its own: the runtime's timers are only as fine as a millisecond.
    let dispatch = tokio::task::spawn_blocking(move || {
        let (begin, mut rng, mut due) = (Instant::now(), rand::rng(), Duration::ZERO);
        loop {
            due += Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / rate);
            if due >= time {
                break;
            }
            if let Some(wait) = (begin + due).checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            let Some(mut worker) = idle.blocking_recv() else { break };
            let (free, noted) = (free.clone(), noted.clone());
            handle.spawn(async move {
                let result = worker.once().await;
                let _ended = noted.send(((begin + due).elapsed(), worker.size(), result)).await;
                let _ended = free.send(worker).await;
            });
        }
        let mut workers = Vec::new();
        while workers.len() < count
            && let Some(worker) = idle.blocking_recv()
        {
            workers.push(worker);
        }
        (begin.elapsed(), workers)
    });
    let (took, workers) = dispatch.await?;
    let mut seen = collect.await??;
    seen.took = took;
    Ok((seen, workers))
}

/// The middle of some values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A quantile of few values: the smallest that so large a share does not exceed.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // an index into few values
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
