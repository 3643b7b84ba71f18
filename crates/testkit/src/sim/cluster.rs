//! A control plane in memory: one committed log, a copy of the state on each node, and leadership that changes on demand.
//!
//! It does not imitate how raft agrees, only what raft promises and what it does not: a proposal that failed may still
//! commit, a deposed leader learns of it late, a follower lags.

use super::{
    ledger::SimLedger,
    lock,
    quorum::{Fate, Inner, Member},
    replica::{Agreement, Replica},
};
use plimsoll_lifecycle::ports::{Applied, LeaderView, LedgerError};
use plimsoll_state::{Command, State};
use plimsoll_types::NodeId;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time;

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

impl SimCluster {
    /// So many nodes, of which the first leads. All chance comes from the seed.
    #[must_use]
    pub fn new(nodes: u64, seed: u64) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed),
            log: Vec::new(),
            witness: Replica::default(),
            agreement: Agreement::default(),
            term: 0,
            leader: None,
            elections: true,
            members: (1..=nodes).map(|id| (NodeId(id), Member::new())).collect(),
            faults: LedgerFaults::default(),
            panics_at: None,
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
        Arc::new(SimLedger::new(
            node,
            member.life.clone(),
            member.changed.subscribe(),
            member.view.subscribe(),
            self.clone(),
        ))
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

    /// The next proposal of this kind panics in its proposer's hands, as a defect of the ledger would; it never commits.
    pub fn panic_at(&self, kind: fn(&Command) -> bool) {
        lock(&self.shared.inner).panics_at = Some(kind);
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

    /// Ends a cut.
    pub fn rejoin(&self, node: NodeId) {
        lock(&self.shared.inner).rejoin(node);
        self.hold_election();
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
        lock(&self.shared.inner).witness().clone()
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
            let ready: Vec<_> =
                inner.members.iter().filter(|(_, member)| member.connected()).map(|(id, _)| *id).collect();
            if let Some(node) = ready.choose(&mut inner.rng).copied() {
                inner.elect(node);
            }
        });
    }

    /// Takes a proposal to the leader; `Ok` once it is committed and applied on `node`.
    pub(super) async fn propose(&self, node: NodeId, command: Command) -> Result<Applied, LedgerError> {
        let term = self.route(node).await?;
        let panics = lock(&self.shared.inner).panics_at.take_if(|kind| kind(&command)).is_some();
        assert!(!panics, "{command:?} panics, as the script says");
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

/// A cluster whose replicas broke something does not end quietly, whatever its test asserted.
impl Drop for Shared {
    fn drop(&mut self) {
        let violations = std::mem::take(&mut lock(&self.inner).violations);
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "seed {}: {}", self.seed, violations.join("; "));
        }
    }
}
