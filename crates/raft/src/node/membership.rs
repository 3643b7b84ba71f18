//! The `Membership` port.

use super::{Node, route};
use crate::{
    certs,
    network::message::{Request, Response},
    token::{JoinToken, TOKEN_LIFETIME},
};
use async_trait::async_trait;
use openraft::{Instant as _, async_runtime::WatchReceiver};
use plimsoll_lifecycle::ports::{ClusterMember, LedgerError, MemberRole, Membership};
use plimsoll_types::NodeId;
use std::{collections::BTreeSet, time::Duration};

#[async_trait]
impl Membership for Node {
    fn members(&self) -> Vec<ClusterMember> {
        let metrics = self.inner.raft.metrics();
        let raft = metrics.borrow_watched();
        let voters: BTreeSet<u64> = raft.membership_config.voter_ids().collect();
        let own = self.inner.owner.node.0;
        let member = |(node, peer): (&u64, &crate::types::Peer)| {
            let matched = match &raft.replication {
                _ if *node == own => raft.last_log_index,
                Some(replication) => replication.get(node).and_then(|id| id.map(|id| id.index)),
                None => None,
            };
            let answered = raft.heartbeat.as_ref().and_then(|heartbeat| heartbeat.get(node).copied().flatten());
            let silent = answered.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
            ClusterMember {
                node: NodeId(*node),
                raft_address: peer.raft_address.clone(),
                api_url: peer.api_url.clone(),
                role: if voters.contains(node) { MemberRole::Voter } else { MemberRole::Learner },
                leader: raft.current_leader == Some(*node),
                matched,
                silent_ms: if *node == own { Some(0) } else { silent },
            }
        };
        raft.membership_config.nodes().map(member).collect()
    }

    fn progress(&self) -> (u64, u64) {
        let last = self.inner.raft.metrics().borrow_watched().last_log_index.unwrap_or(0);
        (last, *self.inner.machine.applied().borrow())
    }

    async fn join_token(&self) -> Result<String, LedgerError> {
        let inner = &self.inner;
        let fingerprint = certs::fingerprint(&inner.identity.authority.cert.0);
        let token = JoinToken::new(&inner.secret, &inner.peer.raft_address, fingerprint, TOKEN_LIFETIME);
        token.to_text().map_err(|error| LedgerError::Leader(error.to_string()))
    }

    async fn remove(&self, node: NodeId) -> Result<(), LedgerError> {
        self.change(Request::Remove(node.0), self.inner.options.timers.proposal).await
    }

    async fn transfer(&self, to: NodeId) -> Result<(), LedgerError> {
        self.change(Request::Handover(to.0), self.inner.options.timers.proposal).await
    }
}

impl Node {
    async fn change(&self, request: Request, deadline: Duration) -> Result<(), LedgerError> {
        match route::ask(&self.inner, &request, deadline).await? {
            Response::Done => Ok(()),
            _ => Err(LedgerError::Leader("it answered something else".into())),
        }
    }
}
