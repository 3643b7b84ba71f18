//! One operation on a sandbox brought forward: snapshot, checkpoint, pause, migration. Its plan is derived anew, its steps are done,
//! and what came of it is committed; or it is given up, and the sandbox is as it was.

use super::{Ending, Past, Stop, Trouble, View, id_of, write_secrets};
use crate::{
    leader::ready::{await_ready, endpoints},
    node::Node,
};
use plimsoll_lifecycle::{
    naming,
    planner::{self, Plan, Planned, Side, Step, WorkFacts},
    ports::{CommitPlan, ContainerSeen, HostDriver, HostError, HostFailure, Pushed},
};
use plimsoll_state::{
    Command, Snapshot, Stage, Stored, Work, WorkKind,
    command::{Advance, GiveUp, Switch, Taken},
};
use plimsoll_types::{Bytes, Code, Health, Phase, Timestamp};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time;

/// Failures of the passing kind before an operation is given up: its caller waits, and the sandbox may stand still meanwhile.
const PASSING_FAILURES: u32 = 3;

/// Brings a sandbox's operation forward as far as it goes.
pub(super) async fn carry_on(node: &Node, view: &View, past: &Past) -> Ending {
    let (Some(work), Some(snapshot)) = (&view.sandbox.work, &view.snapshot) else { return Ending::Done };
    let here = node.drivers.of(&view.host);
    let there = view.target.as_ref().map(|target| node.drivers.of(target));
    Carry { node, view, past, work, snapshot, here, there, ends: AtomicBool::new(false) }.run().await
}

struct Carry<'a> {
    node: &'a Node,
    view: &'a View,
    past: &'a Past,
    work: &'a Work,
    snapshot: &'a Snapshot,
    here: Arc<dyn HostDriver>,
    there: Option<Arc<dyn HostDriver>>,
    /// Its own last commit is on the way or done: that the operation is gone from state is then its doing.
    ends: AtomicBool,
}

/// What the steps have found out so far.
#[derive(Default)]
struct Found {
    /// When the container was held still.
    held: Option<Timestamp>,
    pushed: Option<Pushed>,
    fetched: Bytes,
    /// The container where it goes.
    made: Option<ContainerSeen>,
}

impl Carry<'_> {
    async fn run(&self) -> Ending {
        let _turn = self.node.stillness.of(self.view.sandbox.id).await;
        let began = time::Instant::now();
        if let Some(reason) = self.hopeless() {
            return self.give_up(&reason).await;
        }
        if self.view.host.health != Health::Ready && !self.goes_on_alone() {
            return Ending::Again;
        }
        let stopped = tokio::select! {
            done = self.forward() => match done {
                Ok(()) => {
                    let (kind, stage) = (self.work.kind, self.work.stage);
                    tracing::info!(sandbox = %self.view.sandbox.id, operation = %self.work.operation, %kind, ?stage, took = ?began.elapsed(), "brought forward");
                    return Ending::Done;
                }
                Err(stop) => stop,
            },
            () = self.unwanted() => return Ending::Later,
        };
        match stopped {
            Stop::Moved | Stop::Behind | Stop::Late => Ending::Later,
            Stop::Ledger(error) => {
                tracing::warn!(sandbox = %self.view.sandbox.id, %error, "progress could not be committed");
                Ending::Again
            }
            Stop::Host(trouble) => self.failed(trouble).await,
        }
    }

    /// A move whose snapshot is safe needs its source no more.
    fn goes_on_alone(&self) -> bool {
        self.work.kind == WorkKind::Migrate && self.work.stage == Stage::Taken && self.view.host.health == Health::Lost
    }

    /// A recorded pause is a promise: it is carried on for as long as it takes.
    fn is_final(&self) -> bool {
        self.work.kind == WorkKind::Pause && self.work.stage == Stage::Taken
    }

    /// Why it cannot be done any more, if so.
    fn hopeless(&self) -> Option<String> {
        if self.is_final() {
            return None;
        }
        if let Some(target) = self.view.target.as_ref().filter(|target| target.health != Health::Ready) {
            return Some(format!("{}: host {} stopped answering", Code::HostUnavailable, target.name));
        }
        let over = self.node.now() >= self.work.deadline;
        let allowed = Duration::from_millis(self.work.deadline.since(self.work.began).0);
        over.then(|| format!("{}: it was not done within {allowed:?}{}", Code::Timeout, self.last()))
    }

    /// What a host said last, as the end of a sentence.
    fn last(&self) -> String {
        self.past.last.as_ref().map(|last| format!("; last {}: {}", last.code, last.message)).unwrap_or_default()
    }

    /// Returns when somebody ended the operation: nobody waits for an image that is not wanted.
    async fn unwanted(&self) {
        let id = self.view.sandbox.id;
        loop {
            let (seen, wanted) = self.node.read(|state| {
                let work = state.sandboxes.get(&id).and_then(|sandbox| sandbox.work.as_ref());
                (state.applied, work.is_some_and(|work| work.operation == self.work.operation))
            });
            if !wanted && !self.ends.load(Ordering::Acquire) {
                return;
            }
            self.node.ledger.changed(seen).await;
        }
    }

    fn facts<'f>(&'f self, here: &'f [ContainerSeen], there: &'f [ContainerSeen]) -> WorkFacts<'f> {
        WorkFacts {
            cluster: self.view.cluster,
            policy: &self.view.policy,
            sandbox: &self.view.sandbox,
            snapshot: self.snapshot,
            target: self.view.target.as_deref(),
            here,
            there,
        }
    }

    async fn seen_on(&self, driver: Option<&Arc<dyn HostDriver>>) -> Result<Vec<ContainerSeen>, HostError> {
        let Some(driver) = driver else { return Ok(Vec::new()) };
        let mut seen = driver.list_containers(self.view.cluster).await?;
        seen.retain(|seen| seen.sandbox == Some(self.view.sandbox.id));
        Ok(seen)
    }

    async fn forward(&self) -> Result<(), Stop> {
        let (here, there) = match self.work.stage {
            Stage::Taking => (Vec::new(), Vec::new()),
            Stage::Taken if self.work.kind == WorkKind::Pause => (self.seen_on(Some(&self.here)).await?, Vec::new()),
            Stage::Taken => (Vec::new(), self.seen_on(self.there.as_ref()).await?),
        };
        let plan = planner::work(self.facts(&here, &there));
        tracing::debug!(sandbox = %self.view.sandbox.id, kind = %self.work.kind, %plan, "carrying on");
        let mut found = Found::default();
        for planned in &plan.steps {
            // A source that is lost is left alone; what stands there is removed when it is back.
            let on_host = !matches!(planned.step, Step::Switch | Step::RecordSnapshot | Step::Commit(..));
            if planned.side == Side::Here && on_host && self.goes_on_alone() {
                continue;
            }
            self.step(planned, &mut found).await?;
        }
        Ok(())
    }

    fn driver(&self, side: Side) -> Result<&dyn HostDriver, Stop> {
        match side {
            Side::Here => Ok(self.here.as_ref()),
            Side::There => self.there.as_deref().ok_or(Stop::Moved),
        }
    }

    async fn step(&self, planned: &Planned, found: &mut Found) -> Result<(), Stop> {
        let began = time::Instant::now();
        let driver = self.driver(planned.side)?;
        tracing::debug!(sandbox = %self.view.sandbox.id, operation = %self.work.operation, "begins: {}", planned.step);
        match &planned.step {
            Step::Freeze(id) => {
                driver.freeze(id).await?;
                found.held.get_or_insert(self.node.now());
            }
            Step::Thaw(id) => driver.thaw(id).await?,
            Step::CommitImage(plan) => driver.commit(plan).await?,
            Step::PushImage(plan) => found.pushed = Some(self.push(driver, plan).await?),
            Step::RecordSnapshot => self.record(found).await?,
            Step::PullImage(image) => found.fetched = driver.pull(image).await.map_err(pulling)?,
            Step::CreateContainer(plan) => found.made = Some(driver.create_container(plan).await?),
            Step::StartContainer(name) => {
                found.made = Some(driver.start_container(id_of(found.made.as_ref(), name)).await?);
            }
            Step::WriteSecrets(name) => {
                write_secrets(self.node, &self.view.sandbox, driver, id_of(found.made.as_ref(), name)).await?;
            }
            Step::AwaitReady(ports) => await_ready(driver, ports, &mut found.made).await?,
            Step::Switch => self.switch(found).await?,
            Step::Commit(phase, reason) => self.leave(*phase, reason).await?,
            Step::RemoveContainer(id) => driver.remove_container(id).await?,
            Step::RemoveWorkspace(mount) => driver.remove_workspace(mount, self.view.cluster).await?,
            Step::GiveUp(reason) => self.commit_give_up(reason).await?,
            // An operation's plan has none of these.
            Step::Await(_)
            | Step::EnsureImage(_)
            | Step::Fence(..)
            | Step::RemoveImage(_)
            | Step::Lose(..)
            | Step::Fail(..) => {}
        }
        tracing::debug!(sandbox = %self.view.sandbox.id, operation = %self.work.operation, "done: {}", planned.step);
        crate::metrics::step(&planned.step, began.elapsed());
        Ok(())
    }

    /// Pushes; where the sandbox goes to is made ready for it meanwhile.
    async fn push(&self, driver: &dyn HostDriver, plan: &CommitPlan) -> Result<Pushed, HostError> {
        let sandbox = &self.view.sandbox;
        let network = naming::network(&self.view.policy, &sandbox.tenant);
        let ahead = async {
            if let Some(there) = &self.there {
                there.expect(&network, self.view.cluster).await;
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            pushed = driver.push(plan) => pushed,
            // Not waited for.
            never = ahead => match never {},
        }
    }

    async fn record(&self, found: &Found) -> Result<(), Stop> {
        let Some(pushed) = &found.pushed else { return Err(Stop::Moved) };
        let sandbox = &self.view.sandbox;
        let stored = Stored {
            repository: naming::repository(self.view.cluster, &sandbox.tenant, sandbox.id).into(),
            digest: pushed.digest,
            size: pushed.size,
            sent: pushed.sent,
            layers: pushed.layers,
            architecture: pushed.architecture.as_str().into(),
            taken_at: found.held.unwrap_or(self.work.began),
            host: self.view.host.id,
        };
        let at = self.node.now();
        let taken = Taken { sandbox: sandbox.id, operation: self.work.operation, stored, at };
        self.commit(Command::Taken(Box::new(taken))).await
    }

    async fn switch(&self, found: &Found) -> Result<(), Stop> {
        let (Some(made), Some(target)) = (&found.made, &self.view.target) else { return Err(Stop::Moved) };
        let stored = self.snapshot.stored.as_ref();
        let at = self.node.now();
        let stood_still = stored.map(|stored| at.since(stored.taken_at)).unwrap_or_default();
        let switch = Switch {
            sandbox: self.view.sandbox.id,
            operation: self.work.operation,
            container: made.id.as_str().into(),
            endpoints: endpoints(target, &self.view.sandbox.spec.ports, made),
            downtime: stood_still,
            bytes: stored.map(|stored| stored.sent).unwrap_or_default().saturating_add(found.fetched),
            at,
        };
        self.commit(Command::Switch(Box::new(switch))).await?;
        tracing::info!(sandbox = %self.view.sandbox.id, from = %self.view.host.name, to = %target.name, downtime_ms = stood_still.0, "moved");
        Ok(())
    }

    async fn leave(&self, phase: Phase, reason: &str) -> Result<(), Stop> {
        let news = Advance {
            sandbox: self.view.sandbox.id,
            generation: self.view.sandbox.generation,
            to: phase,
            container: None,
            endpoints: Vec::new(),
            release: phase == Phase::Paused,
            reason: reason.into(),
            at: self.node.now(),
        };
        self.commit(Command::Advance(vec![news])).await
    }

    async fn commit(&self, command: Command) -> Result<(), Stop> {
        // Before it is proposed: it may be applied here before the answer to it is.
        self.ends.store(self.is_last(&command), Ordering::Release);
        match self.node.commit_one(command).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => {
                tracing::debug!(sandbox = %self.view.sandbox.id, ?refusal, "state has moved on");
                Err(Stop::Moved)
            }
            Err(error) => Err(Stop::Ledger(error)),
        }
    }

    /// Whether the operation is over once this is applied.
    fn is_last(&self, command: &Command) -> bool {
        match self.work.kind {
            WorkKind::Snapshot | WorkKind::Checkpoint => true,
            // What is taken is only half of it.
            WorkKind::Pause | WorkKind::Migrate => !matches!(command, Command::Taken(_)),
        }
    }

    async fn failed(&self, trouble: Trouble) -> Ending {
        let error = &trouble.error;
        let (id, kind) = (self.view.sandbox.id, self.work.kind);
        tracing::warn!(sandbox = %id, host = %self.view.host.name, %kind, code = %error.code, %error, "a step failed");
        let over = match error.failure {
            HostFailure::Permanent | HostFailure::ThisHost => true,
            HostFailure::Transient | HostFailure::Unreachable => self.past.failures + 1 >= PASSING_FAILURES,
        };
        if over && !self.is_final() {
            let reason = format!("{}: {}", error.code, error.message);
            return match self.give_up(&reason).await {
                Ending::Done => Ending::Done,
                Ending::Ran | Ending::Later | Ending::Again | Ending::Refused(_) => Ending::Refused(trouble),
            };
        }
        let goes_on = matches!(kind, WorkKind::Snapshot | WorkKind::Checkpoint);
        if let Some(container) = self.view.sandbox.container.as_deref().filter(|_| goes_on && !self.is_frozen()) {
            // It must not stand still until the next try; if this fails too, that try freezes and thaws it anyway.
            let _still = self.here.thaw(container).await;
        }
        Ending::Refused(trouble)
    }

    fn is_frozen(&self) -> bool {
        self.view.sandbox.frozen_since.is_some()
    }

    /// Leaves the sandbox as it was, and says why.
    async fn give_up(&self, reason: &str) -> Ending {
        let sandbox = &self.view.sandbox;
        if self.view.host.health != Health::Ready {
            if self.goes_on_alone() {
                // Neither side is left: what was taken is what it can be restored from.
                return self.ended(self.leave(Phase::Lost, reason).await);
            }
            // It stands still as long as nobody reaches it; its host decides what becomes of it.
            return Ending::Again;
        }
        let target_ready = self.view.target.as_ref().is_some_and(|target| target.health == Health::Ready);
        let there = match self.seen_on(self.there.as_ref().filter(|_| target_ready)).await {
            Ok(there) => there,
            Err(error) if error.failure != HostFailure::Unreachable => return Ending::Again,
            Err(_) => Vec::new(),
        };
        let mut plan: Plan = planner::undo(self.facts(&[], &there), reason);
        if !target_ready {
            // What may stand there is removed when the host is back: it is of a generation that was never reached.
            plan.steps.retain(|planned| planned.side == Side::Here);
        }
        tracing::warn!(sandbox = %sandbox.id, operation = %self.work.operation, kind = %self.work.kind, %reason, %plan, "given up");
        let mut found = Found::default();
        for planned in &plan.steps {
            match self.step(planned, &mut found).await {
                Ok(()) => {}
                // A container that is gone cannot be let go on: the reconciler says so afterwards.
                Err(Stop::Host(trouble))
                    if matches!(planned.step, Step::Thaw(_)) && trouble.error.failure == HostFailure::Permanent => {}
                Err(stop) => return self.ended(Err(stop)),
            }
        }
        Ending::Done
    }

    async fn commit_give_up(&self, reason: &str) -> Result<(), Stop> {
        let give_up = GiveUp {
            sandbox: self.view.sandbox.id,
            operation: self.work.operation,
            reason: reason.into(),
            at: self.node.now(),
        };
        self.commit(Command::GiveUp(give_up)).await
    }

    fn ended(&self, result: Result<(), Stop>) -> Ending {
        match result {
            Ok(()) => Ending::Done,
            Err(Stop::Moved | Stop::Behind | Stop::Late) => Ending::Later,
            Err(Stop::Ledger(error)) => {
                tracing::warn!(sandbox = %self.view.sandbox.id, %error, "progress could not be committed");
                Ending::Again
            }
            Err(Stop::Host(_)) => Ending::Again,
        }
    }
}

/// What an image does is never the host's fault.
fn pulling(error: HostError) -> Stop {
    Stop::Host(Trouble { error, pulling: true })
}
