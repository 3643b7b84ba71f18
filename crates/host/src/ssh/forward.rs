//! The registry on the host's own loopback address: a reverse forward, on an SSH connection that carries nothing else.
//!
//! The SSH library delivers the data of all channels of a connection in order, so gigabytes of layers on the shared connection would stall
//! polls and calls. The connection is kept for a moment after the last use, and made anew when it was lost.

use super::login::{Connection, Login};
use crate::{error, limits, registry::Place};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};

/// The port that is asked for first. Docker remembers which layers a registry has by the registry's name, so the same name each time
/// spares it asking, or sending, again.
const PORT: u32 = 15_000;
/// The only address it is reachable at.
const ADDRESS: &str = "127.0.0.1";
/// Connections at once. Docker opens up to five per push and three per pull.
const MAX_CONNECTIONS: usize = 32;
/// How long it is kept after the last use: a pause is often followed by the next one, and a pull by a start.
const IDLE: Duration = Duration::from_secs(30);

/// The forward of one host, if there is one.
pub(crate) struct Forward {
    login: Arc<Login>,
    current: Mutex<Weak<Forwarded>>,
}

/// A forward that stands. It ends when nobody holds it any more.
pub(crate) struct Forwarded {
    pub(crate) port: u16,
    connection: Connection,
}

impl Forward {
    pub(crate) fn new(login: Arc<Login>) -> Self {
        Self { login, current: Mutex::new(Weak::new()) }
    }

    /// The forward, made if there is none.
    pub(crate) async fn open(&self, place: &Place) -> Result<Arc<Forwarded>, HostError> {
        let mut current = self.current.lock().await;
        if let Some(forwarded) = current.upgrade().filter(|forwarded| !forwarded.connection.handle.is_closed()) {
            return Ok(forwarded);
        }
        let forwarded = Arc::new(self.make(place).await?);
        *current = Arc::downgrade(&forwarded);
        drop(current);
        // Looks now and then whether anybody else still holds it.
        let kept = Arc::clone(&forwarded);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE).await;
                if Arc::strong_count(&kept) == 1 || kept.connection.handle.is_closed() {
                    break;
                }
            }
        });
        Ok(forwarded)
    }

    async fn make(&self, place: &Place) -> Result<Forwarded, HostError> {
        let name = &self.login.name;
        let connection = self.login.connect_with(Some(Pipe::new(name, place))).await?;
        let ask = async {
            match connection.handle.tcpip_forward(ADDRESS, PORT).await {
                Ok(_) => Ok(PORT),
                // Taken: by another node's forward, or by something else on the host.
                Err(russh::Error::RequestDenied) => connection.handle.tcpip_forward(ADDRESS, 0).await,
                Err(error) => Err(error),
            }
        };
        let port = match tokio::time::timeout(limits::OPEN, ask).await {
            Ok(Ok(port)) => port,
            Ok(Err(russh::Error::RequestDenied)) => {
                return Err(error::this_host(
                    Code::SshDenied,
                    format!(
                        "sshd on host {name} forbids remote forwarding, which the registry is reached through: set `AllowTcpForwarding \
                         yes`, and no `DisableForwarding`, no `PermitListen none`, in its sshd_config"
                    ),
                ));
            }
            Ok(Err(error)) => return Err(lost(name, &error::chain(&error))),
            Err(_) => return Err(lost(name, "it did not answer in time")),
        };
        let port = u16::try_from(port).ok().filter(|port| *port != 0).ok_or_else(|| lost(name, "it chose no port"))?;
        tracing::debug!(host = name, port, "the registry is forwarded to the host");
        Ok(Forwarded { port, connection })
    }
}

fn lost(name: &str, why: &str) -> HostError {
    let text = format!("the registry could not be forwarded to host {name}: {why}; it is tried again");
    error::unreachable(Code::SshUnreachable, text)
}

/// Carries connections to the registry, so many at once.
#[derive(Clone)]
pub(crate) struct Pipe {
    host: String,
    place: Place,
    connections: Arc<Semaphore>,
}

/// Leave to carry one connection.
pub(crate) struct Piping {
    host: String,
    place: Place,
    _permit: OwnedSemaphorePermit,
}

impl Pipe {
    pub(crate) fn new(host: &str, place: &Place) -> Self {
        Self { host: host.to_owned(), place: place.clone(), connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Leave to carry one more; `None` if there are too many.
    pub(crate) fn permit(&self) -> Option<Piping> {
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        Some(Piping { host: self.host.clone(), place: self.place.clone(), _permit: permit })
    }
}

impl Piping {
    /// Copies both ways until either end closes; a push's deadline ends it at the latest.
    pub(crate) fn carry(self, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        tokio::spawn(async move {
            let Self { host, place, _permit } = self;
            let connecting = TcpStream::connect((place.host.as_str(), place.port));
            let mut registry = match tokio::time::timeout(limits::REGISTRY, connecting).await {
                Ok(Ok(registry)) => registry,
                Ok(Err(error)) => {
                    tracing::warn!(host, %place, %error, "the registry does not answer");
                    return;
                }
                Err(_) => {
                    tracing::warn!(host, %place, "the registry does not answer in time");
                    return;
                }
            };
            let copying = tokio::io::copy_bidirectional(&mut stream, &mut registry);
            match tokio::time::timeout(limits::PUSH, copying).await {
                Ok(Ok((sent, received))) => tracing::trace!(host, sent, received, "a connection to the registry ended"),
                Ok(Err(error)) => tracing::debug!(host, %error, "a connection to the registry broke"),
                Err(_) => tracing::warn!(host, "a connection to the registry was open for too long"),
            }
        });
    }
}
