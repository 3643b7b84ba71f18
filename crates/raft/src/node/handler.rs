//! What peers may ask of this node.

use super::{Inner, leader, route};
use crate::{
    machine::blocking,
    network::{
        message::{Failure, Reason, Request, Response},
        server::Handler,
    },
    store::snapshots::SnapshotFile,
    types::{Snapshot, SnapshotMeta, Vote},
};
use async_trait::async_trait;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use plimsoll_lifecycle::ports::LedgerError;
use plimsoll_types::NodeId;
use std::{fs::File, io::Write, sync::Arc};
use tokio::sync::Mutex;

/// Answers peers.
pub(super) struct Peers {
    pub(super) inner: Arc<Inner>,
}

/// One connection: who it is, and the snapshot it is sending.
pub(super) struct Session {
    node: Option<NodeId>,
    incoming: Mutex<Option<Incoming>>,
}

struct Incoming {
    file: File,
    snapshot: SnapshotFile,
    length: u64,
}

#[async_trait]
impl Handler for Peers {
    type Session = Session;

    fn admit(&self, node: NodeId) -> Result<(), Failure> {
        if self.inner.machine.was_removed(node.0) {
            return Err(Failure::new(Reason::Removed, format!("node {node} was removed from this cluster")));
        }
        Ok(())
    }

    fn session(&self, node: Option<NodeId>) -> Session {
        Session { node, incoming: Mutex::new(None) }
    }

    async fn answer(&self, session: &Session, request: Request) -> Response {
        let Some(node) = session.node else {
            return match request {
                // Any member can let a node in: the question goes on to the leader.
                Request::Join(_) => self.pass_on(&request).await,
                _ => Failure::new(Reason::Denied, "a node without a certificate may only join").into(),
            };
        };
        // It may have been removed since it connected.
        match self.admit(node) {
            Ok(()) => self.member(session, request).await.unwrap_or_else(Response::Failed),
            Err(failure) => failure.into(),
        }
    }
}

impl Peers {
    async fn member(&self, session: &Session, request: Request) -> Result<Response, Failure> {
        let inner = &self.inner;
        let deadline = inner.options.timers.proposal;
        Ok(match request {
            Request::Append(rpc) => Response::Append(inner.raft.append_entries(rpc).await.map_err(stopped)?),
            Request::Vote(rpc) => Response::Vote(inner.raft.vote(rpc).await.map_err(stopped)?),
            Request::PreVote(rpc) => Response::Vote(inner.raft.pre_vote(rpc).await.map_err(stopped)?),
            Request::TransferLeader(rpc) => {
                Response::TransferLeader(inner.raft.handle_transfer_leader(rpc).await.map_err(stopped)?)
            }
            Request::SnapshotChunk { offset, data } => self.receive(session, offset, data).await?,
            Request::SnapshotEnd { vote, meta, length } => self.install(session, vote, meta, length).await?,
            Request::Propose(_) => {
                let _permit = inner.proposals.try_acquire().map_err(|_| overloaded())?;
                leader::answer(inner, &request, deadline).await
            }
            Request::ReadIndex | Request::Remove(_) | Request::Handover(_) => {
                leader::answer(inner, &request, deadline).await
            }
            Request::Ask(_) => leader::answer(inner, &request, super::ledger::ASK_TIMEOUT).await,
            // From the joining node itself, this is the first stop; from another member, the question was passed on already.
            Request::Admit(ref admit) if session.node == Some(NodeId(admit.node)) => self.pass_on(&request).await,
            Request::Join(_) | Request::Admit(_) => leader::answer(inner, &request, deadline).await,
        })
    }

    /// Answers if this node leads, else asks the leader.
    async fn pass_on(&self, request: &Request) -> Response {
        match route::ask(&self.inner, request, self.inner.options.timers.proposal).await {
            Ok(response) => response,
            Err(route::Refusal::Ledger(error)) => match error {
                LedgerError::NoQuorum(message) | LedgerError::Leader(message) => {
                    Failure::new(Reason::NoQuorum, message)
                }
                LedgerError::Overloaded => overloaded(),
                LedgerError::Closed => Failure::new(Reason::NoQuorum, "this node is shutting down"),
            }
            .into(),
            Err(route::Refusal::Leader(failure)) => failure.into(),
        }
    }

    async fn receive(&self, session: &Session, offset: u64, data: Bytes) -> Result<Response, Failure> {
        let mut slot = session.incoming.lock().await;
        let mut incoming = match slot.take() {
            Some(incoming) if offset != 0 && incoming.length == offset => incoming,
            _ if offset == 0 => {
                let snapshots = Arc::clone(self.inner.machine.snapshots());
                let (file, snapshot) = blocking(move || snapshots.receive()).await.map_err(|error| failed(&error))?;
                Incoming { file, snapshot, length: 0 }
            }
            _ => return Err(Failure::new(Reason::Refused, format!("no snapshot is expected at byte {offset}"))),
        };
        let written = blocking(move || {
            incoming.file.write_all(&data)?;
            incoming.length += data.len() as u64;
            Ok(incoming)
        });
        *slot = Some(written.await.map_err(|error| failed(&error))?);
        Ok(Response::Done)
    }

    async fn install(
        &self,
        session: &Session,
        vote: Vote,
        meta: SnapshotMeta,
        length: u64,
    ) -> Result<Response, Failure> {
        let incoming = session.incoming.lock().await.take().filter(|incoming| incoming.length == length);
        let incoming = incoming.ok_or_else(|| Failure::new(Reason::Refused, "the snapshot did not arrive whole"))?;
        let checked = blocking(move || {
            incoming.file.sync_all()?;
            crate::store::snapshots::verify(incoming.snapshot.path())?;
            Ok(incoming.snapshot)
        });
        let snapshot = checked.await.map_err(|error| failed(&error))?;
        let installed = self.inner.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await;
        installed.map(Response::Snapshot).map_err(|error| Failure::new(Reason::NoQuorum, error.to_string()))
    }
}

impl Inner {
    /// Up to where the log was purged.
    #[cfg(test)]
    pub(super) fn purged(&self) -> u64 {
        self.raft.metrics().borrow_watched().purged.map_or(0, |id| id.index)
    }

    /// Whether a membership that was applied here names the node.
    pub(super) fn is_member(&self, node: u64) -> bool {
        self.raft.metrics().borrow_watched().membership_config.get_node(&node).is_some()
    }
}

fn overloaded() -> Failure {
    Failure::new(Reason::Overloaded, "too many proposals are under way")
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::NoQuorum, error.to_string())
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Refused, format!("the snapshot could not be stored: {error}"))
}
