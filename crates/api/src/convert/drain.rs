//! Between drains on the wire and the engine's.

use super::rules::Rules;
use crate::error::Answer;
use plimsoll_client::wire::{self, Time};
use plimsoll_engine::{DrainStatus, DrainWish, ProposedMove, policy};
use plimsoll_types::{Millis, Timestamp};

/// Checks how a host is to be drained.
pub(crate) fn wish(request: wire::DrainHost) -> Answer<DrainWish> {
    let mut rules = Rules::default();
    let (least, most) = (policy::DRAIN_PARALLEL.start(), policy::DRAIN_PARALLEL.end());
    rules.require(
        request.parallel.is_none_or(|parallel| policy::DRAIN_PARALLEL.contains(&parallel)),
        "/parallel",
        format!("from {least} to {most}"),
    );
    let longest = policy::DRAIN_DEADLINE_MAX.0 / 1000;
    rules.require(
        request.deadline_s.is_none_or(|seconds| (1..=longest).contains(&seconds)),
        "/deadline_s",
        format!("from 1 to {longest} (31 days)"),
    );
    rules.reason("/reason", &request.reason);
    rules.end()?;
    Ok(DrainWish { parallel: request.parallel, deadline: request.deadline_s.map(Millis::secs), reason: request.reason })
}

/// How far a drain is at this moment.
pub(crate) fn status(status: DrainStatus, now: Timestamp) -> wire::DrainStatus {
    let overdue = status.deadline.is_some_and(|deadline| deadline <= now);
    let stuck = status.left.iter().all(|left| left.would_go.is_none());
    let drain = status.since.filter(|_| status.draining).map(|since| wire::Drain {
        since: Time(since),
        deadline: status.deadline.map(Time),
        parallel: status.parallel,
        reason: status.reason.clone(),
    });
    let left = status.left.iter().map(|left| wire::LeftBehind {
        sandbox: left.sandbox,
        phase: left.phase,
        why: left.why.clone(),
        to: left.would_go.clone(),
    });
    wire::DrainStatus {
        empty: status.is_empty(),
        settled: status.moving == 0 && (status.is_empty() || overdue || stuck),
        moving: status.moving,
        moved: status.moved,
        drain,
        left: left.collect(),
        host: status.host,
    }
}

/// The moves that even hosts out.
pub(crate) fn rebalance(dry_run: bool, moves: Vec<ProposedMove>) -> wire::Rebalance {
    let one = |item: ProposedMove| wire::RebalanceMove {
        sandbox: item.sandbox,
        from: item.from,
        to: item.to,
        reason: item.reason,
        begun: item.begun,
    };
    wire::Rebalance { dry_run, moves: moves.into_iter().map(one).collect() }
}
