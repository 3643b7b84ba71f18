//! Draining: hosts that are to be emptied hand their running sandboxes to others, a few at a time. Paused ones hold nothing there, and
//! what starts or ends is waited for. What cannot move stays, with the reason.

use super::desk::{Ask, MigrateWish, MoveQuery, ask};
use crate::{Error, cluster::LeftBehind, node::Node, operation};
use futures_util::{StreamExt, stream};
use plimsoll_state::{Drain, Host, Sandbox, State, WorkKind};
use plimsoll_types::{Health, HostId, HostName, Millis, Phase, SandboxId, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

/// A look at least so often.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a sandbox that could not move is left alone: room comes and goes by the minute.
const RETRY: Millis = Millis::secs(10);
/// Most sandboxes of one host that a plan tells of: no host holds more.
const TOLD: usize = 1024;
/// Dry runs at once; the placer answers them one by one anyway.
const EXPLAINED_AT_ONCE: usize = 8;

/// Why sandboxes could not leave, and when that was found. Bounded by the sandboxes on draining hosts.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<SandboxId, (Timestamp, String)>>);

impl Troubles {
    fn of(&self, id: SandboxId) -> Option<(Timestamp, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn note(&self, id: SandboxId, at: Timestamp, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (at, why));
    }

    fn keep(&self, wanted: impl Fn(SandboxId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| wanted(*id));
    }
}

/// A host that drains, with the sandboxes to move now.
struct Draining {
    host: Arc<Host>,
    candidates: Vec<Arc<Sandbox>>,
    room: usize,
}

/// Drains until dropped.
pub(crate) async fn run(node: Arc<Node>, desk: mpsc::Sender<Ask>) {
    let Some(leading) = node.leading.get() else { return };
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = node.now();
        let draining = node.read(|state| draining(state, now));
        leading.stuck.keep(|id| draining.iter().any(|it| it.candidates.iter().any(|sandbox| sandbox.id == id)));
        for it in draining {
            let mut room = it.room;
            for sandbox in &it.candidates {
                let rests = leading.stuck.of(sandbox.id).is_some_and(|(at, _)| now.since(at) < RETRY);
                if room == 0 || rests {
                    continue;
                }
                match begin(&node, &desk, sandbox, None).await {
                    Ok(to) => {
                        tracing::info!(sandbox = %sandbox.id, from = %it.host.name, %to, "leaves a draining host");
                        room -= 1;
                    }
                    Err(error) => leading.stuck.note(sandbox.id, node.now(), format!("{}: {error}", error.code)),
                }
            }
        }
    }
}

fn draining(state: &State, now: Timestamp) -> Vec<Draining> {
    let hosts = state.hosts.values().filter(|host| host.health == Health::Ready);
    let of = |host: &Arc<Host>| {
        let drain = host.drain.as_ref().filter(|drain| !is_over(drain, now))?;
        let moves = |it: &&Arc<Sandbox>| it.work.as_ref().is_some_and(|work| work.kind == WorkKind::Migrate);
        let moving = state.on_host(host.id).filter(moves).filter(|it| is_here(it, host.id)).count();
        let failed_just_now = |it: &Sandbox| {
            it.trouble.as_ref().is_some_and(|it| it.kind == WorkKind::Migrate && now.since(it.at) < RETRY)
        };
        let ready = |it: &&Arc<Sandbox>| it.phase == Phase::Running && it.work.is_none() && is_here(it, host.id);
        let all = state.on_host(host.id).filter(ready).filter(|it| !failed_just_now(it));
        // What is held still, and then what is small, is away soonest.
        let mut candidates: Vec<Arc<Sandbox>> = all.cloned().collect();
        candidates.sort_by_key(|it| (it.frozen_since.is_none(), it.spec.resources.memory, it.id));
        let room = usize::try_from(drain.parallel.max(1)).unwrap_or(usize::MAX).saturating_sub(moving);
        Some(Draining { host: Arc::clone(host), candidates, room })
    };
    hosts.filter_map(of).collect()
}

fn is_over(drain: &Drain, now: Timestamp) -> bool {
    drain.deadline.is_some_and(|deadline| now >= deadline)
}

/// Whether the host is the sandbox's own, and not where a migration takes it.
fn is_here(sandbox: &Sandbox, host: HostId) -> bool {
    sandbox.assignment.is_some_and(|at| at.host == host)
}

/// Lets the placer begin a move.
pub(super) async fn begin(
    node: &Node,
    desk: &mpsc::Sender<Ask>,
    sandbox: &Sandbox,
    to: Option<HostId>,
) -> Result<HostId, Error> {
    if node.registry().is_none() {
        return Err(operation::registry_missing());
    }
    let (operation, snapshot) = (node.new_operation(), node.new_snapshot());
    let wish = MigrateWish { sandbox: sandbox.id, generation: sandbox.generation, operation, snapshot, to };
    ask(desk, |reply| Ask::Migrate(wish, reply)).await?
}

/// What is left on a host, and where it goes or would go.
pub(crate) async fn left(node: &Node, desk: &mpsc::Sender<Ask>, id: HostId) -> Result<Vec<LeftBehind>, Error> {
    let (host, sandboxes) = node.read(|state| {
        let there = state.on_host(id).filter(|it| is_here(it, id)).take(TOLD);
        (state.hosts.get(&id).cloned(), there.cloned().collect::<Vec<_>>())
    });
    let Some(host) = host else { return Ok(Vec::new()) };
    let told = stream::iter(sandboxes).map(|sandbox| tell(node, desk, &host, sandbox));
    Ok(told.buffered(EXPLAINED_AT_ONCE).collect().await)
}

async fn tell(node: &Node, desk: &mpsc::Sender<Ask>, host: &Host, sandbox: Arc<Sandbox>) -> LeftBehind {
    let at_rest = match sandbox.phase {
        Phase::Running if sandbox.work.is_none() => return runs(node, desk, host, &sandbox).await,
        Phase::Running => "an operation on it is under way; it moves afterwards",
        Phase::Assigned | Phase::Starting | Phase::Restoring => "it is starting; it moves once it runs",
        Phase::Pausing => "it is being paused; nothing of it stays",
        Phase::Migrating => "it is on its way",
        Phase::Lost => "its host is lost",
        Phase::Failed => "it failed; it goes when it is taken down",
        Phase::Terminating => "it is being taken down",
        Phase::Pending | Phase::Paused | Phase::Terminated => "it holds nothing here",
    };
    let target = sandbox.work.as_ref().and_then(|work| work.target);
    let would_go = target.and_then(|it| node.read(|state| state.hosts.get(&it.host).map(|host| host.name.clone())));
    LeftBehind { sandbox: sandbox.id, phase: sandbox.phase, why: at_rest.to_owned(), would_go }
}

async fn runs(node: &Node, desk: &mpsc::Sender<Ask>, host: &Host, sandbox: &Sandbox) -> LeftBehind {
    let (would_go, sentence) = would_go(desk, sandbox.id).await;
    let stuck = node.leading.get().and_then(|leading| leading.stuck.of(sandbox.id)).map(|(_, why)| why);
    let failed = sandbox.trouble.as_ref().filter(|it| it.kind == WorkKind::Migrate).map(|it| it.reason.to_string());
    let why = if node.registry().is_none() {
        operation::registry_missing().message
    } else if would_go.is_none() {
        sentence
    } else if let Some(failed) = failed {
        format!("its last move was given up: {failed}")
    } else if let Some(drain) = &host.drain {
        if is_over(drain, node.now()) {
            "the drain's deadline has passed".to_owned()
        } else {
            stuck.unwrap_or_else(|| "it waits for its turn".to_owned())
        }
    } else {
        "it would be moved".to_owned()
    };
    LeftBehind { sandbox: sandbox.id, phase: sandbox.phase, why, would_go }
}

/// Where a sandbox would move to now, and the placer's sentence about it.
async fn would_go(desk: &mpsc::Sender<Ask>, sandbox: SandboxId) -> (Option<HostName>, String) {
    let query = MoveQuery { sandbox, to: None };
    match ask(desk, |reply| Ask::ExplainMove(query, reply)).await {
        Ok(Ok(explained)) => (explained.chosen, explained.sentence),
        Ok(Err(error)) | Err(error) => (None, error.message),
    }
}
