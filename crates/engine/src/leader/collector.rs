//! Collecting: what nothing refers to any more leaves the registry and the hosts. Only this cluster's snapshots are ever touched, and
//! none that a sandbox needs: a record that says so is looked at, behind a barrier, after the things themselves were listed.

use super::{desk::Ask, full_disk, leading::Leading};
use crate::{Error, node::Node};
use plimsoll_lifecycle::{
    naming,
    planner::{self, Room, Step},
    ports::{ImageSeen, Registry},
};
use plimsoll_state::{
    Command, Host, Snapshot,
    command::{ForgetSnapshots, NoteDisk},
};
use plimsoll_types::{Bytes, Code, Health, HostId, MeasuredLoad, SnapshotId};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

/// Between looks for what is due.
const PERIOD: Duration = Duration::from_secs(2);
/// Snapshots deleted in one pass; the rest follows in the next one.
const BATCH: usize = 32;
/// The pause after the registry failed.
const REGISTRY_PAUSE: Duration = Duration::from_secs(15);
/// Between two sweeps of the whole registry: it lists every tag, and what it finds is rare.
const SWEEP: Duration = Duration::from_secs(300);
/// Between two looks at the images of a host, and of one whose disk is nearly full.
const HOST: Duration = Duration::from_secs(60);
const TIGHT_HOST: Duration = Duration::from_secs(15);
/// Use of a host's disk or inodes, in thousandths, past which copies that are kept for speed go at once.
const TIGHT_PERMILLE: u64 = 850;
/// The longest one host or one sweep may hold up the others.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two accounts of one full disk: Docker walks all of it for one.
const WARN: Duration = Duration::from_secs(600);

/// When what was done last; in memory, so that a new leader looks at everything once.
#[derive(Default)]
struct Diary {
    registry_rests_until: Option<Instant>,
    swept: Option<Instant>,
    /// Bounded by the hosts.
    hosts: BTreeMap<HostId, Visit>,
}

#[derive(Default)]
struct Visit {
    next: Option<Instant>,
    warned: Option<Instant>,
}

/// Collects until dropped.
pub(crate) async fn run(node: Arc<Node>, _desk: mpsc::Sender<Ask>) {
    let Some(leading) = node.leading.get() else { return };
    let mut diary = Diary::default();
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(registry) = node.registry()
            && diary.registry_rests_until.is_none_or(|until| Instant::now() >= until)
            && let Err(error) = tend(&node, registry.as_ref(), &mut diary).await
        {
            tracing::warn!(code = %error.code, %error, "the registry could not be tidied");
            diary.registry_rests_until = Some(Instant::now() + REGISTRY_PAUSE);
        }
        visit(&node, &leading, &mut diary).await;
    }
}

/// One pass over the registry: what is wanted gone, and, now and then, what has no record.
async fn tend(node: &Node, registry: &dyn Registry, diary: &mut Diary) -> Result<(), Error> {
    delete(node, registry).await?;
    if diary.swept.is_none_or(|at| at.elapsed() >= SWEEP) {
        time::timeout(PATIENCE, sweep(node, registry))
            .await
            .unwrap_or_else(|_| Err(Error::new(Code::Timeout, format!("its list took longer than {PATIENCE:?}"))))?;
        diary.swept = Some(Instant::now());
    }
    Ok(())
}

/// Deletes what is wanted gone, and forgets each record only after the registry has nothing of it.
async fn delete(node: &Node, registry: &dyn Registry) -> Result<(), Error> {
    let (cluster, wanted) = node.read(|state| {
        let wanted: Vec<Arc<Snapshot>> = state.deleting().take(BATCH).cloned().collect();
        (state.cluster, wanted)
    });
    let Some(cluster) = cluster else { return Ok(()) };
    let mut gone: Vec<SnapshotId> = Vec::new();
    let mut failed = Ok(());
    for snapshot in wanted {
        // What was given up while it was pushed has no record of where, and may be there all the same.
        let derived = || naming::repository(cluster, &snapshot.tenant, snapshot.sandbox);
        let repository = snapshot.stored.as_ref().map_or_else(derived, |stored| stored.repository.to_string());
        match registry.delete(&repository, snapshot.id).await {
            Ok(()) => gone.push(snapshot.id),
            Err(error) => {
                failed = Err(error.into());
                break;
            }
        }
    }
    if !gone.is_empty() {
        crate::metrics::collected("snapshot", gone.len());
        node.commit(Command::ForgetSnapshots(ForgetSnapshots { snapshots: gone, at: node.now() })).await?;
    }
    failed
}

/// Deletes what no record tells of: a push that ended after its operation was given up.
async fn sweep(node: &Node, registry: &dyn Registry) -> Result<(), Error> {
    let Some(cluster) = node.read(|state| state.cluster) else { return Ok(()) };
    let listed = registry.list(cluster).await?;
    // Every push is begun after its record was committed, so what has no record now never gets one.
    node.ledger.barrier().await?;
    // A tag that tells no snapshot was written by a release that this one does not understand.
    let orphan = |id: &SnapshotId| node.read(|state| !state.snapshots.contains_key(id));
    let orphans = listed.iter().filter_map(|seen| Some((seen, seen.snapshot.filter(|id| orphan(id))?)));
    for (seen, id) in orphans.take(BATCH) {
        tracing::info!(repository = %seen.repository, snapshot = %id, "deleted from the registry: it has no record");
        registry.delete(&seen.repository, id).await?;
        crate::metrics::collected("orphan", 1);
    }
    Ok(())
}

/// Looks at the hosts that are due, one after another.
async fn visit(node: &Node, leading: &Leading, diary: &mut Diary) {
    let hosts: Vec<Arc<Host>> = node.read(|state| state.hosts.values().cloned().collect());
    diary.hosts.retain(|id, _| hosts.iter().any(|host| host.id == *id));
    for host in hosts.iter().filter(|host| host.health == Health::Ready) {
        let load = leading.loads.all().get(&host.id).map(|measured| measured.raw);
        let Some(load) = load else { continue };
        let room = room(host, &load);
        let visit = diary.hosts.entry(host.id).or_default();
        if visit.next.is_some_and(|next| Instant::now() < next) {
            continue;
        }
        visit.next = Some(Instant::now() + if room == Room::Tight { TIGHT_HOST } else { HOST });
        let collected = time::timeout(PATIENCE, collect(node, host, room)).await;
        match collected {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(host = %host.name, code = %error.code, %error, "its images stay for now"),
            Err(_) => tracing::debug!(host = %host.name, "its images were not looked through within {PATIENCE:?}"),
        }
        tell(node, host, &load, room, &mut visit.warned).await;
    }
}

fn room(host: &Host, load: &MeasuredLoad) -> Room {
    let permille = u128::from(load.disk.0) * 1000 / u128::from(host.facts.totals.disk.0.max(1));
    let full = permille > u128::from(TIGHT_PERMILLE) || u64::from(load.inodes_permille) > TIGHT_PERMILLE;
    if full && host.facts.totals.disk != Bytes::ZERO { Room::Tight } else { Room::Enough }
}

/// Removes the snapshot images that nothing on the host needs.
async fn collect(node: &Node, host: &Host, room: Room) -> Result<(), Error> {
    let Some(cluster) = node.read(|state| state.cluster) else { return Ok(()) };
    let driver = node.drivers.of(host);
    let images: Vec<ImageSeen> = driver.list_snapshots(cluster).await?;
    node.ledger.barrier().await?;
    let now = node.now();
    let plan = node.read(|state| planner::collect(state, host.id, &images, room, now));
    for planned in &plan.steps {
        let Step::RemoveImage(name) = &planned.step else { continue };
        // A resume may have come here since the list was made, and pulled it.
        let needed = images.iter().find(|seen| seen.name == *name).and_then(|seen| seen.snapshot).is_some_and(|id| {
            let needs = |it: &plimsoll_state::Sandbox| {
                it.base == Some(id) || it.work.as_ref().is_some_and(|work| work.snapshot == id)
            };
            node.read(|state| state.on_host(host.id).any(|sandbox| needs(sandbox)))
        });
        if needed {
            continue;
        }
        match driver.remove_snapshot(name).await {
            Ok(()) => {
                tracing::info!(host = %host.name, image = %name, because = %planned.because, "an image was removed");
                crate::metrics::collected("image", 1);
            }
            // A container still has it: it goes when that is gone.
            Err(error) if error.code == Code::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Says on the host's record and in the log what fills its disk, now and then; or that it has room again.
async fn tell(node: &Node, host: &Host, load: &MeasuredLoad, room: Room, told: &mut Option<Instant>) {
    let reason = match room {
        // A new leader has told nothing yet; what its predecessor said stands until it has.
        Room::Tight if told.is_some_and(|at| at.elapsed() < WARN) => return,
        Room::Tight => Some(account(node, host, load).await),
        Room::Enough if host.disk_full.is_none() => return,
        Room::Enough => None,
    };
    match &reason {
        Some(reason) => tracing::warn!(host = %host.name, "{reason}"),
        None => tracing::info!(host = %host.name, "its disk has room again"),
    }
    let note = NoteDisk { host: host.id, reason: reason.as_deref().map(Into::into), at: node.now() };
    match node.commit(Command::NoteDisk(note)).await {
        Ok(_) => *told = reason.is_some().then(Instant::now),
        Err(error) => tracing::debug!(host = %host.name, %error, "what fills its disk could not be committed"),
    }
}

/// What fills the disk, by Docker's account where it gives one in time.
async fn account(node: &Node, host: &Host, load: &MeasuredLoad) -> String {
    let Some(cluster) = node.read(|state| state.cluster) else { return full_disk::sentence(&host.facts, load, None) };
    let driver = node.drivers.of(host);
    let account = match time::timeout(PATIENCE, driver.disk_use(cluster)).await {
        Ok(Ok(account)) => Some(account),
        Ok(Err(error)) => {
            tracing::debug!(host = %host.name, code = %error.code, %error, "Docker gave no account of its disk");
            None
        }
        Err(_) => None,
    };
    full_disk::sentence(&host.facts, load, account.as_ref())
}
