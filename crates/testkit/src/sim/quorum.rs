//! What raft promises, as a value: the committed log, who is there, who leads, and chance.
//!
//! Everything here is instantaneous; [`super::cluster`] adds time.

use super::{
    cluster::LedgerFaults,
    lifeline::Lifeline,
    replica::{Agreement, Entry, Replica},
};
use plimsoll_lifecycle::ports::{LeaderHandler, LeaderView};
use plimsoll_state::{Command, State};
use plimsoll_types::NodeId;
use rand::{Rng, rngs::StdRng};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The whole control plane.
pub(super) struct Inner {
    pub(super) rng: StdRng,
    pub(super) log: Vec<Entry>,
    /// A copy that nothing delays, for oracles.
    pub(super) witness: Replica,
    pub(super) agreement: Agreement,
    pub(super) term: u64,
    pub(super) leader: Option<NodeId>,
    pub(super) elections: bool,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) faults: LedgerFaults,
    /// Which proposal is to panic.
    pub(super) panics_at: Option<fn(&Command) -> bool>,
    pub(super) violations: Vec<String>,
}

/// One node.
pub(super) struct Member {
    pub(super) replica: Replica,
    pub(super) isolated: bool,
    pub(super) lag: Duration,
    pub(super) life: Lifeline,
    pub(super) handler: Option<Arc<dyn LeaderHandler>>,
    /// The last entry applied, whatever it was.
    pub(super) applied: watch::Sender<u64>,
    /// The last command applied: what readers wait for.
    pub(super) changed: watch::Sender<u64>,
    pub(super) view: watch::Sender<LeaderView>,
}

/// What is to become of a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Lost,
    AnswerLost,
    Late(Duration),
}

impl Member {
    pub(super) fn new() -> Self {
        Self {
            replica: Replica::default(),
            isolated: false,
            lag: Duration::ZERO,
            life: Lifeline::default(),
            handler: None,
            applied: watch::Sender::new(0),
            changed: watch::Sender::new(0),
            view: watch::Sender::new(LeaderView::default()),
        }
    }

    pub(super) fn connected(&self) -> bool {
        self.life.is_alive() && !self.isolated
    }
}

impl Inner {
    pub(super) fn end(&self) -> u64 {
        u64::try_from(self.log.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn witness(&mut self) -> &State {
        let end = self.end();
        let Self { log, agreement, witness, violations, .. } = self;
        violations.extend(witness.catch_up(log, end, agreement));
        &self.witness.state
    }

    pub(super) fn rejoin(&mut self, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node) {
            member.isolated = false;
        }
        self.catch_up_all();
        self.show_views();
    }

    pub(super) fn applied(&self, node: NodeId) -> u64 {
        self.members.get(&node).map_or(0, |member| member.replica.applied)
    }

    pub(super) fn state(&self, node: NodeId) -> Option<&State> {
        self.members.get(&node).map(|member| &member.replica.state)
    }

    pub(super) fn is_leader(&self, node: NodeId) -> bool {
        self.leader == Some(node)
    }

    pub(super) fn quorum(&self) -> bool {
        self.members.values().filter(|member| member.connected()).count() > self.members.len() / 2
    }

    pub(super) fn reachable_term(&self, node: NodeId) -> Option<u64> {
        let connected = self.members.get(&node).is_some_and(Member::connected);
        (connected && self.quorum() && self.leader.is_some()).then_some(self.term)
    }

    pub(super) fn leader_handler(&self) -> Option<(Arc<dyn LeaderHandler>, Lifeline)> {
        let member = self.members.get(&self.leader?)?;
        Some((Arc::clone(member.handler.as_ref()?), member.life.clone()))
    }

    pub(super) fn draw_question_lost(&mut self) -> bool {
        let chance = self.faults.question_lost_permille;
        self.rng.random_range(0..1000) < chance
    }

    pub(super) fn draw_fate(&mut self) -> (Fate, Duration) {
        let LedgerFaults { lost_permille: lost, answer_lost_permille: unheard, late_permille: late, .. } = self.faults;
        let roll = self.rng.random_range(0..1000);
        let fate = if roll < lost {
            Fate::Lost
        } else if roll < lost + unheard {
            Fate::AnswerLost
        } else if roll < lost + unheard + late {
            Fate::Late(Duration::from_millis(self.rng.random_range(0..10_000)))
        } else {
            Fate::Answered
        };
        (fate, Duration::from_millis(self.rng.random_range(1..5)))
    }

    /// The leader applies before it acknowledges; followers may lag.
    pub(super) fn draw_lag(&mut self, node: NodeId, leader: Option<NodeId>) -> Duration {
        let set = self.members.get(&node).map_or(Duration::ZERO, |member| member.lag);
        if leader == Some(node) || self.faults.lag_ms == 0 {
            return set;
        }
        set + Duration::from_millis(self.rng.random_range(0..=self.faults.lag_ms))
    }

    pub(super) fn catch_up(&mut self, node: NodeId, upto: u64) {
        let Self { log, agreement, members, violations, .. } = self;
        if let Some(member) = members.get_mut(&node) {
            violations.extend(member.replica.catch_up(log, upto, agreement));
            let (applied, changed) = (member.replica.applied, member.replica.state.applied);
            member.applied.send_if_modified(|seen| std::mem::replace(seen, applied) != applied);
            member.changed.send_if_modified(|seen| std::mem::replace(seen, changed) != changed);
        }
    }

    pub(super) fn catch_up_if_connected(&mut self, node: NodeId, upto: u64) {
        if self.members.get(&node).is_some_and(Member::connected) {
            self.catch_up(node, upto);
        }
    }

    pub(super) fn catch_up_all(&mut self) {
        let end = self.end();
        for node in self.members.keys().copied().collect::<Vec<_>>() {
            self.catch_up_if_connected(node, end);
        }
    }

    pub(super) fn elect(&mut self, node: NodeId) {
        if !self.members.get(&node).is_some_and(Member::connected) {
            return;
        }
        self.term += 1;
        self.leader = Some(node);
        // A new leader's first entry is blank, as raft's is; it commits what the leader before left.
        self.log.push(None);
        let end = self.end();
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            if self.members.get(&id).is_some_and(|member| member.lag.is_zero()) {
                self.catch_up_if_connected(id, end);
            }
        }
        self.show_views();
    }

    pub(super) fn vacate(&mut self) {
        self.leader = None;
        self.show_views();
    }

    pub(super) fn step_aside(&mut self, node: NodeId) {
        if self.leader == Some(node) || !self.quorum() {
            self.vacate();
        }
    }

    pub(super) fn remove(&mut self, node: NodeId) -> bool {
        let last = self.members.len() == 1;
        if last || self.members.remove(&node).is_none() {
            return false;
        }
        if self.leader == Some(node) {
            self.vacate();
        }
        true
    }

    pub(super) fn revive(&mut self, node: NodeId) {
        let donor = self.members.iter().find(|(id, member)| **id != node && member.connected()).map(|(id, _)| *id);
        let copied = donor.filter(|_| self.rng.random_bool(0.5)).and_then(|id| {
            let copy = self.members.get(&id)?.replica.through_snapshot();
            copy.map_err(|broken| self.violations.push(broken)).ok()
        });
        let mut member = Member::new();
        member.replica = copied.unwrap_or_default();
        assert!(self.members.contains_key(&node), "node {node} is not of this cluster");
        if let Some(old) = self.members.insert(node, member) {
            old.life.cut();
        }
        if self.leader == Some(node) {
            self.leader = None;
        }
        let end = self.end();
        self.catch_up(node, end);
        self.show_views();
    }

    /// Shows every connected node who leads.
    pub(super) fn show_views(&self) {
        for (id, member) in self.members.iter().filter(|(_, member)| member.connected()) {
            let view = LeaderView { leader: self.leader, term: self.term, is_self: self.leader == Some(*id) };
            member.view.send_if_modified(|seen| std::mem::replace(seen, view) != view);
        }
    }
}
