//! A control plane in memory: one committed log, a copy of the state on each node, and leadership that changes on demand.
//!
//! It does not imitate how raft agrees, only what raft promises and what it does not: a proposal that failed may still
//! commit, a deposed leader learns of it late, a follower lags.

use super::{
    ledger::SimLedger,
    lifeline::Lifeline,
    lock,
    replica::{Agreement, Entry, Replica},
};
use plimsoll_lifecycle::ports::{Applied, LeaderHandler, LeaderView, LedgerError};
use plimsoll_state::{Command, State};
use plimsoll_types::NodeId;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time};

/// How long a call waits for a leader or for its own node to catch up before it answers `NoQuorum`.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node that was cut off goes on believing what it saw last: openraft's lease is of this order.
const LEASE: Duration = Duration::from_millis(1500);
/// The shortest and longest election.
const ELECTION: std::ops::Range<u64> = 1000..2000;

/// Chances of mishaps of proposals and questions, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerFaults {
    /// The proposal is lost: `NoQuorum`, and it never commits.
    pub lost_permille: u32,
    /// The proposal commits, but its proposer is told `NoQuorum`.
    pub answer_lost_permille: u32,
    /// Its proposer is told `NoQuorum` at once, and it commits up to ten seconds later.
    pub late_permille: u32,
    /// An answer of the leader's handler is lost on its way.
    pub question_lost_permille: u32,
    /// The longest time a follower takes to apply what was committed; drawn for every entry.
    pub lag_ms: u64,
}

/// One simulated control plane. Clones are the same one.
#[derive(Clone)]
pub struct SimCluster {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    seed: u64,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    rng: StdRng,
    log: Vec<Entry>,
    agreement: Agreement,
    term: u64,
    leader: Option<NodeId>,
    elections: bool,
    pub(super) members: BTreeMap<NodeId, Member>,
    faults: LedgerFaults,
    violations: Vec<String>,
}

pub(super) struct Member {
    replica: Replica,
    isolated: bool,
    lag: Duration,
    pub(super) life: Lifeline,
    pub(super) handler: Option<Arc<dyn LeaderHandler>>,
    pub(super) applied: watch::Sender<u64>,
    pub(super) view: watch::Sender<LeaderView>,
}

/// What is to become of a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
    AnswerLost,
    Late(Duration),
}

impl Member {
    fn new() -> Self {
        Self {
            replica: Replica::default(),
            isolated: false,
            lag: Duration::ZERO,
            life: Lifeline::default(),
            handler: None,
            applied: watch::Sender::new(0),
            view: watch::Sender::new(LeaderView::default()),
        }
    }

    fn connected(&self) -> bool {
        self.life.is_alive() && !self.isolated
    }
}

impl SimCluster {
    /// So many nodes, of which the first leads. All chance comes from the seed.
    #[must_use]
    pub fn new(nodes: u64, seed: u64) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed),
            log: Vec::new(),
            agreement: Agreement::default(),
            term: 0,
            leader: None,
            elections: true,
            members: (1..=nodes).map(|id| (NodeId(id), Member::new())).collect(),
            faults: LedgerFaults::default(),
            violations: Vec::new(),
        };
        let cluster = Self { shared: Arc::new(Shared { seed, inner: Mutex::new(inner) }) };
        lock(&cluster.shared.inner).elect(NodeId(1));
        cluster
    }

    /// The seed it was made with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// The ledger of a node's present incarnation.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn ledger(&self, node: NodeId) -> Arc<SimLedger> {
        let inner = lock(&self.shared.inner);
        let member = inner.members.get(&node).expect("a node of this cluster");
        Arc::new(SimLedger::new(node, member.life.clone(), member.applied.subscribe(), member.view.subscribe(), self.clone()))
    }

    /// The ledger of every node, in order.
    #[must_use]
    pub fn ledgers(&self) -> Vec<Arc<SimLedger>> {
        self.nodes().into_iter().map(|node| self.ledger(node)).collect()
    }

    /// Every member.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        lock(&self.shared.inner).members.keys().copied().collect()
    }

    /// Whether a node's process lives.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        lock(&self.shared.inner).members.get(&node).is_some_and(|member| member.life.is_alive())
    }

    /// Who leads, if anybody.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        lock(&self.shared.inner).leader
    }

    /// Sets the chances of mishaps.
    pub fn set_faults(&self, faults: LedgerFaults) {
        lock(&self.shared.inner).faults = faults;
    }

    /// Whether a lost leader is replaced by itself after an election's time (it is, unless switched off).
    pub fn set_elections(&self, on: bool) {
        lock(&self.shared.inner).elections = on;
    }

    /// Makes one node apply everything this much later.
    pub fn set_lag(&self, node: NodeId, lag: Duration) {
        if let Some(member) = lock(&self.shared.inner).members.get_mut(&node) {
            member.lag = lag;
        }
    }

    /// The leader steps down; after an election's time some node takes over, maybe the same.
    pub fn depose(&self) {
        lock(&self.shared.inner).vacate();
        self.hold_election();
    }

    /// Makes a node the leader, in a new term.
    pub fn elect(&self, node: NodeId) {
        lock(&self.shared.inner).elect(node);
    }

    /// Ends a node's process: its ledger and dialers never answer it again.
    pub fn kill(&self, node: NodeId) {
        {
            let mut inner = lock(&self.shared.inner);
            let Some(member) = inner.members.get_mut(&node) else { return };
            member.life.cut();
            member.handler = None;
            inner.step_aside(node);
        }
        self.hold_election();
    }

    /// Starts a node's process again, from its log or from another node's snapshot, and answers with its new ledger.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn revive(&self, node: NodeId) -> Arc<SimLedger> {
        lock(&self.shared.inner).revive(node);
        self.hold_election();
        self.ledger(node)
    }

    /// Cuts a node off from the others (not from the hosts). A leader goes on believing that it leads for a lease's time.
    pub fn isolate(&self, node: NodeId) {
        {
            let mut inner = lock(&self.shared.inner);
            let Some(member) = inner.members.get_mut(&node) else { return };
            member.isolated = true;
            inner.step_aside(node);
        }
        self.hold_election();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            time::sleep(LEASE).await;
            let inner = lock(&shared.inner);
            if let Some(member) = inner.members.get(&node).filter(|member| member.isolated) {
                let term = member.view.borrow().term;
                member.view.send_replace(LeaderView { leader: None, term, is_self: false });
            }
        });
    }

    /// Ends every cut and lag and sets all chances to zero. Dead nodes stay dead.
    pub fn heal(&self) {
        {
            let mut inner = lock(&self.shared.inner);
            inner.faults = LedgerFaults::default();
            for member in inner.members.values_mut() {
                member.isolated = false;
                member.lag = Duration::ZERO;
            }
            inner.catch_up_all();
            inner.show_views();
        }
        self.hold_election();
    }

    /// A copy of the state with everything committed applied.
    #[must_use]
    pub fn committed(&self) -> State {
        let mut inner = lock(&self.shared.inner);
        let end = inner.end();
        let Inner { log, agreement, .. } = &mut *inner;
        let mut replica = Replica::default();
        let broken = replica.catch_up(log, end, agreement);
        inner.violations.extend(broken);
        replica.state
    }

    /// What replicas broke so far: an invariant of the state, or agreement between them.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.inner).violations.clone()
    }

    /// Elects a random node after an election's time, if there is no leader by then.
    pub(super) fn hold_election(&self) {
        let mut inner = lock(&self.shared.inner);
        if inner.leader.is_some() || !inner.elections || !inner.quorum() {
            return;
        }
        let wait = Duration::from_millis(inner.rng.random_range(ELECTION));
        let term = inner.term;
        drop(inner);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            time::sleep(wait).await;
            let mut inner = lock(&shared.inner);
            if inner.leader.is_some() || inner.term != term || !inner.quorum() {
                return;
            }
            let ready: Vec<_> = inner.members.iter().filter(|(_, member)| member.connected()).map(|(id, _)| *id).collect();
            if let Some(node) = ready.choose(&mut inner.rng).copied() {
                inner.elect(node);
            }
        });
    }

    /// Takes a proposal to the leader; `Ok` once it is committed and applied on `node`.
    pub(super) async fn propose(&self, node: NodeId, command: Command) -> Result<Applied, LedgerError> {
        let term = self.route(node).await?;
        let (fate, latency) = lock(&self.shared.inner).draw_fate();
        // Its own task: a proposal on its way outlives the process that sent it.
        let shared = Arc::clone(&self.shared);
        let sent = tokio::spawn(async move {
            time::sleep(latency).await;
            if let Fate::Late(wait) = fate {
                time::sleep(wait).await;
            }
            if fate == Fate::Lost { None } else { commit(&shared, term, command) }
        });
        let index = match fate {
            Fate::Answered => sent.await.ok().flatten(),
            Fate::Lost | Fate::AnswerLost => {
                time::sleep(PATIENCE).await;
                None
            }
            Fate::Late(_) => None,
        };
        let index = index.ok_or_else(|| LedgerError::NoQuorum("the proposal was not confirmed".into()))?;
        self.wait_applied(node, index).await?;
        let outcome = lock(&self.shared.inner).agreement.outcome(index).cloned();
        outcome.map(|outcome| Applied { index, outcome }).ok_or(LedgerError::Closed)
    }

    /// Waits until `node` has applied all that is committed now.
    pub(super) async fn barrier(&self, node: NodeId) -> Result<(), LedgerError> {
        self.route(node).await?;
        let end = lock(&self.shared.inner).end();
        time::sleep(Duration::from_millis(1)).await;
        self.wait_applied(node, end).await
    }

    /// The term, once `node` reaches a leader that has a majority.
    pub(super) async fn route(&self, node: NodeId) -> Result<u64, LedgerError> {
        let mut view = match lock(&self.shared.inner).members.get(&node) {
            Some(member) => member.view.subscribe(),
            None => return Err(LedgerError::Closed),
        };
        let found = time::timeout(PATIENCE, async {
            loop {
                view.mark_unchanged();
                if let Some(term) = lock(&self.shared.inner).reachable_term(node) {
                    return term;
                }
                // A poll besides the signal: a cut that heals changes no view.
                let _either = time::timeout(Duration::from_millis(200), view.changed()).await;
            }
        });
        found.await.map_err(|_| LedgerError::NoQuorum("no leader answers".into()))
    }

    async fn wait_applied(&self, node: NodeId, index: u64) -> Result<(), LedgerError> {
        let mut applied = match lock(&self.shared.inner).members.get(&node) {
            Some(member) => member.applied.subscribe(),
            None => return Err(LedgerError::Closed),
        };
        match time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= index)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(LedgerError::NoQuorum("this node does not catch up".into())),
        }
    }

    /// Runs what needs a look at a member; short.
    pub(super) fn with<T>(&self, body: impl FnOnce(&mut Inner) -> T) -> T {
        body(&mut lock(&self.shared.inner))
    }
}

/// Commits a command that the leader of `term` took, unless that leader lost it.
fn commit(shared: &Arc<Shared>, term: u64, command: Command) -> Option<u64> {
    let mut inner = lock(&shared.inner);
    // A change of leaders between taking and committing: the new leader has the entry or has not.
    let kept = inner.quorum() && (inner.term == term && inner.leader.is_some() || inner.rng.random_bool(0.5));
    if !kept {
        return None;
    }
    inner.log.push(Some(Arc::new(command)));
    let index = inner.end();
    let leader = inner.leader;
    let nodes: Vec<_> = inner.members.iter().filter(|(_, member)| member.connected()).map(|(id, _)| *id).collect();
    for node in nodes {
        let lag = inner.draw_lag(node, leader);
        if lag.is_zero() {
            inner.catch_up(node, index);
        } else {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                time::sleep(lag).await;
                lock(&shared.inner).catch_up_if_connected(node, index);
            });
        }
    }
    Some(index)
}

impl Inner {
    pub(super) fn end(&self) -> u64 {
        u64::try_from(self.log.len()).unwrap_or(u64::MAX)
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

    fn quorum(&self) -> bool {
        self.members.values().filter(|member| member.connected()).count() > self.members.len() / 2
    }

    fn reachable_term(&self, node: NodeId) -> Option<u64> {
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

    fn draw_fate(&mut self) -> (Fate, Duration) {
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
    fn draw_lag(&mut self, node: NodeId, leader: Option<NodeId>) -> Duration {
        let set = self.members.get(&node).map_or(Duration::ZERO, |member| member.lag);
        if leader == Some(node) || self.faults.lag_ms == 0 {
            return set;
        }
        set + Duration::from_millis(self.rng.random_range(0..=self.faults.lag_ms))
    }

    fn catch_up(&mut self, node: NodeId, upto: u64) {
        let Self { log, agreement, members, violations, .. } = self;
        if let Some(member) = members.get_mut(&node) {
            violations.extend(member.replica.catch_up(log, upto, agreement));
            let applied = member.replica.applied;
            member.applied.send_if_modified(|seen| std::mem::replace(seen, applied) != applied);
        }
    }

    fn catch_up_if_connected(&mut self, node: NodeId, upto: u64) {
        if self.members.get(&node).is_some_and(Member::connected) {
            self.catch_up(node, upto);
        }
    }

    fn catch_up_all(&mut self) {
        let end = self.end();
        for node in self.members.keys().copied().collect::<Vec<_>>() {
            self.catch_up_if_connected(node, end);
        }
    }

    fn elect(&mut self, node: NodeId) {
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

    fn vacate(&mut self) {
        self.leader = None;
        self.show_views();
    }

    fn step_aside(&mut self, node: NodeId) {
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

    fn revive(&mut self, node: NodeId) {
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
    fn show_views(&self) {
        for (id, member) in self.members.iter().filter(|(_, member)| member.connected()) {
            let view = LeaderView { leader: self.leader, term: self.term, is_self: self.leader == Some(*id) };
            member.view.send_if_modified(|seen| std::mem::replace(seen, view) != view);
        }
    }
}

/// A cluster whose replicas broke something does not end quietly, whatever its test asserted.
impl Drop for Shared {
    fn drop(&mut self) {
        let violations = std::mem::take(&mut lock(&self.inner).violations);
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "seed {}: {}", self.seed, violations.join("; "));
        }
    }
}
