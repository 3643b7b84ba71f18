//! One connection to a peer, carrying many requests at once.

use super::{
    frame::{Frame, Kind, MAX_FRAME},
    message::{Request, Response},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Requests under way on one connection. Reached only when the peer does not keep up; then callers are told.
const MAX_PENDING: usize = 2_048;
/// Frames waiting to be written; senders wait when it is full.
const WRITE_QUEUE: usize = 64;
/// How often a sign of life is asked for.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Silence after which the peer counts as gone. Covers a stalled disk; requests under way fail then.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The request was never sent.
    #[error("{0}")]
    NotSent(String),
    /// Nothing was sent: too many requests are under way.
    #[error("too many requests to this peer are under way")]
    Busy,
    /// The request may have arrived; no answer came.
    #[error("{0}")]
    Lost(String),
    /// The peer refuses this node.
    #[error("{0}")]
    Removed(String),
}

/// The sending half. Dropping the last clone closes the connection.
pub(crate) struct Connection {
    writes: mpsc::Sender<Frame>,
    pending: Arc<Pending>,
    permits: Semaphore,
    next: AtomicU64,
    closed: CancellationToken,
    _close: DropGuard,
}

/// Requests that wait for an answer; `None` once the connection is closed.
struct Pending(Mutex<Option<HashMap<u64, oneshot::Sender<Response>>>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Response>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a request's place when its caller gives up.
struct Forget<'a> {
    pending: &'a Pending,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.pending.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl Connection {
    /// Takes over a stream on which both sides have introduced themselves.
    pub(crate) fn start<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (writes, queue) = mpsc::channel(WRITE_QUEUE);
        let pending = Arc::new(Pending(Mutex::new(Some(HashMap::new()))));
        let closed = CancellationToken::new();
        tokio::spawn(end(closed.clone(), Arc::clone(&pending), async move { write(writer, queue).await }));
        let answers = Arc::clone(&pending);
        tokio::spawn(end(closed.clone(), Arc::clone(&pending), async move { read(reader, &answers).await }));
        let next = AtomicU64::new(1);
        let guard = closed.clone().drop_guard();
        Self { writes, pending, permits: Semaphore::new(MAX_PENDING), next, closed, _close: guard }
    }

    /// Whether calls can still succeed.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call(&self, request: &Request, deadline: Duration) -> Result<Response, CallError> {
        let until = Instant::now() + deadline;
        let _permit = self.permits.try_acquire().map_err(|_| CallError::Busy)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = Frame::new(Kind::Request, id, request).map_err(|error| CallError::NotSent(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        match self.pending.lock().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(CallError::NotSent("the connection was closed".into())),
        };
        let _forget = Forget { pending: &self.pending, id };
        match tokio::time::timeout_at(until, self.writes.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(CallError::NotSent("the connection was closed".into())),
            Err(_) => return Err(CallError::NotSent("the peer does not read".into())),
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(CallError::Lost("the connection was lost".into())),
            Err(_) => Err(CallError::Lost(format!("no answer within {deadline:?}"))),
        }
    }
}

/// Runs one half until it fails or the connection is closed; then nobody waits on it any more.
async fn end(closed: CancellationToken, pending: Arc<Pending>, half: impl Future<Output = io::Result<()>>) {
    tokio::select! {
        () = closed.cancelled() => {}
        result = half => {
            if let Err(error) = result {
                tracing::debug!(%error, "a peer connection ended");
            }
            closed.cancel();
        }
    }
    pending.lock().take();
}

async fn write(writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => return writer.shutdown().await,
            },
            // However much is sent: answers may all be slow ones, and silence would look like death.
            _ = ping.tick() => Frame::empty(Kind::Ping),
        };
        frame.write(&mut writer).await?;
        while let Ok(frame) = queue.try_recv() {
            frame.write(&mut writer).await?;
        }
        writer.flush().await?;
    }
}

async fn read(reader: impl AsyncRead + Unpin, pending: &Pending) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    loop {
        let frame = timeout(SILENCE, Frame::read(&mut reader, MAX_FRAME))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer has gone silent"))??;
        if frame.kind != Kind::Response {
            continue; // A Pong, or something of another release.
        }
        let response = frame.value()?;
        let waiting = pending.lock().as_mut().and_then(|waiting| waiting.remove(&frame.id));
        if let Some(answer) = waiting {
            // Whoever asked may have given up.
            let _ = answer.send(response);
        }
    }
}
