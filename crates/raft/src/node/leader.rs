//! What only the leader can do. Each question answers `NotLeader` if this node does not lead, and has then done nothing.

use super::{Inner, admission};
use crate::{
    network::message::{Failure, Reason, Request, Response},
    types::{Proposal, TypeConfig},
};
use openraft::{
    ChangeMembers, ReadPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// Answers a question to the leader.
pub(super) async fn answer(inner: &Inner, request: &Request, deadline: Duration) -> Response {
    let work = async {
        match request {
            Request::Propose(proposal) => propose(inner, proposal.clone()).await,
            Request::ReadIndex => read_index(inner).await,
            Request::Ask(question) => ask(inner, question.clone()).await,
            Request::Join(request) => admission::grant(inner, request).await,
            Request::Admit(request) => admission::admit(inner, request).await,
            Request::Remove(node) => remove(inner, *node).await,
            Request::Handover(node) => hand_to(inner, *node).await,
            Request::Append(_)
            | Request::Vote(_)
            | Request::PreVote(_)
            | Request::TransferLeader(_)
            | Request::SnapshotChunk { .. }
            | Request::SnapshotEnd { .. } => Err(Failure::new(Reason::Refused, "this is no question to the leader")),
        }
    };
    match timeout(deadline, work).await {
        Ok(result) => result.unwrap_or_else(Response::Failed),
        Err(_) => Failure::new(Reason::NoQuorum, format!("no majority confirmed within {deadline:?}")).into(),
    }
}

/// Refuses unless this node leads.
pub(super) fn ensure_leads(inner: &Inner) -> Result<(), Failure> {
    if inner.leader.borrow().is_self { Ok(()) } else { Err(not_leader()) }
}

fn not_leader() -> Failure {
    Failure::new(Reason::NotLeader, "this node does not lead")
}

/// Replicates a proposal and answers what apply said.
pub(super) async fn propose(inner: &Inner, proposal: Proposal) -> Result<Response, Failure> {
    let written = inner.raft.client_write(proposal).await.map_err(write_failure)?;
    let index = written.log_id.index;
    match written.data.0 {
        Some(outcome) => Ok(Response::Applied { index, outcome }),
        None => Err(Failure::new(Reason::Refused, "apply gave no outcome")),
    }
}

/// Up to where must be applied to see everything acknowledged so far.
pub(super) async fn read_index(inner: &Inner) -> Result<Response, Failure> {
    match inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Ok(Response::ReadIndex(read.index())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(not_leader()),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
            Err(Failure::new(Reason::NoQuorum, error.to_string()))
        }
        Err(RaftError::Fatal(error)) => Err(Failure::new(Reason::NoQuorum, error.to_string())),
    }
}

async fn ask(inner: &Inner, question: bytes::Bytes) -> Result<Response, Failure> {
    ensure_leads(inner)?;
    let handler = inner.handler.read().unwrap_or_else(PoisonError::into_inner).clone();
    // A leader that is still starting has no handler yet; whoever asks tries again.
    let handler = handler.ok_or_else(|| Failure::new(Reason::NotLeader, "the leader is still starting"))?;
    Ok(Response::Answer(handler.answer(question).await))
}

/// Runs a membership change to its end even if nobody waits for it any more: it takes two log entries.
pub(super) async fn change(inner: &Inner, changes: ChangeMembers<u64, crate::types::Peer>) -> Result<(), Failure> {
    let (raft, lock) = (inner.raft.clone(), Arc::clone(&inner.changing));
    let change = inner.tasks.spawn(async move {
        let _alone = lock.lock().await;
        raft.change_membership(changes, false).await
    });
    match change.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(write_failure(error)),
        Err(error) => Err(Failure::new(Reason::NoQuorum, error.to_string())),
    }
}

async fn remove(inner: &Inner, node: u64) -> Result<Response, Failure> {
    ensure_leads(inner)?;
    let membership = inner.raft.metrics().borrow_watched().membership_config.membership().clone();
    if membership.get_node(&node).is_none() {
        return Err(Failure::new(Reason::Refused, format!("node {node} is not a member")));
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if !voters.contains(&node) {
        change(inner, ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await?;
        return Ok(Response::Done);
    }
    if voters.len() == 1 {
        return Err(Failure::new(
            Reason::Refused,
            format!("node {node} is the last voter; a cluster cannot be without one"),
        ));
    }
    if node == inner.owner.node.0 {
        // Another leader removes this one, so that the change does not depend on a node that is leaving.
        hand_over(inner).await;
        return Err(not_leader());
    }
    change(inner, ChangeMembers::RemoveVoters(BTreeSet::from([node]))).await?;
    Ok(Response::Done)
}

async fn hand_to(inner: &Inner, node: u64) -> Result<Response, Failure> {
    ensure_leads(inner)?;
    if node == inner.owner.node.0 {
        return Ok(Response::Done);
    }
    let voter = inner.raft.metrics().borrow_watched().membership_config.voter_ids().any(|voter| voter == node);
    if !voter {
        return Err(Failure::new(Reason::Refused, format!("node {node} is not a voter")));
    }
    transfer(inner, node).await
}

/// Asks a voter to stand for election and waits until it leads.
async fn transfer(inner: &Inner, node: u64) -> Result<Response, Failure> {
    let mut leader = inner.leader.subscribe();
    let patience = inner.options.timers.election_max * 4;
    inner
        .raft
        .trigger()
        .transfer_leader(node)
        .await
        .map_err(|error| Failure::new(Reason::NoQuorum, error.to_string()))?;
    let took_over = leader.wait_for(|view| view.leader.is_some_and(|leader| leader.0 == node));
    match timeout(patience, took_over).await {
        Ok(Ok(_)) => Ok(Response::Done),
        Ok(Err(_)) | Err(_) => {
            Err(Failure::new(Reason::NoQuorum, format!("node {node} did not take over within {patience:?}")))
        }
    }
}

/// If this node leads, hands leadership to the voter that is furthest along. Best effort: without it, the others elect a
/// leader once they miss this one.
pub(super) async fn hand_over(inner: &Inner) {
    let best = {
        let metrics = inner.raft.metrics();
        let raft = metrics.borrow_watched();
        let voters: BTreeSet<u64> = raft.membership_config.voter_ids().collect();
        let matched = raft.replication.iter().flatten().filter(|(node, _)| voters.contains(node));
        matched.filter(|(node, _)| **node != inner.owner.node.0).max_by_key(|(_, id)| **id).map(|(node, _)| *node)
    };
    if ensure_leads(inner).is_err() {
        return;
    }
    if let Some(node) = best
        && let Err(failure) = transfer(inner, node).await
    {
        tracing::warn!(reason = failure.message, "leadership was not handed over");
    }
}

fn write_failure(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Failure {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => not_leader(),
        RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_)) => {
            Failure::new(Reason::NoQuorum, error.to_string())
        }
        RaftError::APIError(
            error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
        ) => Failure::new(Reason::Refused, error.to_string()),
        RaftError::Fatal(error) => Failure::new(Reason::NoQuorum, error.to_string()),
    }
}
