//! The control plane, for operators.

use crate::{
    auth::Operator,
    convert,
    error::{Answer, ApiError},
    extract::Json,
    options::Api,
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use plimsoll_client::wire::{self, NodeRole, Secret};
use plimsoll_lifecycle::ports::{ClusterMember, MemberRole, ledger};
use plimsoll_state::State as Replicated;
use plimsoll_types::{Code, NodeId};
use std::collections::BTreeMap;

/// The control plane as the asked node sees it. Answers without a quorum too.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", operation_id = "clusterStatus", responses((status = 200, body = wire::ClusterStatus)))]
pub(crate) async fn status(State(api): State<Api>, _: Operator) -> axum::Json<wire::ClusterStatus> {
    let options = &api.options;
    let view = options.ledger.leader();
    let (last_log, applied) = options.membership.progress();
    let (cluster, hold, base_image, hosts, (sandboxes, sandboxes_by_host)) =
        ledger::read(options.ledger.as_ref(), |state| {
            (
                state.cluster,
                state.hold.as_ref().map(convert::drift::hold),
                state.policy.base_image.as_ref().map(ToString::to_string),
                hosts_by_health(state),
                sandboxes_by_phase(state),
            )
        });
    axum::Json(wire::ClusterStatus {
        cluster,
        node: options.ledger.node().0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leader: view.leader.map(|node| node.0),
        term: view.term,
        last_log,
        applied,
        nodes: options.membership.members().into_iter().map(node).collect(),
        hosts,
        sandboxes,
        sandboxes_by_host,
        base_image,
        hold,
    })
}

fn hosts_by_health(state: &Replicated) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for host in state.hosts.values() {
        *counts.entry(host.health.to_string()).or_default() += 1;
    }
    counts
}

/// Sandboxes by phase: of all hosts together, and of each.
type Phases = BTreeMap<String, u64>;

fn sandboxes_by_phase(state: &Replicated) -> (Phases, BTreeMap<String, Phases>) {
    let (mut all, mut by_host) = (Phases::new(), BTreeMap::<String, Phases>::new());
    for (host, phase, count) in state.counts() {
        *all.entry(phase.to_string()).or_default() += count;
        if let Some(host) = host {
            *by_host.entry(host.to_string()).or_default().entry(phase.to_string()).or_default() += count;
        }
    }
    (all, by_host)
}

fn node(member: ClusterMember) -> wire::Node {
    wire::Node {
        id: member.node.0,
        raft_address: member.raft_address,
        api_url: member.api_url,
        role: match member.role {
            MemberRole::Voter => NodeRole::Voter,
            MemberRole::Learner => NodeRole::Learner,
        },
        leader: member.leader,
        matched: member.matched,
        silent_ms: member.silent_ms,
    }
}

/// Hand leadership to a voter.
#[utoipa::path(
    post, path = "/v1/cluster/transfer", tag = "cluster", operation_id = "transferLeadership", request_body = wire::TransferLeadership,
    responses((status = 204, description = "It leads")),
)]
pub(crate) async fn transfer(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::TransferLeadership>,
) -> Answer<StatusCode> {
    let to = known(&api, body.to)?;
    api.options.membership.transfer(to).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a node; its vote stops counting.
#[utoipa::path(
    delete, path = "/v1/cluster/nodes/{id}", tag = "cluster", operation_id = "removeNode",
    params(("id" = u64, Path)), responses((status = 204, description = "It is no member any more")),
)]
pub(crate) async fn remove_node(State(api): State<Api>, _: Operator, Path(id): Path<String>) -> Answer<StatusCode> {
    let id = id.parse().map_err(|_| ApiError::field("{id}", "a node's id is a number"))?;
    let node = known(&api, id)?;
    if api.options.membership.members().len() == 1 {
        return Err(ApiError::new(Code::Conflict, "this is the last node; a control plane has at least one"));
    }
    api.options.membership.remove(node).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a token that lets one more node join.
#[utoipa::path(post, path = "/v1/cluster/tokens", tag = "cluster", operation_id = "createJoinToken", responses((status = 201, body = wire::JoinToken)))]
pub(crate) async fn token(State(api): State<Api>, _: Operator) -> Answer<(StatusCode, axum::Json<wire::JoinToken>)> {
    let token = api.options.membership.join_token().await?;
    Ok((StatusCode::CREATED, axum::Json(wire::JoinToken { token: Secret(token) })))
}

fn known(api: &Api, id: u64) -> Answer<NodeId> {
    let member = api.options.membership.members().iter().any(|member| member.node.0 == id);
    let missing =
        || ApiError::new(Code::NodeNotFound, format!("no node {id}; `plimsoll cluster status` shows those there are"));
    member.then_some(NodeId(id)).ok_or_else(missing)
}
