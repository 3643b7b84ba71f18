//! Draining and rebalancing, as operators ask for them; the leader does the work.

use super::{VpsClusterProvider, hosts::no_such_host, misunderstood};
use crate::{
    Error,
    cluster::{DrainStatus, DrainWish, LeftBehind, ProposedMove},
    policy,
    questions::{Answer, Question},
    spec,
};
use plimsoll_state::{Command, Drain, Host, command::DrainHost};
use plimsoll_types::{HostId, Millis, Phase};
use std::sync::Arc;

/// The difference of dominant shares that a rebalance gets below unless told otherwise, in thousandths.
const SPREAD_PERMILLE: u32 = 200;

impl VpsClusterProvider {
    pub(super) async fn drain(&self, host: HostId, wish: DrainWish) -> Result<(), Error> {
        let reason = wish.reason;
        spec::check_reason(&reason)?;
        if wish.deadline.is_some_and(|it| it == Millis::ZERO || it > policy::DRAIN_DEADLINE_MAX) {
            return Err(spec::invalid("deadline", "use more than zero and at most 31 days, or leave it out"));
        }
        if wish.parallel.is_some_and(|it| !policy::DRAIN_PARALLEL.contains(&it)) {
            let rule = format_args!(
                "use {} to {}, or leave it out",
                policy::DRAIN_PARALLEL.start(),
                policy::DRAIN_PARALLEL.end()
            );
            return Err(spec::invalid("parallel", rule));
        }
        self.barrier().await?;
        // An empty host needs no registry to be drained.
        let known = self.known(host)?;
        if known.sandboxes > 0 {
            self.registry_there()?;
        }
        let at = self.node.now();
        let parallel = wish.parallel.unwrap_or_else(|| self.node.read(|state| state.policy.drain_parallel));
        let deadline = wish.deadline.map(|it| at.plus(it));
        let drain = Some(Drain { at, deadline, parallel, reason: reason.into() });
        self.change(Command::DrainHost(DrainHost { host, drain, at })).await
    }

    pub(super) async fn undrain(&self, host: HostId) -> Result<(), Error> {
        self.change(Command::DrainHost(DrainHost { host, drain: None, at: self.node.now() })).await
    }

    pub(super) async fn drain_progress(&self, id: HostId) -> Result<DrainStatus, Error> {
        self.barrier().await?;
        let host = self.known(id)?;
        let left: Vec<LeftBehind> = match self.ask(&Question::DrainPlan(id)).await? {
            Answer::Left(left) => left,
            Answer::Placed(_)
            | Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Awake(_)
            | Answer::Noted
            | Answer::Moves(_)
            | Answer::Error(_) => return Err(misunderstood()),
        };
        let since = host.drain.as_ref().map(|drain| drain.at);
        let moved = since.map_or(0, |since| {
            self.node.read(|state| {
                let away = |it: &plimsoll_state::Moved| it.from == id && it.at >= since;
                state.sandboxes.values().filter(|it| it.moved.as_ref().is_some_and(away)).count()
            })
        });
        let moving = left.iter().filter(|it| it.phase == Phase::Migrating).count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let usual = self.node.read(|state| state.policy.drain_parallel);
        Ok(DrainStatus {
            host: host.name.clone(),
            draining: host.drain.is_some(),
            since,
            deadline: host.drain.as_ref().and_then(|drain| drain.deadline),
            parallel: host.drain.as_ref().map_or(usual, |drain| drain.parallel),
            reason: host.drain.as_ref().map(|drain| drain.reason.to_string()).unwrap_or_default(),
            moving: number(moving),
            moved: number(moved),
            left,
        })
    }

    pub(super) async fn even_out(&self, dry_run: bool, spread: Option<u32>) -> Result<Vec<ProposedMove>, Error> {
        let spread_permille = spread.unwrap_or(SPREAD_PERMILLE);
        if !policy::SPREADS_PERMILLE.contains(&spread_permille) {
            let rule = format_args!(
                "use {} to {} thousandths",
                policy::SPREADS_PERMILLE.start(),
                policy::SPREADS_PERMILLE.end()
            );
            return Err(spec::invalid("spread_permille", rule));
        }
        if !dry_run {
            self.registry_there()?;
        }
        match self.ask(&Question::Rebalance { dry_run, spread_permille }).await? {
            Answer::Moves(moves) => Ok(moves),
            Answer::Placed(_)
            | Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Awake(_)
            | Answer::Noted
            | Answer::Left(_)
            | Answer::Error(_) => Err(misunderstood()),
        }
    }

    fn known(&self, id: HostId) -> Result<Arc<Host>, Error> {
        self.node.read(|state| state.hosts.get(&id).cloned()).ok_or_else(|| no_such_host(&id.to_string()))
    }
}
