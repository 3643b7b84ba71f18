//! The executor: every sandbox with something left to do on its host has one job, and never two.
//!
//! What is due is derived from state, anew for each sandbox that a commit changed. Pauses after failures are all it remembers that
//! state does not say; a new leader simply tries again.

mod due;
mod lanes;

use super::{
    blame::{BLAMES, Blames},
    desk::Ask,
    job::{self, Ending, Past},
};
use crate::node::Node;
use lanes::{Kind, Lane, Lanes};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_state::{Command, command::QuarantineHost};
use plimsoll_types::{Generation, Phase, SandboxId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::{self, Instant, MissedTickBehavior},
};

/// Jobs at once, on all hosts: each holds a few kibibytes and one or two SSH channels of its host.
const JOBS: usize = 512;
/// Operations at once on one host: each reads and sends the whole of a sandbox's files.
const WORKS_PER_HOST: usize = 4;
/// Takedowns at once on one host; they share its disk and its SSH channels with the creates.
const TAKEDOWNS_PER_HOST: usize = 4;
/// A look around at least so often: budgets end by the clock.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Executes until dropped.
pub(crate) async fn run(node: Arc<Node>, desk: mpsc::Sender<Ask>) {
    let mut executor = Executor::new(Arc::clone(&node), desk);
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let seen = executor.follow();
        executor.start_due();
        let pause = executor.next_retry();
        tokio::select! {
            Some(ended) = executor.jobs.join_next_with_id(), if !executor.jobs.is_empty() => match ended {
                Ok((id, ending)) => executor.settle(id, ending),
                Err(error) => {
                    tracing::error!(%error, "a job ended badly");
                    executor.settle(error.id(), Ending::Again);
                }
            },
            _ = node.ledger.changed(seen) => {}
            () = time::sleep_until(pause) => {}
            _ = tick.tick() => executor.look_around().await,
        }
    }
}

/// A job under way.
#[derive(Clone, Copy)]
struct Job {
    sandbox: SandboxId,
    generation: Generation,
    lane: Lane,
}

/// What is remembered of a sandbox whose last job did not succeed.
struct Trouble {
    generation: Generation,
    phase: Phase,
    not_before: Instant,
    past: Past,
}

struct Executor {
    node: Arc<Node>,
    desk: mpsc::Sender<Ask>,
    jobs: JoinSet<Ending>,
    running: HashMap<Id, Job>,
    busy: BTreeSet<SandboxId>,
    /// Who is due. Bounded, as all below, by the sandboxes that are not at rest.
    lanes: Lanes,
    /// Entries of sandboxes that came to rest are dropped.
    troubles: BTreeMap<SandboxId, Trouble>,
    /// When pauses end; each is dropped then, even if it was replaced by a later one.
    pauses: BTreeSet<(Instant, SandboxId)>,
    blames: Blames,
    /// The last event that was taken in.
    position: Option<(u64, u32)>,
    /// Whether everything was looked at once.
    begun: bool,
    /// Up to where everything was looked at again, some thousand a second.
    looked: Option<SandboxId>,
}

impl Executor {
    fn new(node: Arc<Node>, desk: mpsc::Sender<Ask>) -> Self {
        let lanes = Lanes::new(node.options.creates_per_host, WORKS_PER_HOST, TAKEDOWNS_PER_HOST);
        Self {
            node,
            desk,
            jobs: JoinSet::new(),
            running: HashMap::new(),
            busy: BTreeSet::new(),
            lanes,
            troubles: BTreeMap::new(),
            pauses: BTreeSet::new(),
            blames: Blames::default(),
            position: None,
            begun: false,
            looked: None,
        }
    }

    /// Starts a job for each sandbox that is due, as far as the bounds allow.
    fn start_due(&mut self) {
        while self.jobs.len() < JOBS
            && let Some((lane, id)) = self.lanes.take()
        {
            // It may have moved on since it was looked at.
            match self.still_due(id, lane) {
                Some(generation) => self.start(Job { sandbox: id, generation, lane }),
                None => {
                    self.lanes.ended(lane);
                    self.look_at([id]);
                }
            }
        }
    }

    fn start(&mut self, job: Job) {
        let (node, desk) = (Arc::clone(&self.node), self.desk.clone());
        let trouble = self.troubles.get(&job.sandbox);
        let mut past = trouble.map(|trouble| trouble.past.clone()).unwrap_or_default();
        if trouble.is_some_and(|trouble| trouble.generation != job.generation) {
            (past.failures, past.last) = (0, None);
        }
        let handle = self.jobs.spawn(async move { job::drive(&node, &desk, job.sandbox, &past).await });
        self.busy.insert(job.sandbox);
        self.running.insert(handle.id(), job);
    }

    fn settle(&mut self, id: Id, ending: Ending) {
        let Some(job) = self.running.remove(&id) else { return };
        self.busy.remove(&job.sandbox);
        self.lanes.ended(job.lane);
        match ending {
            Ending::Done => {}
            Ending::Ran => {
                self.troubles.remove(&job.sandbox);
                self.blames.clear(job.lane.host);
            }
            Ending::Later => self.trouble(job, false, None),
            Ending::Again => self.trouble(job, true, None),
            Ending::Refused(refused) => {
                if job.lane.kind == Kind::Create && refused.is_hosts_own() {
                    self.blame(&job);
                }
                self.trouble(job, true, Some(refused.error));
            }
        }
        self.look_at([job.sandbox]);
    }

    fn trouble(&mut self, job: Job, failed: bool, said: Option<HostError>) {
        let phase = self.node.read(|state| state.sandboxes.get(&job.sandbox).map(|sandbox| sandbox.phase));
        let Some(phase) = phase else { return };
        let trouble = self.troubles.entry(job.sandbox).or_insert_with(|| Trouble {
            generation: job.generation,
            phase,
            not_before: Instant::now(),
            past: Past::default(),
        });
        if trouble.generation != job.generation {
            (trouble.generation, trouble.past.failures, trouble.past.last) = (job.generation, 0, None);
        }
        trouble.phase = phase;
        trouble.past.last = said.or(trouble.past.last.take());
        if failed {
            trouble.past.failures = trouble.past.failures.saturating_add(1);
            if job.lane.kind == Kind::Create {
                trouble.past.tried.insert(job.lane.host);
            }
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << trouble.past.failures.saturating_sub(1).min(16));
        trouble.not_before = Instant::now() + doubled.min(LONGEST_PAUSE);
        self.pauses.insert((trouble.not_before, job.sandbox));
    }

    /// Counts a failure against its host, and backs off from the host when there are too many.
    fn blame(&mut self, job: &Job) {
        let host = job.lane.host;
        let Some(length) = self.blames.count(host, job.sandbox, Instant::now()) else { return };
        let node = Arc::clone(&self.node);
        let command = QuarantineHost {
            host,
            until: Some(node.now().plus(length)),
            reason: format!("creates of {BLAMES} sandboxes failed on it, and none ran in between").into(),
            at: node.now(),
        };
        // Not a job: nothing depends on it, and if it is lost the next failure asks for it again.
        self.jobs.spawn(async move {
            match node.commit(Command::QuarantineHost(command)).await {
                Ok(_) => tracing::warn!(%host, seconds = length.0 / 1000, "quarantined: its creates keep failing"),
                Err(error) => tracing::warn!(%host, %error, "the quarantine could not be committed"),
            }
            Ending::Done
        });
    }

    /// When the first pause ends.
    fn next_retry(&self) -> Instant {
        self.pauses.first().map_or_else(|| Instant::now() + PERIOD, |(at, _)| *at)
    }
}
