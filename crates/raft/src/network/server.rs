//! Accepting peers: who they are is settled before anything they ask is looked at.

use super::{
    connection::SILENCE,
    frame::{Frame, Kind, MAX_FRAME, MAX_STRANGER_FRAME},
    message::{Failure, Hello, PROTOCOL, Reason, Request, Response, Welcome},
    tls,
};
use crate::identity::Owner;
use async_trait::async_trait;
use plimsoll_types::NodeId;
use rustls::ServerConfig;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// Connections at once. A cluster of five with joining nodes needs ten; the rest is for reconnects.
const MAX_CONNECTIONS: usize = 128;
/// How long a peer may take to introduce itself. Longer lets strangers hold connections.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one connection that are worked on at once; further ones are refused.
const MAX_REQUESTS: usize = 4_096;
/// Answers waiting to be written.
const WRITE_QUEUE: usize = 64;
/// Pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers requests.
#[async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    /// What belongs to one connection.
    type Session: Send + Sync + 'static;

    /// Whether a node whose certificate is good may connect.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, node: NodeId) -> Result<(), Failure>;

    /// Begins a connection; `None` is a node without a certificate, which may only ask to join.
    fn session(&self, node: Option<NodeId>) -> Self::Session;

    /// Answers a request.
    async fn answer(&self, session: &Self::Session, request: Request) -> Response;
}

/// Accepts connections until `stop`.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    owner: Owner,
    handler: Arc<H>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!("a peer was turned away: {MAX_CONNECTIONS} are connected");
            continue;
        };
        let (tls, handler, stop) = (Arc::clone(&tls), Arc::clone(&handler), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = stop.cancelled() => {}
                result = connection(stream, tls, owner, handler) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a peer's connection ended");
                    }
                }
            }
        });
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    owner: Owner,
    handler: Arc<H>,
) -> io::Result<()> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer did not introduce itself");
    stream.set_nodelay(true)?;
    let greeting = async {
        let mut stream = TlsAcceptor::from(tls).accept(stream).await?;
        let hello = Frame::read(&mut stream, MAX_STRANGER_FRAME).await?;
        let judged = judge(&stream, &hello, owner, handler.as_ref());
        let answer = match &judged {
            Ok(_) => Frame::new(Kind::Welcome, 0, &Welcome { protocol: PROTOCOL, node: owner.node.0 })?,
            Err(failure) => Frame::new(Kind::Refused, 0, failure)?,
        };
        answer.write(&mut stream).await?;
        stream.flush().await?;
        if let Err(failure) = &judged {
            tracing::warn!(reason = failure.message, "a peer was refused");
            stream.shutdown().await?;
        }
        io::Result::Ok((stream, judged.ok()))
    };
    let (stream, judged) = timeout(GREETING_TIMEOUT, greeting).await.map_err(late)??;
    match judged {
        Some(peer) => converse(stream, peer, handler).await,
        None => Ok(()),
    }
}

/// Who the peer is: a member (its certificate says so, and so does it), or a node that wants to join.
fn judge<H: Handler>(
    stream: &TlsStream<TcpStream>,
    hello: &Frame,
    owner: Owner,
    handler: &H,
) -> Result<Option<NodeId>, Failure> {
    let denied = |message: String| Failure::new(Reason::Denied, message);
    if hello.kind != Kind::Hello {
        return Err(denied("the first frame is no greeting".into()));
    }
    let hello: Hello = hello.value().map_err(|error| denied(format!("the greeting is malformed: {error}")))?;
    if hello.protocol != PROTOCOL {
        return Err(denied(format!("protocol {} is not spoken here, only {PROTOCOL}", hello.protocol)));
    }
    let cert = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let (cert, origin) = match (cert, hello.from) {
        (None, None) => return Ok(None),
        (Some(cert), Some(origin)) => (cert, origin),
        (Some(_), None) | (None, Some(_)) => return Err(denied("the greeting and the certificate disagree".into())),
    };
    let node = NodeId(origin.from);
    if origin.cluster != owner.cluster {
        return Err(denied(format!("this is cluster {}, not {}", owner.cluster, origin.cluster)));
    }
    if !tls::is_node(cert, owner.cluster, node) {
        return Err(denied(format!("the certificate is not node {node}'s")));
    }
    if origin.to.is_some_and(|to| to != owner.node.0) {
        return Err(denied(format!("this is node {}", owner.node)));
    }
    handler.admit(node)?;
    Ok(Some(node))
}

/// Reads requests and answers each as it gets done, in any order.
async fn converse<H: Handler, S>(stream: S, peer: Option<NodeId>, handler: Arc<H>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let most = if peer.is_some() { MAX_FRAME } else { MAX_STRANGER_FRAME };
    let (reader, writer) = tokio::io::split(stream);
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let (answers, queue) = mpsc::channel(WRITE_QUEUE);
    let session = Arc::new(handler.session(peer));
    let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
    // The set ends its tasks when dropped: what a lost connection had asked for is not answered any more.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(write(writer, queue));
    loop {
        let frame = timeout(SILENCE, Frame::read(&mut reader, most))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer has gone silent"))??;
        while tasks.try_join_next().is_some() {}
        match frame.kind {
            Kind::Ping => answers.send(Frame::empty(Kind::Pong)).await.map_err(io::Error::other)?,
            Kind::Request => {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    let busy = Response::Failed(Failure::new(Reason::Overloaded, "too many requests are under way"));
                    answers.send(Frame::new(Kind::Response, frame.id, &busy)?).await.map_err(io::Error::other)?;
                    continue;
                };
                let (handler, session, answers) = (Arc::clone(&handler), Arc::clone(&session), answers.clone());
                tasks.spawn(async move {
                    let _permit = permit;
                    let answer = respond(handler.as_ref(), &session, &frame).await?;
                    answers.send(answer).await.map_err(io::Error::other)
                });
            }
            Kind::Hello | Kind::Welcome | Kind::Refused | Kind::Response | Kind::Pong => {}
        }
    }
}

async fn respond<H: Handler>(handler: &H, session: &H::Session, frame: &Frame) -> io::Result<Frame> {
    let response = match frame.value() {
        Ok(request) => handler.answer(session, request).await,
        Err(error) => Failure::new(Reason::Refused, format!("the request cannot be read: {error}")).into(),
    };
    Frame::new(Kind::Response, frame.id, &response).or_else(|error| {
        Frame::new(Kind::Response, frame.id, &Response::from(Failure::new(Reason::Refused, error.to_string())))
    })
}

async fn write(writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    while let Some(frame) = queue.recv().await {
        frame.write(&mut writer).await?;
        while let Ok(frame) = queue.try_recv() {
            frame.write(&mut writer).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}
