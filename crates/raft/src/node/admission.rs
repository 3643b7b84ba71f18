//! How nodes come in: the founder makes the membership, the others ask for an identity and then to be admitted.
//!
//! Both steps can be repeated: a node that crashed in between goes on where it was when it is started again.

use super::{Inner, leader, watch};
use crate::{
    certs,
    error::{Error, Result},
    identity::{Authority, Identity, Origin, Secret},
    network::{
        client::{self, Caller},
        connection::CallError,
        message::{AdmitRequest, Failure, Grant, JoinRequest, Reason, Request, Response},
        tls,
    },
    options::Options,
    token::{self, JoinToken},
    types::{Peer, Proposal},
};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use plimsoll_state::{Command, Outcome, Refusal, SpentToken, command::SpendJoinToken};
use plimsoll_types::{NodeId, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a member may take to answer; it may have to wait for a leader.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before asking again to be admitted.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The new node's side, step one: gets an identity.
pub(super) async fn enroll(options: &Options, text: &str) -> Result<()> {
    Identity::absent(&options.data_dir)?;
    let token = JoinToken::from_text(text)?;
    let (key, request) = certs::request()?;
    let peer = Peer { raft_address: options.advertise.clone(), api_url: options.api_url.clone() };
    let ask = Request::Join(JoinRequest { token: text.trim().to_owned(), request: request.into(), peer });
    let caller = Caller { tls: tls::stranger(token.fingerprint)?, own: None };
    let grant = match call(&caller, &token.address, &ask).await.map_err(unsure)? {
        Response::Granted(grant) => *grant,
        _ => return Err(Error::Unreachable(format!("{} answered something else", token.address))),
    };
    if certs::fingerprint(&grant.ca_cert) != token.fingerprint {
        return Err(Error::JoinDenied("the certificate that came back is not the token's cluster's".into()));
    }
    let identity = Identity {
        version: 1,
        cluster: grant.cluster,
        node: NodeId(grant.node),
        origin: Origin::Joined { via: token.address.clone(), token: Secret(text.trim().as_bytes().to_vec()) },
        authority: Authority { cert: Secret(grant.ca_cert.to_vec()), key: Secret(grant.ca_key.to_vec()) },
        cert: Secret(grant.cert.to_vec()),
        key,
        cluster_secret: Secret(grant.cluster_secret.to_vec()),
    };
    identity.secret()?;
    identity.save_new(&options.data_dir)
}

/// The token may have been spent although no answer came.
fn unsure(error: Error) -> Error {
    match error {
        Error::Unreachable(reason) => Error::Unreachable(format!(
            "{reason}; try again, and should the token turn out to be used, with a new one from `plimsoll cluster token`"
        )),
        other => other,
    }
}

async fn call(caller: &Caller, address: &str, request: &Request) -> Result<Response> {
    let connection = client::connect(caller, None, address).await.map_err(unreachable)?;
    match connection.call(request, CALL_TIMEOUT).await.map_err(unreachable)? {
        Response::Failed(failure) => Err(match failure.reason {
            Reason::Denied => Error::JoinDenied(failure.message),
            Reason::NodeExists => Error::NodeExists(failure.message),
            Reason::Removed => Error::Removed,
            Reason::NotLeader | Reason::Overloaded | Reason::NoQuorum | Reason::Refused | Reason::Other => {
                Error::Unreachable(failure.message)
            }
        }),
        response => Ok(response),
    }
}

fn unreachable(error: CallError) -> Error {
    match error {
        CallError::Removed(_) => Error::Removed,
        CallError::NotSent(_) | CallError::Busy | CallError::Lost(_) => Error::Unreachable(error.to_string()),
    }
}

/// The leader's side of step one: checks the token, picks a number, signs a certificate, and spends the token before
/// anything goes out. A node that then crashes needs a new token: nobody can tell it from one that kept what it got.
pub(super) async fn grant(inner: &Inner, request: &JoinRequest) -> Result<Response, Failure> {
    leader::ensure_leads(inner)?;
    let token = judge_token(inner, &request.token)?;
    judge_address(inner, None, &request.peer)?;
    let node = NodeId(highest_node(inner) + 1);
    let identity = &inner.identity;
    let cert = certs::issue(&identity.authority, identity.cluster, node, &request.request)
        .map_err(|error| Failure::new(Reason::Refused, error.to_string()))?;
    spend(inner, &token, node).await?;
    tracing::info!(%node, address = request.peer.raft_address, token = ?token, "let a node in");
    Ok(Response::Granted(Box::new(Grant {
        cluster: identity.cluster,
        node: node.0,
        cert: cert.0.into(),
        ca_cert: Bytes::from(identity.authority.cert.0.clone()),
        ca_key: Bytes::from(identity.authority.key.0.clone()),
        cluster_secret: Bytes::from(identity.cluster_secret.0.clone()),
    })))
}

/// The highest number that any node has or had, as far as applied here; apply judges it again.
fn highest_node(inner: &Inner) -> u64 {
    let members = inner.raft.metrics().borrow_watched().membership_config.membership().clone();
    let member = members.nodes().map(|(node, _)| *node).max().unwrap_or(0);
    let mut given = 0;
    inner.machine.read_with(&mut |state| given = state.highest_node.map_or(0, |node| node.0));
    member.max(inner.machine.highest_node()).max(given)
}

/// Uses the token up for this node. Apply judges, so that of two leaders and two nodes with one token only one succeeds.
async fn spend(inner: &Inner, token: &JoinToken, node: NodeId) -> Result<(), Failure> {
    let (expires_at, at) = (Timestamp(token.expires_ms), Timestamp(token::now_ms()));
    let command = Command::SpendJoinToken(SpendJoinToken { nonce: token.nonce, node, expires_at, at });
    let proposal = Proposal::encode(&command).map_err(|error| Failure::new(Reason::Refused, error))?;
    let Response::Applied { outcome, .. } = leader::propose(inner, proposal).await? else {
        return Err(Failure::new(Reason::Refused, "apply answered something else"));
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Refused(Refusal::TokenSpent) => Err(used()),
        // Another node got this number meanwhile: whoever passes questions on asks again.
        Outcome::Refused(Refusal::Conflict) => Err(Failure::new(Reason::NotLeader, "another node joins just now")),
        Outcome::Refused(Refusal::LimitReached) => {
            Err(Failure::new(Reason::Overloaded, "too many nodes joined within a day"))
        }
        Outcome::Refused(Refusal::Cluster) => {
            Err(Failure::new(Reason::Refused, "the cluster's founding is not finished; start its first node once more"))
        }
        Outcome::Refused(_)
        | Outcome::HostAdded(_)
        | Outcome::KeyCreated(_)
        | Outcome::Placed(_)
        | Outcome::Each(_) => Err(Failure::new(Reason::Refused, format!("the token could not be used: {outcome:?}"))),
    }
}

fn used() -> Failure {
    Failure::new(Reason::Denied, "it was used already, be it by a join that did not finish")
}

/// The leader's side of step two: makes the node a learner. Done twice, it changes nothing.
pub(super) async fn admit(inner: &Inner, request: &AdmitRequest) -> Result<Response, Failure> {
    leader::ensure_leads(inner)?;
    let members = inner.raft.metrics().borrow_watched().membership_config.membership().clone();
    if members.get_node(&request.node).is_some_and(|peer| peer.raft_address == request.peer.raft_address) {
        return Ok(Response::Done);
    }
    let token = check_token(inner, &request.token)?;
    // Another leader may have spent it, in an entry that is not applied here yet.
    let Response::ReadIndex(index) = leader::read_index(inner).await? else {
        return Err(Failure::new(Reason::NoQuorum, "raft answered something else"));
    };
    let mut applied = inner.machine.applied();
    if applied.wait_for(|applied| *applied >= index).await.is_err() {
        return Err(Failure::new(Reason::NoQuorum, "this node is shutting down"));
    }
    if spent(inner, &token).is_none_or(|spent| spent.node.0 != request.node) {
        return Err(Failure::new(Reason::Denied, format!("it did not let node {} in", request.node)));
    }
    judge_address(inner, Some(request.node), &request.peer)?;
    let added = BTreeMap::from([(request.node, request.peer.clone())]);
    leader::change(inner, openraft::ChangeMembers::AddNodes(added)).await?;
    Ok(Response::Done)
}

/// Refuses a token that is not good or, as far as applied here, was used.
fn judge_token(inner: &Inner, text: &str) -> Result<JoinToken, Failure> {
    let token = check_token(inner, text)?;
    match spent(inner, &token) {
        Some(_) => Err(used()),
        None => Ok(token),
    }
}

/// Refuses a token that this cluster did not make or that has expired.
fn check_token(inner: &Inner, text: &str) -> Result<JoinToken, Failure> {
    let denied = |error: Error| {
        let message = match error {
            Error::JoinDenied(reason) => reason,
            other => other.to_string(),
        };
        Failure::new(Reason::Denied, message)
    };
    let token = JoinToken::from_text(text).map_err(denied)?;
    token.check(&inner.secret).map_err(denied)?;
    Ok(token)
}

/// What is recorded of a token that was used.
fn spent(inner: &Inner, token: &JoinToken) -> Option<SpentToken> {
    let mut spent = None;
    inner.machine.read_with(&mut |state| spent = state.join_tokens.get(&token.nonce).copied());
    spent
}

/// Refuses an id or an address that a member has.
fn judge_address(inner: &Inner, node: Option<u64>, peer: &Peer) -> Result<(), Failure> {
    let members = inner.raft.metrics().borrow_watched().membership_config.membership().clone();
    if let Some(node) = node.filter(|node| members.get_node(node).is_some()) {
        return Err(Failure::new(Reason::NodeExists, format!("node {node} is a member already, with another address")));
    }
    let taken = members.nodes().find(|(_, member)| member.raft_address == peer.raft_address);
    match taken {
        Some((member, _)) => Err(Failure::new(
            Reason::NodeExists,
            format!(
                "node {member} is a member with the address {}; remove it first if its machine is gone",
                peer.raft_address
            ),
        )),
        None => Ok(()),
    }
}

/// At start-up: the founder of a new cluster makes the membership; a node that is not a member yet asks to be.
pub(super) async fn begin(inner: &Arc<Inner>, pristine: bool) -> Result<()> {
    match &inner.identity.origin {
        Origin::Founder if pristine => {
            let members = BTreeMap::from([(inner.owner.node.0, inner.peer.clone())]);
            inner.raft.initialize(members).await.map_err(|error| Error::Stopped(error.to_string()))
        }
        Origin::Founder => Ok(()),
        Origin::Joined { via, token } => {
            if !inner.is_member(inner.owner.node.0) {
                let token = String::from_utf8_lossy(&token.0).into_owned();
                inner.tasks.spawn(keep_asking(Arc::clone(inner), via.clone(), token));
            }
            Ok(())
        }
    }
}

/// The new node's side of step two.
async fn keep_asking(inner: Arc<Inner>, via: String, token: String) {
    let request = Request::Admit(AdmitRequest { node: inner.owner.node.0, peer: inner.peer.clone(), token });
    loop {
        let asked = tokio::select! {
            () = inner.closing.cancelled() => return,
            asked = call(&inner.caller, &via, &request) => asked,
        };
        match asked {
            Ok(_) => return,
            Err(Error::JoinDenied(reason)) => {
                let next = format!("{reason}; this node is no member: empty its data folder before it joins again");
                watch::fail(&inner, Error::JoinDenied(next));
                return;
            }
            Err(error @ (Error::NodeExists(_) | Error::Removed)) => {
                watch::fail(&inner, error);
                return;
            }
            Err(error) => tracing::warn!(via, %error, "not admitted to the cluster yet; asking again"),
        }
        // It may have been admitted although the answer was lost.
        if inner.is_member(inner.owner.node.0) {
            return;
        }
        tokio::select! {
            () = inner.closing.cancelled() => return,
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

/// Waits until the node is a member.
pub(super) async fn wait(inner: &Inner) -> Result<()> {
    let mut fatal = inner.fatal.subscribe();
    let mut raft = inner.raft.metrics();
    loop {
        if inner.is_member(inner.owner.node.0) {
            return Ok(());
        }
        if let Some(error) = fatal.borrow_and_update().clone() {
            return Err(error);
        }
        tokio::select! {
            changed = raft.changed() => changed.map_err(|_| Error::Stopped("raft has ended".into()))?,
            changed = fatal.changed() => changed.map_err(|_| Error::Stopped("the node has ended".into()))?,
        }
    }
}
