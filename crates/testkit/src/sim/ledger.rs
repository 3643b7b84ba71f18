//! One node's ledger: the port as the engine sees it. A killed node's calls never return.

use super::{
    cluster::{PATIENCE, SimCluster},
    lifeline::Lifeline,
};
use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::ports::{
    Applied, ClusterMember, LeaderHandler, LeaderView, Ledger, LedgerError, MemberRole, Membership,
};
use plimsoll_state::{Command, State};
use plimsoll_types::NodeId;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// The ledger of one incarnation of a node.
pub struct SimLedger {
    node: NodeId,
    life: Lifeline,
    changed: watch::Receiver<u64>,
    view: watch::Receiver<LeaderView>,
    cluster: SimCluster,
}

impl SimLedger {
    pub(super) const fn new(
        node: NodeId,
        life: Lifeline,
        changed: watch::Receiver<u64>,
        view: watch::Receiver<LeaderView>,
        cluster: SimCluster,
    ) -> Self {
        Self { node, life, changed, view, cluster }
    }

    /// The process it belongs to; give it to the node's dialer.
    #[must_use]
    pub fn lifeline(&self) -> Lifeline {
        self.life.clone()
    }

    async fn ask(&self, question: Bytes) -> Result<Bytes, LedgerError> {
        self.cluster.route(self.node).await?;
        time::sleep(Duration::from_millis(1)).await;
        let lost = || LedgerError::NoQuorum("the leader's answer did not arrive".into());
        let (handler, life) = self
            .cluster
            .with(|inner| inner.leader_handler())
            .ok_or_else(|| LedgerError::Leader("the leader is not serving yet".into()))?;
        // Its own task: the leader goes on with a question whose asker died, and stops when it dies itself.
        let leader = life.clone();
        let answering = tokio::spawn(async move { leader.guard(handler.answer(question)).await });
        let answer = tokio::select! {
            answer = answering => answer.map_err(|_| lost())?,
            () = life.dead() => return Err(lost()),
        };
        if self.cluster.with(|inner| inner.draw_question_lost()) {
            time::sleep(PATIENCE).await;
            return Err(lost());
        }
        Ok(answer)
    }
}

#[async_trait]
impl Ledger for SimLedger {
    fn node(&self) -> NodeId {
        self.node
    }

    async fn propose(&self, command: Command) -> Result<Applied, LedgerError> {
        self.life.guard(self.cluster.propose(self.node, command)).await
    }

    async fn barrier(&self) -> Result<(), LedgerError> {
        self.life.guard(self.cluster.barrier(self.node)).await
    }

    fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        self.cluster.with(|inner| {
            if let Some(state) = inner.state(self.node) {
                reader(state);
            }
        });
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut changed = self.changed.clone();
        let wait = async {
            let now = changed.wait_for(|applied| *applied > seen).await.map(|applied| *applied).ok();
            match now {
                Some(applied) => applied,
                // The incarnation is over; nobody is there to be told.
                None => std::future::pending().await,
            }
        };
        self.life.guard(wait).await
    }

    fn leader(&self) -> LeaderView {
        *self.view.borrow()
    }

    async fn leader_changed(&self, seen: LeaderView) -> LeaderView {
        let mut view = self.view.clone();
        let wait = async {
            let now = view.wait_for(|view| *view != seen).await.map(|view| *view).ok();
            match now {
                Some(view) => view,
                None => std::future::pending().await,
            }
        };
        self.life.guard(wait).await
    }

    async fn ask_leader(&self, question: Bytes) -> Result<Bytes, LedgerError> {
        self.life.guard(self.ask(question)).await
    }

    fn serve_leader(&self, handler: Arc<dyn LeaderHandler>) {
        self.cluster.with(|inner| {
            if let Some(member) = inner.members.get_mut(&self.node).filter(|_| self.life.is_alive()) {
                member.handler = Some(handler);
            }
        });
    }
}

#[async_trait]
impl Membership for SimLedger {
    fn members(&self) -> Vec<ClusterMember> {
        self.cluster.with(|inner| {
            let member = |node: NodeId| ClusterMember {
                node,
                raft_address: format!("10.0.0.{}:7300", node.0),
                api_url: format!("http://10.0.0.{}:7200", node.0),
                role: MemberRole::Voter,
                leader: inner.is_leader(node),
                matched: inner.is_leader(self.node).then(|| inner.applied(node)),
                silent_ms: None,
            };
            inner.members.keys().copied().map(member).collect()
        })
    }

    fn progress(&self) -> (u64, u64) {
        self.cluster.with(|inner| (inner.end(), inner.applied(self.node)))
    }

    async fn join_token(&self) -> Result<String, LedgerError> {
        Err(LedgerError::Leader("a simulated cluster cannot be joined".into()))
    }

    async fn remove(&self, node: NodeId) -> Result<(), LedgerError> {
        self.life.guard(self.cluster.route(self.node)).await?;
        let removed = self.cluster.with(|inner| inner.remove(node));
        self.cluster.hold_election();
        if removed { Ok(()) } else { Err(LedgerError::Leader(format!("node {node} is no member or the last one"))) }
    }

    async fn transfer(&self, to: NodeId) -> Result<(), LedgerError> {
        self.life.guard(self.cluster.route(self.node)).await?;
        self.cluster.elect(to);
        let took = self.cluster.with(|inner| inner.is_leader(to));
        if took { Ok(()) } else { Err(LedgerError::Leader(format!("node {to} does not take over"))) }
    }
}
