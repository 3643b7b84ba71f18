//! The reconciler: compares what stands on each host with what state says, and removes what has no owner.

use crate::node::Node;
use plimsoll_lifecycle::{
    naming,
    planner::{self, Before, Listed, Step},
    ports::HostDriver,
};
use plimsoll_state::{Command, Host, Sandbox, command::Advance};
use plimsoll_types::{Health, HostId, Phase};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};

/// Hosts compared at once: each pass lists all containers of a host.
const HOSTS_AT_ONCE: usize = 16;
/// Between looks for hosts that are due.
const PERIOD: Duration = Duration::from_secs(1);

/// Reconciles until dropped: every host at once on gaining leadership, then each at its pace.
pub(crate) async fn run(node: Arc<Node>) {
    let mut passes: BTreeMap<HostId, Pass> = BTreeMap::new();
    let mut running: JoinSet<HostId> = JoinSet::new();
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = running.join_next(), if !running.is_empty() => {
                if let Ok(pass) = ended.map(|host| passes.get_mut(&host)) {
                    let Some(pass) = pass else { continue };
                    pass.under_way = false;
                    pass.next = Instant::now() + node.options.reconcile;
                }
                continue;
            }
        }
        let hosts: Vec<Arc<Host>> = node.read(|state| state.hosts.values().cloned().collect());
        passes.retain(|id, _| hosts.binary_search_by_key(id, |host| host.id).is_ok());
        for host in hosts {
            let pass = passes.entry(host.id).or_insert_with(Pass::new);
            if host.health != Health::Ready {
                // As soon as it is back: what was replaced meanwhile must not run beside its replacement.
                pass.next = Instant::now();
                continue;
            }
            if pass.under_way || pass.next > Instant::now() || running.len() >= HOSTS_AT_ONCE {
                continue;
            }
            pass.under_way = true;
            let node = Arc::clone(&node);
            running.spawn(async move {
                if let Err(error) = reconcile(&node, &host).await {
                    tracing::debug!(host = %host.name, %error, "could not be compared with state");
                }
                host.id
            });
        }
    }
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
    let plan = node.read(|state| planner::reconcile(state, host.id, &before, listed));
    if !plan.is_empty() {
        tracing::warn!(host = %host.name, %plan, "what stands there is not what state says");
    }
    for planned in &plan.steps {
        // One thing that cannot be removed must not keep the others; the next pass tries it again.
        if let Err(error) = step(node, driver.as_ref(), host, &planned.step).await {
            tracing::warn!(host = %host.name, step = %planned.step, code = %error.code, %error, "could not be put right");
        }
    }
    let quiet =
        || node.read(|state| state.on_host(host.id).all(|it| !matches!(it.phase, Phase::Assigned | Phase::Starting)));
    // A create that begins right after this look makes its network again if it is gone.
    if quiet() {
        driver.remove_idle_networks(cluster).await?;
    }
    Ok(())
}

async fn step(node: &Node, driver: &dyn HostDriver, host: &Host, step: &Step) -> Result<(), crate::Error> {
    match step {
        Step::RemoveWorkspace(mount) => {
            // A look right before: a new sandbox of the session may have come here since the plan was made.
            let free = node.read(|state| {
                let same =
                    |it: &Sandbox| naming::workspace(&state.policy, &it.tenant, &it.session).volume == mount.volume;
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
        Step::Fail(sandbox, generation, reason) => {
            let news = Advance {
                sandbox: *sandbox,
                generation: *generation,
                to: Phase::Failed,
                container: None,
                endpoints: Vec::new(),
                release: false,
                reason: format!("{}: {reason}", plimsoll_types::Code::StartFailed).into(),
                at: node.now(),
            };
            if let Err(refusal) = node.commit_one(Command::Advance(vec![news])).await? {
                tracing::debug!(%sandbox, ?refusal, "it has moved on");
                return Ok(());
            }
            crate::metrics::reconciled("failed");
        }
        // A host's plan has only the three above.
        Step::Await(_)
        | Step::Commit(..)
        | Step::EnsureImage(_)
        | Step::CreateContainer(_)
        | Step::StartContainer(_)
        | Step::WriteSecrets(_)
        | Step::AwaitReady(_) => {}
    }
    Ok(())
}
