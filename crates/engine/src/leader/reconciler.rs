//! The reconciler: compares what stands on each host with what state says, and removes what has no owner.

use crate::node::Node;
use plimsoll_lifecycle::{
    naming,
    planner::{self, Before, Listed, Step},
    ports::HostDriver,
};
use plimsoll_state::{Command, Host, Sandbox, command::Advance};
use plimsoll_types::{Generation, Health, HostId, Phase, SandboxId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::{Id, JoinSet},
    time::{self, Instant, MissedTickBehavior},
};

/// Hosts compared at once: each pass lists all containers of a host.
const HOSTS_AT_ONCE: usize = 16;
/// Between looks for hosts that are due: those of a longer time would all be compared at once, and requests wait for it.
const PERIOD: Duration = Duration::from_millis(200);
/// Hosts have so many paces, each a little faster than the one before, so that those that began together drift apart.
const PACES: u32 = 16;
/// How much faster each is, as one part of so many of the whole time.
const STEP: u32 = 64;

/// Reconciles until dropped: every host at once on gaining leadership, then each at its pace.
pub(crate) async fn run(node: Arc<Node>) {
    let mut passes: BTreeMap<HostId, Pass> = BTreeMap::new();
    let mut running: JoinSet<()> = JoinSet::new();
    // Whose pass each is, known here even of one that panics.
    let mut hosts_of: HashMap<Id, HostId> = HashMap::new();
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether hosts were due that did not fit beside the others: they go on as soon as one ends, not with the next tick.
    let mut waiting = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = running.join_next_with_id(), if !running.is_empty() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "a comparison with state ended badly");
                        error.id()
                    }
                };
                if let Some((host, pass)) = hosts_of.remove(&id).and_then(|host| Some((host, passes.get_mut(&host)?))) {
                    pass.under_way = false;
                    pass.next = Instant::now() + pace(node.options.reconcile, host);
                }
                // Otherwise the next look is soon enough.
                if !waiting {
                    continue;
                }
            }
        }
        let hosts: Vec<Arc<Host>> = node.read(|state| state.hosts.values().cloned().collect());
        passes.retain(|id, _| hosts.binary_search_by_key(id, |host| host.id).is_ok());
        let mut due = Vec::new();
        for host in hosts {
            let pass = passes.entry(host.id).or_insert_with(Pass::new);
            if host.health != Health::Ready {
                // As soon as it is back: what was replaced meanwhile must not run beside its replacement.
                pass.next = Instant::now();
            } else if !pass.under_way && pass.next <= Instant::now() {
                due.push((pass.next, host));
            }
        }
        // Who waits longest first: with more hosts than can be looked at in time, none is left out.
        due.sort_by_key(|(since, host)| (*since, host.id));
        let places = HOSTS_AT_ONCE.saturating_sub(running.len());
        waiting = due.len() > places;
        for (_, host) in due.into_iter().take(places) {
            let Some(pass) = passes.get_mut(&host.id) else { continue };
            pass.under_way = true;
            let (node, id) = (Arc::clone(&node), host.id);
            let task = running.spawn(async move {
                if let Err(error) = reconcile(&node, &host).await {
                    tracing::debug!(host = %host.name, %error, "could not be compared with state");
                }
            });
            hosts_of.insert(task.id(), id);
        }
    }
}

/// From the end of a host's pass to its next.
fn pace(longest: Duration, host: HostId) -> Duration {
    longest - longest / STEP * (host.0 % PACES)
}

struct Pass {
    next: Instant,
    under_way: bool,
}

impl Pass {
    fn new() -> Self {
        Self { next: Instant::now(), under_way: false }
    }
}

/// One comparison: what ran before the lists, the lists, a barrier, and state as it is then.
pub(crate) async fn reconcile(node: &Node, host: &Host) -> Result<(), crate::Error> {
    let driver = node.drivers.of(host);
    let (cluster, before) = node.read(|state| {
        let ran = state.on_host(host.id).filter(|sandbox| sandbox.phase == Phase::Running);
        (state.cluster, ran.map(|sandbox| (sandbox.id, sandbox.generation)).collect::<Before>())
    });
    let Some(cluster) = cluster else { return Ok(()) };
    let containers = driver.list_containers(cluster).await?;
    let workspaces = driver.list_workspaces(cluster).await?;
    node.ledger.barrier().await?;
    let listed = Listed { containers: &containers, workspaces: &workspaces };
    let plan = node.read(|state| planner::reconcile(state, host.id, &before, listed, node.now()));
    if !plan.is_empty() {
        tracing::warn!(host = %host.name, %plan, "what stands there is not what state says");
    }
    for planned in &plan.steps {
        // One thing that cannot be removed must not keep the others; the next pass tries it again.
        if let Err(error) = step(node, driver.as_ref(), host, &planned.step).await {
            tracing::warn!(host = %host.name, step = %planned.step, code = %error.code, %error, "could not be put right");
        }
    }
    let starts = |it: &Sandbox| {
        matches!(it.phase, Phase::Assigned | Phase::Starting | Phase::Restoring | Phase::Lost | Phase::Migrating)
    };
    let quiet = || node.read(|state| !state.on_host(host.id).any(|it| starts(it)));
    // A create that begins right after this look makes its network again if it is gone.
    if quiet() {
        driver.remove_idle_networks(cluster).await?;
    }
    if node.read(|state| state.on_host(host.id).all(|sandbox| sandbox.work.is_none())) {
        driver.sweep_snapshots(cluster).await?;
    }
    Ok(())
}

async fn step(node: &Node, driver: &dyn HostDriver, host: &Host, step: &Step) -> Result<(), crate::Error> {
    match step {
        Step::RemoveWorkspace(mount) => {
            // A look right before: a new sandbox of the session may have come here since the plan was made.
            let free = node.read(|state| {
                let target = |it: &Sandbox| it.work.as_ref().and_then(|work| work.target);
                let same = |it: &Sandbox| {
                    let mut assigned = it.assignment.into_iter().chain(target(it)).filter(|at| at.host == host.id);
                    let of = |generation| naming::workspace(&state.policy, &it.tenant, &it.session, generation);
                    assigned.any(|at| of(at.generation).volume == mount.volume)
                };
                if state.on_host(host.id).any(|sandbox| same(sandbox)) { None } else { state.cluster }
            });
            if let Some(cluster) = free {
                driver.remove_workspace(mount, cluster).await?;
                crate::metrics::reconciled("removed");
            }
        }
        Step::RemoveContainer(id) => {
            driver.remove_container(id).await?;
            crate::metrics::reconciled("removed");
        }
        Step::Fence(id, name) => {
            driver.fence(id, name).await?;
            crate::metrics::reconciled("fenced");
        }
        Step::Freeze(id) | Step::Thaw(id) => set_right(node, driver, host, id, matches!(step, Step::Freeze(_))).await?,
        Step::Lose(sandbox, generation, reason) => {
            advance(node, (*sandbox, *generation), Phase::Lost, reason.as_str().into()).await?;
        }
        Step::Fail(sandbox, generation, reason) => {
            let reason = format!("{}: {reason}", plimsoll_types::Code::StartFailed);
            advance(node, (*sandbox, *generation), Phase::Failed, reason.into()).await?;
        }
        // A host's plan has only those above.
        Step::Await(_)
        | Step::Commit(..)
        | Step::EnsureImage(_)
        | Step::PullImage(_)
        | Step::CreateContainer(_)
        | Step::StartContainer(_)
        | Step::WriteSecrets(_)
        | Step::AwaitReady(_)
        | Step::CommitImage(_)
        | Step::PushImage(_)
        | Step::RecordSnapshot
        | Step::RemoveImage(_)
        | Step::Switch
        | Step::GiveUp(_) => {}
    }
    Ok(())
}

/// Freezes or thaws what state says is frozen or not; an operation that has begun since the plan was made does so by itself.
async fn set_right(
    node: &Node,
    driver: &dyn HostDriver,
    host: &Host,
    container: &str,
    frozen: bool,
) -> Result<(), crate::Error> {
    let find = || {
        node.read(|state| {
            let mut here = state.on_host(host.id).filter(|it| it.container.as_deref() == Some(container));
            here.find(|it| it.phase == Phase::Running && it.frozen_since.is_some() == frozen).cloned()
        })
    };
    let Some(sandbox) = find() else { return Ok(()) };
    if sandbox.work.is_some() {
        return Ok(());
    }
    let _turn = node.stillness.of(sandbox.id).await;
    if find().is_none_or(|now| now.work.is_some()) {
        return Ok(());
    }
    if frozen {
        driver.freeze(container).await?
    } else {
        driver.thaw(container).await?
    }
    Ok(())
}

async fn advance(
    node: &Node,
    (sandbox, generation): (SandboxId, Generation),
    to: Phase,
    reason: Box<str>,
) -> Result<(), crate::Error> {
    let at = node.now();
    let news = Advance { sandbox, generation, to, container: None, endpoints: Vec::new(), release: false, reason, at };
    match node.commit_one(Command::Advance(vec![news])).await? {
        Ok(()) => crate::metrics::reconciled(to.as_str()),
        Err(refusal) => tracing::debug!(%sandbox, ?refusal, "it has moved on"),
    }
    Ok(())
}
