//! The executor: every sandbox with something left to do on its host has one job, and never two.
//!
//! What is due is read from state each time. Pauses after failures are all it remembers; a new leader simply tries again.

use super::{
    blame::{BLAMES, Blames},
    desk::Ask,
    job::{self, Ending, Past},
};
use crate::node::Node;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_state::{Command, Sandbox, State, command::QuarantineHost};
use plimsoll_types::{Generation, Health, HostId, Phase, SandboxId};
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
/// A look at everything at least so often: budgets end by the clock.
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
        let seen = executor.start_due();
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
            _ = tick.tick() => {}
        }
    }
}

/// A job under way.
#[derive(Clone, Copy)]
struct Job {
    sandbox: SandboxId,
    generation: Generation,
    host: HostId,
    kind: Kind,
}

/// What a job does, each with its own bound on a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Create,
    Work,
    TakeDown,
}

impl Kind {
    fn of(sandbox: &Sandbox) -> Self {
        match sandbox.phase {
            Phase::Assigned | Phase::Starting | Phase::Restoring | Phase::Lost => Self::Create,
            Phase::Running | Phase::Pausing | Phase::Migrating => Self::Work,
            Phase::Pending | Phase::Paused | Phase::Failed | Phase::Terminating | Phase::Terminated => Self::TakeDown,
        }
    }
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
    /// Bounded by the sandboxes that are not at rest: entries of others are dropped.
    troubles: BTreeMap<SandboxId, Trouble>,
    blames: Blames,
}

impl Executor {
    fn new(node: Arc<Node>, desk: mpsc::Sender<Ask>) -> Self {
        Self {
            node,
            desk,
            jobs: JoinSet::new(),
            running: HashMap::new(),
            busy: BTreeSet::new(),
            troubles: BTreeMap::new(),
            blames: Blames::default(),
        }
    }

    /// Starts a job for each sandbox that is due, as far as the bounds allow; answers the index that it saw.
    fn start_due(&mut self) -> u64 {
        let now = Instant::now();
        let budget = self.node.options.create_budget;
        let clock = self.node.now();
        let (seen, due, unrest) = self.node.read(|state| {
            let spent = |sandbox: &Sandbox| Duration::from_millis(clock.since(sandbox.phase_since).0) >= budget;
            let mut unrest = BTreeSet::new();
            let mut due: Vec<Arc<Sandbox>> = Vec::new();
            for sandbox in unsettled(state) {
                unrest.insert(sandbox.id);
                let free = !self.busy.contains(&sandbox.id) && self.ready(sandbox, now);
                if free && workable(state, sandbox, spent(sandbox)) && due.len() < JOBS {
                    due.push(Arc::clone(sandbox));
                }
            }
            (state.applied, due, unrest)
        });
        self.troubles.retain(|id, _| unrest.contains(id));
        let mut on_host: BTreeMap<(HostId, Kind), usize> = BTreeMap::new();
        for job in self.running.values() {
            *on_host.entry((job.host, job.kind)).or_default() += 1;
        }
        for sandbox in due {
            let Some(assignment) = sandbox.assignment else { continue };
            let kind = Kind::of(&sandbox);
            let limit = match kind {
                Kind::Create => self.node.options.creates_per_host,
                Kind::Work => WORKS_PER_HOST,
                Kind::TakeDown => TAKEDOWNS_PER_HOST,
            };
            let count = on_host.entry((assignment.host, kind)).or_default();
            if *count >= limit || self.jobs.len() >= JOBS {
                continue;
            }
            *count += 1;
            self.start(Job { sandbox: sandbox.id, generation: sandbox.generation, host: assignment.host, kind });
        }
        seen
    }

    /// Whether the pause after its last failure, if that was in the same phase, is over.
    fn ready(&self, sandbox: &Sandbox, now: Instant) -> bool {
        self.troubles.get(&sandbox.id).is_none_or(|trouble| {
            trouble.generation != sandbox.generation || trouble.phase != sandbox.phase || trouble.not_before <= now
        })
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
        match ending {
            Ending::Done => {}
            Ending::Ran => {
                self.troubles.remove(&job.sandbox);
                self.blames.clear(job.host);
            }
            Ending::Later => self.trouble(job, false, None),
            Ending::Again => self.trouble(job, true, None),
            Ending::Refused(refused) => {
                if job.kind == Kind::Create && refused.is_hosts_own() {
                    self.blame(&job);
                }
                self.trouble(job, true, Some(refused.error));
            }
        }
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
            if job.kind == Kind::Create {
                trouble.past.tried.insert(job.host);
            }
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << trouble.past.failures.saturating_sub(1).min(16));
        trouble.not_before = Instant::now() + doubled.min(LONGEST_PAUSE);
    }

    /// Counts a failure against its host, and backs off from the host when there are too many.
    fn blame(&mut self, job: &Job) {
        let host = job.host;
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
        let now = Instant::now();
        let later = self.troubles.values().map(|trouble| trouble.not_before).filter(|at| *at > now);
        later.min().unwrap_or(now + PERIOD)
    }
}

/// The sandboxes with something left to do on a host: those that go first free room for the others.
fn unsettled(state: &State) -> impl Iterator<Item = &Arc<Sandbox>> {
    // What failed after it ran keeps its container for a while, so that its logs can be read; the reaper ends that.
    let never_ran = |sandbox: &&Arc<Sandbox>| sandbox.assignment.is_some() && sandbox.started_at.is_none();
    let failed = state.in_phase(Phase::Failed).filter(never_ran);
    let phase = |phase| state.in_phase(phase);
    let goes = phase(Phase::Terminating).chain(failed).chain(state.working());
    let comes = phase(Phase::Starting).chain(phase(Phase::Restoring)).chain(phase(Phase::Assigned));
    goes.chain(comes).chain(phase(Phase::Lost))
}

/// Whether a job could get anywhere now.
fn workable(state: &State, sandbox: &Sandbox, budget_spent: bool) -> bool {
    let host = sandbox.assignment.and_then(|assignment| state.hosts.get(&assignment.host));
    let ready = host.is_some_and(|host| host.health == Health::Ready);
    match sandbox.phase {
        // It can go elsewhere, or fail in time, without its host.
        Phase::Assigned => true,
        Phase::Starting | Phase::Restoring => ready || budget_spent,
        // Its host is back.
        Phase::Lost => ready,
        Phase::Terminating | Phase::Failed => ready,
        // A move can go on without its source.
        Phase::Running | Phase::Pausing | Phase::Migrating => {
            ready || host.is_some_and(|host| host.health == Health::Lost)
        }
        Phase::Pending | Phase::Paused | Phase::Terminated => false,
    }
}
