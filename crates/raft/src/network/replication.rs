//! Raft's own messages to peers, as openraft wants to send them.

use super::{
    connection::CallError,
    message::{Reason, Request, Response},
    pool::Pool,
};
use crate::{
    store::snapshots::SnapshotFile,
    types::{Peer, Snapshot, TypeConfig, Vote},
};
use bytes::Bytes;
use openraft::{
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::io::AsyncReadExt;

/// Bytes of a snapshot sent at once. Larger would hold up heartbeats on the same connection.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a follower may take for an append with entries: a stalled disk must not make the leader send them again.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a follower may take to write one piece of a snapshot.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

type RpcError = RPCError<TypeConfig>;

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) pool: Arc<Pool>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        Client { pool: Arc::clone(&self.pool), target, address: node.raft_address.clone() }
    }
}

/// One peer. All clients of a peer share its connection, on which no request waits for another.
pub(crate) struct Client {
    pool: Arc<Pool>,
    target: u64,
    address: String,
}

impl Client {
    async fn call(&self, request: &Request, deadline: Duration) -> Result<Response, RpcError> {
        match self.pool.call(self.target, &self.address, request, deadline).await {
            Ok(Response::Failed(failure)) => {
                let text = format!("node {} failed: {}", self.target, failure.message);
                Err(match failure.reason {
                    Reason::Overloaded => NetworkError::from_string(text).into(),
                    Reason::NotLeader
                    | Reason::NoQuorum
                    | Reason::Denied
                    | Reason::NodeExists
                    | Reason::Removed
                    | Reason::Refused
                    | Reason::Other => Unreachable::from_string(text).into(),
                })
            }
            Ok(response) => Ok(response),
            Err(error @ (CallError::NotSent(_) | CallError::Removed(_))) => Err(Unreachable::from_string(error).into()),
            Err(error @ (CallError::Busy | CallError::Lost(_))) => Err(NetworkError::from_string(error).into()),
        }
    }

    fn unexpected(&self) -> RpcError {
        Unreachable::from_string(format!("node {} answered something else", self.target)).into()
    }

    async fn send_chunks(&self, snapshot: &SnapshotFile) -> Result<u64, StreamingError<TypeConfig>> {
        let read = |error: std::io::Error| StreamingError::Unreachable(Unreachable::new(&error));
        let mut file = tokio::fs::File::open(snapshot.path()).await.map_err(read)?;
        let mut offset = 0;
        loop {
            let mut data = Vec::with_capacity(CHUNK_BYTES);
            (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut data).await.map_err(read)?;
            if data.is_empty() {
                return Ok(offset);
            }
            let length = data.len() as u64;
            match self.call(&Request::SnapshotChunk { offset, data: Bytes::from(data) }, CHUNK_TIMEOUT).await? {
                Response::Done => offset += length,
                _ => return Err(self.unexpected().into()),
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let deadline = if rpc.entries.is_empty() { option.soft_ttl() } else { option.soft_ttl().max(APPEND_TIMEOUT) };
        match self.call(&Request::Append(rpc), deadline).await? {
            Response::Append(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(&Request::Vote(rpc), option.soft_ttl()).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(&Request::PreVote(rpc), option.soft_ttl()).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            let length = self.send_chunks(&snapshot.snapshot).await?;
            let request = Request::SnapshotEnd { vote, meta: snapshot.meta, length };
            match self.call(&request, option.soft_ttl()).await? {
                Response::Snapshot(response) => Ok(response),
                _ => Err(self.unexpected().into()),
            }
        };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            result = send => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        match self.call(&Request::TransferLeader(req), option.soft_ttl()).await? {
            Response::TransferLeader(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }
}
