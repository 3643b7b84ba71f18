//! Connecting to a peer: TCP, TLS, and the first words.

use super::{
    connection::{CallError, Connection},
    frame::{Frame, Kind, MAX_STRANGER_FRAME},
    message::{Failure, Hello, Origin, PROTOCOL, Reason, Welcome},
    tls,
};
use crate::metrics;
use plimsoll_types::{ClusterId, NodeId};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long connecting may take in all. Longer would hold up elections behind a dead peer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Who connects.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) tls: Arc<ClientConfig>,
    /// This node, unless it has no certificate yet.
    pub(crate) own: Option<(ClusterId, NodeId)>,
}

/// Connects to a member; `target` must be the node there, if it is given.
pub(crate) async fn connect(caller: &Caller, target: Option<NodeId>, address: &str) -> Result<Connection, CallError> {
    let result = match timeout(CONNECT_TIMEOUT, introduce(caller, target, address)).await {
        Ok(result) => result,
        Err(_) => Err(CallError::NotSent(format!("{address} did not answer within {CONNECT_TIMEOUT:?}"))),
    };
    metrics::connect(match &result {
        Ok(_) => "ok",
        Err(CallError::Removed(_)) => "refused",
        Err(CallError::NotSent(_) | CallError::Busy | CallError::Lost(_)) => "failed",
    });
    result
}

async fn introduce(caller: &Caller, target: Option<NodeId>, address: &str) -> Result<Connection, CallError> {
    let failed = |what: &str, error: io::Error| CallError::NotSent(format!("{what} {address}: {error}"));
    let stream = TcpStream::connect(address).await.map_err(|error| failed("cannot connect to", error))?;
    stream.set_nodelay(true).map_err(|error| failed("cannot set up the connection to", error))?;
    let name = match caller.own {
        Some((cluster, _)) => tls::member_name(cluster, target),
        None => ServerName::try_from(crate::certs::ANY_MEMBER)
            .map_err(|error| crate::error::Error::Invalid(error.to_string())),
    }
    .map_err(|error| CallError::NotSent(error.to_string()))?;
    let mut stream = TlsConnector::from(Arc::clone(&caller.tls))
        .connect(name, stream)
        .await
        .map_err(|error| failed("no TLS with", error))?;
    let from = caller.own.map(|(cluster, node)| Origin { cluster, from: node.0, to: target.map(|node| node.0) });
    let hello = Frame::new(Kind::Hello, 0, &Hello { protocol: PROTOCOL, from })
        .map_err(|error| failed("cannot greet", error))?;
    hello.write(&mut stream).await.map_err(|error| failed("cannot greet", error))?;
    stream.flush().await.map_err(|error| failed("cannot greet", error))?;
    let answer =
        Frame::read(&mut stream, MAX_STRANGER_FRAME).await.map_err(|error| failed("no greeting from", error))?;
    match answer.kind {
        Kind::Welcome => {
            let welcome: Welcome = answer.value().map_err(|error| failed("malformed greeting from", error))?;
            tracing::debug!(address, node = welcome.node, protocol = welcome.protocol, "connected to a peer");
            Ok(Connection::start(stream))
        }
        Kind::Refused => {
            let failure: Failure = answer.value().map_err(|error| failed("malformed refusal from", error))?;
            match failure.reason {
                Reason::Removed => Err(CallError::Removed(failure.message)),
                Reason::NotLeader
                | Reason::Overloaded
                | Reason::NoQuorum
                | Reason::Denied
                | Reason::NodeExists
                | Reason::Refused
                | Reason::Other => Err(CallError::NotSent(format!("{address} refused this node: {}", failure.message))),
            }
        }
        Kind::Hello | Kind::Request | Kind::Response | Kind::Ping | Kind::Pong => {
            Err(CallError::NotSent(format!("{address} does not speak this protocol")))
        }
    }
}
