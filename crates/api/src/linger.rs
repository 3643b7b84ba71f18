//! An answer that comes before its request was read: the rest is read on for a while, so that the caller gets to read it.
//!
//! A connection that is closed while its peer still sends is reset, and the reset takes away what the peer has not read yet: an upload
//! that was refused would look like a connection that broke.

use axum::body::{Body, BodyDataStream, HttpBody as _};
use futures_util::{StreamExt as _, stream};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

/// Bodies up to this size are in the buffers of the two ends by the time they are refused.
const SMALL: u64 = 64 << 10;
/// Read on at most, in bytes: callers that stop when they see an answer stop long before.
const MOST: usize = 64 << 20;
/// Read on at most, in time.
const LONGEST: Duration = Duration::from_secs(10);

/// What a handler may leave unread of a body.
pub(crate) struct Rest(Option<Arc<Mutex<Unread>>>);

struct Unread {
    body: BodyDataStream,
    ended: bool,
}

/// A body for a handler, and what it leaves of it.
pub(crate) fn split(body: Body) -> (Body, Rest) {
    if body.size_hint().upper().is_some_and(|bytes| bytes <= SMALL) {
        return (body, Rest(None));
    }
    let unread = Arc::new(Mutex::new(Unread { body: body.into_data_stream(), ended: false }));
    let taken = Arc::clone(&unread);
    (Body::from_stream(stream::poll_fn(move |context| lock(&taken).poll(context))), Rest(Some(unread)))
}

impl Unread {
    fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<Option<Result<bytes::Bytes, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.body.poll_next_unpin(context);
        self.ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

fn lock(unread: &Mutex<Unread>) -> MutexGuard<'_, Unread> {
    unread.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rest {
    /// Reads on in the background if something is left, and holds `permit` meanwhile.
    pub(crate) fn read_on<P: Send + 'static>(self, permit: P) {
        let Some(unread) = self.0.filter(|unread| !lock(unread).ended) else { return };
        tokio::spawn(async move {
            let mut rest = stream::poll_fn(move |context| lock(&unread).poll(context));
            let reading = async {
                let mut read = 0;
                while read < MOST
                    && let Some(Ok(piece)) = rest.next().await
                {
                    read += piece.len();
                }
            };
            // Whoever sends for longer learns it from the connection.
            let _ = tokio::time::timeout(LONGEST, reading).await;
            drop(permit);
        });
    }
}
