//! One sandbox brought forward: its plan is derived anew, its steps are done, and what came of it is committed.
//!
//! A job keeps nothing: if the leader dies between any two lines, the next leader derives the rest of the plan.

mod budget;
mod giving_up;
mod record;
mod work;

use super::{desk::Ask, ready::await_ready, takedown};
use crate::{node::Node, secret::env_file};
use bytes::Bytes;
use plimsoll_lifecycle::{
    naming,
    planner::{self, Facts, Step},
    ports::{ByteStream, ContainerSeen, HostDriver, HostError, HostFailure, LedgerError, WriteOptions},
};
use plimsoll_state::{Command, Host, Policy, Refusal, Sandbox, Snapshot, command::Terminate};
use plimsoll_types::{ClusterId, Code, Health, HostId, Phase, SandboxId};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{sync::mpsc, time};
use tracing::Instrument as _;

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// State moved, or has moved on without it; nothing to remember.
    Done,
    /// A create reached running: its host is well.
    Ran,
    /// It is not its turn, or state moved under it: look again after a short pause. Not a failure.
    Later,
    /// Something passing is in the way; try again after a pause.
    Again,
    /// The host did not do a step. The sandbox is tried again, went elsewhere or failed; state says which.
    Refused(Trouble),
}

/// What a host refused.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) error: HostError,
    /// Whether it was about the image: that is never the host's fault.
    pub(crate) pulling: bool,
}

/// What is remembered of an incarnation's earlier tries, if this leader saw them.
#[derive(Clone, Default)]
pub(crate) struct Past {
    /// Passing failures on this host.
    pub(crate) failures: u32,
    /// Hosts that it could not start on.
    pub(crate) tried: BTreeSet<HostId>,
    /// The last thing a host said.
    pub(crate) last: Option<HostError>,
}

/// What a job works on, read in one look.
pub(crate) struct View {
    pub(crate) cluster: ClusterId,
    pub(crate) policy: Arc<Policy>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) host: Arc<Host>,
    predecessor: Option<Arc<Sandbox>>,
    /// What its incarnation starts from, if that is a snapshot.
    base: Option<Arc<Snapshot>>,
    /// The snapshot that its operation takes.
    snapshot: Option<Arc<Snapshot>>,
    /// Where its operation moves it to.
    target: Option<Arc<Host>>,
}

/// Reads a sandbox with its host.
pub(crate) fn view(node: &Node, id: SandboxId) -> Option<View> {
    node.read(|state| {
        let sandbox = state.sandboxes.get(&id)?;
        let host = sandbox.assignment?.host;
        // A session has one live sandbox: whoever else has its names has ended.
        let same = |other: &&Arc<Sandbox>| {
            other.id != id && other.session == sandbox.session && other.tenant == sandbox.tenant
        };
        Some(View {
            cluster: state.cluster?,
            policy: Arc::new(state.policy.clone()),
            sandbox: Arc::clone(sandbox),
            host: Arc::clone(state.hosts.get(&host)?),
            predecessor: state.ending_on(host).find(same).cloned(),
            base: sandbox.base.and_then(|base| state.snapshots.get(&base)).cloned(),
            snapshot: sandbox.work.as_ref().and_then(|work| state.snapshots.get(&work.snapshot)).cloned(),
            target: sandbox.work.as_ref().and_then(|work| state.hosts.get(&work.target?.host)).cloned(),
        })
    })
}

/// Brings a sandbox forward as far as it goes.
pub(crate) async fn drive(node: &Node, desk: &mpsc::Sender<Ask>, id: SandboxId, past: &Past) -> Ending {
    let Some(view) = view(node, id) else { return Ending::Done };
    // Whatever is logged below, by the host's driver too, tells for whom.
    let operation = view.sandbox.work.as_ref().map_or(view.sandbox.operation, |work| work.operation);
    let span = tracing::info_span!("job", sandbox = %id, %operation);
    drive_on(node, desk, &view, past).instrument(span).await
}

async fn drive_on(node: &Node, desk: &mpsc::Sender<Ask>, view: &View, past: &Past) -> Ending {
    match view.sandbox.phase {
        Phase::Assigned | Phase::Starting | Phase::Restoring | Phase::Lost => {
            Create::new(node, desk, view, past).run().await
        }
        Phase::Running | Phase::Pausing | Phase::Migrating => work::carry_on(node, view, past).await,
        Phase::Terminating | Phase::Failed => takedown::take_down(node, view).await,
        Phase::Pending | Phase::Paused | Phase::Terminated => Ending::Done,
    }
}

/// Why a step was not done.
enum Stop {
    /// The host said no.
    Host(Trouble),
    /// State is not what the plan was derived from; derive anew.
    Moved,
    /// The ledger does not answer; the next activation sees what became of it.
    Ledger(LedgerError),
    /// Another sandbox must go first.
    Behind,
    /// The time for it is over.
    Late,
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Host(Trouble { error, pulling: false })
    }
}

struct Create<'a> {
    node: &'a Node,
    desk: &'a mpsc::Sender<Ask>,
    view: &'a View,
    past: &'a Past,
    /// Whether something of it may stand on its host.
    begun: AtomicBool,
}

impl<'a> Create<'a> {
    fn new(node: &'a Node, desk: &'a mpsc::Sender<Ask>, view: &'a View, past: &'a Past) -> Self {
        Self { node, desk, view, past, begun: AtomicBool::new(view.sandbox.phase != Phase::Assigned) }
    }

    async fn run(&self) -> Ending {
        let View { sandbox, host, .. } = self.view;
        if host.health != Health::Ready && sandbox.phase == Phase::Assigned {
            // Nothing was done there yet, so nothing is left behind.
            let silent = format!("host {} stopped answering before it was told", host.name);
            return self.leave(&HostError::new(HostFailure::Unreachable, Code::HostUnavailable, silent)).await;
        }
        let Some(left) = self.left() else {
            return self.give_up(self.late()).await;
        };
        if host.health != Health::Ready {
            // A started one waits for its host, or for its budget to end.
            return Ending::Again;
        }
        let driver = self.node.drivers.of(host);
        let Err(stopped) = self.steps(driver.as_ref(), left).await else { return Ending::Ran };
        match stopped {
            // The next activation finds the budget used up.
            Stop::Late => Ending::Again,
            Stop::Moved | Stop::Behind => Ending::Later,
            Stop::Ledger(error) => {
                tracing::warn!(sandbox = %sandbox.id, %error, "progress could not be committed");
                Ending::Again
            }
            Stop::Host(trouble) => self.failed(driver.as_ref(), trouble).await,
        }
    }

    async fn steps(&self, driver: &dyn HostDriver, left: Duration) -> Result<(), Stop> {
        let View { cluster, policy, sandbox, host, predecessor, .. } = self.view;
        let mut until = time::Instant::now() + left;
        let name = naming::container(policy, &sandbox.tenant, &sandbox.session);
        let seen = match sandbox.phase {
            // Nothing was done yet, so there is nothing to see.
            Phase::Assigned => None,
            // Its own container and no other: by now the name may be a newer one's.
            Phase::Lost => driver.inspect(sandbox.container.as_deref().unwrap_or(&name)).await?,
            Phase::Pending
            | Phase::Starting
            | Phase::Running
            | Phase::Pausing
            | Phase::Paused
            | Phase::Migrating
            | Phase::Restoring
            | Phase::Failed
            | Phase::Terminating
            | Phase::Terminated => driver.inspect(&name).await?,
        };
        let plan = planner::plan(Facts {
            cluster: *cluster,
            policy,
            sandbox,
            host: Some(host),
            base: self.view.base.as_deref(),
            seen: seen.as_slice(),
            predecessor: predecessor.as_ref().map(|predecessor| predecessor.id),
        });
        tracing::debug!(sandbox = %sandbox.id, host = %host.name, %plan, "creating");
        let mut made: Option<ContainerSeen> = None;
        for planned in &plan.steps {
            tracing::debug!(sandbox = %sandbox.id, host = %host.name, "begins: {}", planned.step);
            time::timeout_at(until, self.step(driver, &planned.step, &mut made)).await.map_err(|_| Stop::Late)??;
            if matches!(planned.step, Step::Commit(Phase::Starting, _)) {
                until = time::Instant::now() + self.node.options.create_budget;
            }
        }
        Ok(())
    }

    async fn step(&self, driver: &dyn HostDriver, step: &Step, made: &mut Option<ContainerSeen>) -> Result<(), Stop> {
        let began = time::Instant::now();
        match step {
            Step::Await(_) => return self.wait_behind().await,
            Step::Commit(Phase::Running, _) => return self.commit_running(made.as_ref()).await,
            Step::Commit(phase, reason) => return self.commit(*phase, reason).await,
            Step::EnsureImage(image) => self.pull(driver.ensure_image(image)).await?,
            Step::PullImage(image) => {
                self.pull(driver.pull(image)).await?;
            }
            Step::Thaw(id) => driver.thaw(id).await?,
            Step::CreateContainer(plan) => *made = Some(driver.create_container(plan).await?),
            Step::StartContainer(name) => *made = Some(driver.start_container(id_of(made.as_ref(), name)).await?),
            Step::WriteSecrets(name) => {
                write_secrets(self.node, &self.view.sandbox, driver, id_of(made.as_ref(), name)).await?;
            }
            Step::AwaitReady(ports) => await_ready(driver, ports, made).await?,
            Step::RemoveContainer(id) => driver.remove_container(id).await?,
            Step::RemoveWorkspace(mount) => driver.remove_workspace(mount, self.view.cluster).await?,
            Step::Fail(_, _, reason) => return self.gone(reason).await,
            // A create's plan has none of these.
            Step::Freeze(_)
            | Step::CommitImage(_)
            | Step::PushImage(_)
            | Step::RecordSnapshot
            | Step::Switch
            | Step::GiveUp(_)
            | Step::Fence(..)
            | Step::RemoveImage(_)
            | Step::Lose(..) => {}
        }
        crate::metrics::step(step, began.elapsed());
        Ok(())
    }

    /// A failed predecessor keeps its names until it is taken down; the session's new sandbox is reason enough.
    async fn wait_behind(&self) -> Result<(), Stop> {
        if let Some(predecessor) = self.view.predecessor.as_ref().filter(|other| other.phase == Phase::Failed) {
            let wish = Terminate {
                sandbox: predecessor.id,
                reason: format!("its session went on as {}", self.view.sandbox.id).into(),
                if_deadline: None,
                if_phase: Some(Phase::Failed),
                at: self.node.now(),
            };
            // Whatever came of it shows in state and wakes this sandbox again.
            let _refusal = self.node.commit_one(Command::Terminate(vec![wish])).await.map_err(Stop::Ledger)?;
        }
        Err(Stop::Behind)
    }
}

/// Writes the secret environment into the container's memory.
async fn write_secrets(
    node: &Node,
    sandbox: &Sandbox,
    driver: &dyn HostDriver,
    container: &str,
) -> Result<(), HostError> {
    let Some(sealed) = &sandbox.spec.sealed_env else { return Ok(()) };
    let defect = |error: crate::Error| HostError::new(HostFailure::Permanent, error.code, error.message);
    let secrets = node.options.secret.open(sandbox.id, sealed).map_err(defect)?;
    let options = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
    driver.files().write(container, naming::SECRETS_FILE, options, one_chunk(env_file(&secrets))).await
}

/// The id Docker gave the container, or its name while that is all there is.
fn id_of<'a>(made: Option<&'a ContainerSeen>, name: &'a str) -> &'a str {
    made.map_or(name, |seen| seen.id.as_str())
}

/// A body of one piece.
pub(crate) fn one_chunk(text: String) -> ByteStream {
    Box::pin(futures_util::stream::once(std::future::ready(Ok(Bytes::from(text)))))
}

/// Whether a refusal only says that somebody else was faster.
pub(crate) const fn is_past(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::GenerationPast | Refusal::WrongPhase(_) | Refusal::SandboxUnknown | Refusal::Conflict)
}
