//! Connections for long-lived streams: each carries one stream at a time.
//!
//! The SSH library delivers the data of all channels of a connection in order, and announces room for more when data arrives,
//! not when it is read. One slow reader of `logs -f` would therefore stop everything else on the shared connection,
//! polls included. A stream has a connection of its own while it lives, so slowness reaches the process it reads and nobody
//! else. Idle connections are kept for a moment: a login costs more than the stream.

use super::login::{Connection, Login};
use crate::error;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Streams on a host at once, from this node. Each costs two sshd processes there (about 8 MiB).
const MAX_STREAMS: usize = 64;
/// Logins at once. sshd's MaxStartups drops some of more than 10 that have not authenticated yet; other nodes log in too.
const MAX_LOGINS: usize = 3;
/// How long a stream waits for another to end before it is refused.
const WAIT: Duration = Duration::from_secs(10);
/// Idle connections kept. A busy sandbox's file operations come one after the other.
const MAX_IDLE: usize = 4;
/// How long they are kept.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) struct Pool {
    login: Arc<Login>,
    streams: Arc<Semaphore>,
    logins: Semaphore,
    idle: Mutex<Vec<(Instant, Arc<Connection>)>>,
}

/// A connection for one stream; goes back to the pool when dropped.
pub(crate) struct Lease {
    pub(crate) connection: Arc<Connection>,
    pool: Arc<Pool>,
    _stream: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(login: Arc<Login>) -> Arc<Self> {
        Arc::new(Self {
            login,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            logins: Semaphore::new(MAX_LOGINS),
            idle: Mutex::default(),
        })
    }

    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, HostError> {
        let overloaded = || {
            let text = format!("{MAX_STREAMS} streams to host {} are open; close some and retry", self.login.name);
            error::transient(Code::Overloaded, text)
        };
        let waiting = tokio::time::timeout(WAIT, Arc::clone(&self.streams).acquire_owned());
        let stream = waiting.await.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        let connection = match self.take_idle() {
            Some(connection) => connection,
            None => {
                let _login = self.logins.acquire().await.map_err(|_| overloaded())?;
                // Another stream may have ended meanwhile.
                match self.take_idle() {
                    Some(connection) => connection,
                    None => Arc::new(self.login.connect().await?),
                }
            }
        };
        Ok(Lease { connection, pool: Arc::clone(self), _stream: stream })
    }

    fn take_idle(&self) -> Option<Arc<Connection>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, connection)| since.elapsed() < IDLE && !connection.handle.is_closed());
        idle.pop().map(|(_, connection)| connection)
    }

    fn give_back(self: &Arc<Self>, connection: Arc<Connection>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.handle.is_closed() || idle.len() >= MAX_IDLE {
            return;
        }
        idle.push((Instant::now(), connection));
        drop(idle);
        let pool = Arc::downgrade(self);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(IDLE).await;
                if let Some(pool) = pool.upgrade() {
                    pool.idle
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .retain(|(since, _)| since.elapsed() < IDLE);
                }
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(Arc::clone(&self.connection));
    }
}
