//! Rebalancing: the fewest moves that bring hosts closer together, proposed from what state reserves and, if wanted, begun. It decides
//! nothing for good: the placer and apply judge each move again.

use super::{desk::Ask, drainer};
use crate::{Error, cluster::ProposedMove, node::Node};
use plimsoll_placement::score::share_ppm;
use plimsoll_state::{Host, Sandbox, State};
use plimsoll_types::{Health, HostId, Phase, Resources, SandboxId, TenantId, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::mpsc;

/// Most moves in one answer: each reserves room on its target at once, and the next call goes on from there.
const MOVES: usize = 32;

/// A host as far as moves have been thought through.
struct Seat {
    host: Arc<Host>,
    line: Resources,
    reserved: Resources,
    /// Anti-affinity groups that have a sandbox on it, each with how many.
    groups: BTreeMap<(TenantId, Box<str>), u32>,
    /// Whether something may be moved there.
    open: bool,
}

/// A sandbox that may be moved.
struct Mover {
    sandbox: Arc<Sandbox>,
    at: HostId,
    /// Frozen or idle: nobody notices its move.
    rests: bool,
}

/// A move that was thought through.
struct Move {
    sandbox: Arc<Sandbox>,
    from: HostId,
    to: HostId,
    reason: String,
}

/// Proposes, and begins unless it is a dry run.
pub(crate) async fn rebalance(
    node: &Node,
    desk: &mpsc::Sender<Ask>,
    dry_run: bool,
    spread_permille: u32,
) -> Result<Vec<ProposedMove>, Error> {
    let now = node.now();
    let running = node.read(|state| state.in_phase(Phase::Running).map(|it| it.id).collect::<Vec<_>>());
    let idle = node.leading.get().map(|leading| {
        let rests = |id: &SandboxId| {
            leading.activity.seen(*id, now).is_some_and(|it| it.fresh && it.busy_at < now && it.sessions == 0)
        };
        running.into_iter().filter(rests).collect::<BTreeSet<_>>()
    });
    let idle = idle.unwrap_or_default();
    let (moves, names) = node.read(|state| {
        let names: BTreeMap<HostId, _> = state.hosts.values().map(|host| (host.id, host.name.clone())).collect();
        (propose(state, &idle, spread_permille, now), names)
    });
    let mut proposed = Vec::new();
    for it in moves {
        let (Some(from), Some(to)) = (names.get(&it.from).cloned(), names.get(&it.to).cloned()) else { continue };
        let mut shown = ProposedMove { sandbox: it.sandbox.id, from, to, reason: it.reason, begun: false };
        if !dry_run {
            match drainer::begin(node, desk, &it.sandbox, Some(it.to)).await {
                Ok(_) => shown.begun = true,
                Err(error) => shown.reason = format!("{}; not begun: {error}", shown.reason),
            }
        }
        proposed.push(shown);
    }
    Ok(proposed)
}

/// The moves, in the order to make them: each takes from the fullest host what evens it out most.
fn propose(state: &State, idle: &BTreeSet<SandboxId>, spread_permille: u32, now: Timestamp) -> Vec<Move> {
    let spread_ppm = spread_permille.saturating_mul(1000);
    let mut seats = seats(state, now);
    let mut movers = movers(state, idle);
    let mut moves = Vec::new();
    while moves.len() < MOVES {
        let Some((full, empty)) = extremes(&seats) else { break };
        let spread = share(&seats, full).saturating_sub(share(&seats, empty));
        if spread <= spread_ppm {
            break;
        }
        let Some((chosen, to)) = best(state, &seats, &movers, full) else { break };
        let mover = movers.swap_remove(chosen);
        let before = share(&seats, full);
        shift(&mut seats, &mover.sandbox, full, to);
        let reason = format!(
            "{} falls from {} to {} full, {} rises to {}",
            name(&seats, full),
            percent(before),
            percent(share(&seats, full)),
            name(&seats, to),
            percent(share(&seats, to)),
        );
        moves.push(Move { sandbox: mover.sandbox, from: full, to, reason });
    }
    moves
}

fn seats(state: &State, now: Timestamp) -> BTreeMap<HostId, Seat> {
    let seat = |host: &Arc<Host>| {
        let mut groups: BTreeMap<(TenantId, Box<str>), u32> = BTreeMap::new();
        let mut leaving = Resources::ZERO;
        for sandbox in state.on_host(host.id) {
            // What is on its way already counts where it goes.
            if sandbox.phase == Phase::Migrating && sandbox.assignment.is_some_and(|at| at.host == host.id) {
                leaving = leaving.checked_add(sandbox.spec.resources).unwrap_or(leaving);
            } else if let Some(group) = &sandbox.spec.anti_affinity {
                *groups.entry((sandbox.tenant.clone(), group.clone())).or_default() += 1;
            }
        }
        let quarantined = host.quarantine.as_ref().is_some_and(|it| it.at > now);
        let open = host.cordon.is_none() && host.drain.is_none() && !quarantined;
        let line = state.policy.load_line.of(host.facts.totals);
        let reserved = less(host.reserved, leaving);
        (host.id, Seat { host: Arc::clone(host), line, reserved, groups, open })
    };
    // One that drains is emptied anyway, and one that does not answer gives and takes nothing.
    let takes_part = |host: &&Arc<Host>| host.health == Health::Ready && host.drain.is_none();
    state.hosts.values().filter(takes_part).map(seat).collect()
}

fn movers(state: &State, idle: &BTreeSet<SandboxId>) -> Vec<Mover> {
    let free = state.in_phase(Phase::Running).filter(|it| it.work.is_none());
    let mover = |sandbox: &Arc<Sandbox>| {
        let rests = sandbox.frozen_since.is_some() || idle.contains(&sandbox.id);
        Some(Mover { sandbox: Arc::clone(sandbox), at: sandbox.assignment?.host, rests })
    };
    free.filter_map(mover).collect()
}

/// The fullest host, and the emptiest one that takes something.
fn extremes(seats: &BTreeMap<HostId, Seat>) -> Option<(HostId, HostId)> {
    let full = seats.keys().max_by_key(|id| share(seats, **id))?;
    let empty = seats.iter().filter(|(_, seat)| seat.open).map(|(id, _)| id).min_by_key(|id| share(seats, **id))?;
    (full != empty).then_some((*full, *empty))
}

/// The sandbox of a host and the target that leave the fuller of the two as empty as can be; among equals what rests, then what is
/// small. `None` where nothing helps.
fn best(state: &State, seats: &BTreeMap<HostId, Seat>, movers: &[Mover], full: HostId) -> Option<(usize, HostId)> {
    let before = share(seats, full);
    let from = seats.get(&full)?;
    let of_host = movers.iter().enumerate().filter(|(_, mover)| mover.at == full);
    let options = of_host.flat_map(|(nth, mover)| {
        let targets = seats.iter().filter(move |(id, seat)| **id != full && takes(state, seat, from, mover));
        targets.map(move |(id, seat)| {
            let asked = mover.sandbox.spec.resources;
            let left = dominant(less(from.reserved, asked), from.host.facts.totals);
            let there = dominant(seat.reserved.checked_add(asked).unwrap_or(seat.line), seat.host.facts.totals);
            ((left.max(there), !mover.rests, asked.memory, mover.sandbox.id, *id), nth)
        })
    });
    let ((after, _, _, _, to), nth) = options.min()?;
    (after < before).then_some((nth, to))
}

/// Whether a host would take a sandbox, as far as state tells; the placer knows pressure and measured load as well.
fn takes(state: &State, seat: &Seat, from: &Seat, mover: &Mover) -> bool {
    let (spec, host) = (&mover.sandbox.spec, &seat.host);
    let group = spec.anti_affinity.as_ref().map(|group| (mover.sandbox.tenant.clone(), group.clone()));
    seat.open
        && state.hosts.contains_key(&host.id)
        && seat.reserved.checked_add(spec.resources).is_some_and(|sum| sum.fits_in(seat.line))
        && spec.constraints.iter().all(|constraint| constraint.matches(&host.labels))
        && host.facts.runtimes.iter().any(|runtime| runtime == spec.runtime.as_str())
        && host.facts.architecture == from.host.facts.architecture
        && group.is_none_or(|group| !seat.groups.contains_key(&group))
}

fn shift(seats: &mut BTreeMap<HostId, Seat>, sandbox: &Sandbox, from: HostId, to: HostId) {
    let asked = sandbox.spec.resources;
    let group = sandbox.spec.anti_affinity.as_ref().map(|group| (sandbox.tenant.clone(), group.clone()));
    if let Some(seat) = seats.get_mut(&from) {
        seat.reserved = less(seat.reserved, asked);
        if let Some(count) = group.as_ref().and_then(|group| seat.groups.get_mut(group)) {
            *count = count.saturating_sub(1);
        }
        seat.groups.retain(|_, count| *count > 0);
    }
    if let Some(seat) = seats.get_mut(&to) {
        seat.reserved = seat.reserved.checked_add(asked).unwrap_or(seat.reserved);
        if let Some(group) = group {
            *seat.groups.entry(group).or_default() += 1;
        }
    }
}

fn less(from: Resources, what: Resources) -> Resources {
    Resources {
        cpu: from.cpu.saturating_sub(what.cpu),
        memory: from.memory.saturating_sub(what.memory),
        disk: from.disk.saturating_sub(what.disk),
    }
}

fn share(seats: &BTreeMap<HostId, Seat>, id: HostId) -> u32 {
    seats.get(&id).map_or(0, |seat| dominant(seat.reserved, seat.host.facts.totals))
}

/// The largest of the shares, in millionths.
fn dominant(reserved: Resources, totals: Resources) -> u32 {
    let cpu = share_ppm(reserved.cpu.0, totals.cpu.0);
    let memory = share_ppm(reserved.memory.0, totals.memory.0);
    cpu.max(memory).max(share_ppm(reserved.disk.0, totals.disk.0))
}

fn name(seats: &BTreeMap<HostId, Seat>, id: HostId) -> String {
    seats.get(&id).map_or_else(|| id.to_string(), |seat| seat.host.name.to_string())
}

/// `51.2 %`.
fn percent(ppm: u32) -> String {
    let permille = ppm / 1000;
    format!("{}.{} %", permille / 10, permille % 10)
}
