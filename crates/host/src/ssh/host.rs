//! A host over SSH: byte streams to its Docker socket, and fixed scripts, within the limits of sshd.

use super::{
    command,
    forward::{Forward, Forwarded},
    link::Link,
    login::{Connection, Login},
    pool::{Lease, Pool},
    shell::Shell,
};
use crate::{
    access::{Class, Output},
    error, limits,
    registry::Place,
};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use russh::{ChannelOpenFailure, ChannelStream, client::Msg};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};

/// Docker's socket on every host.
const SOCKET: &str = "/var/run/docker.sock";
/// Connections to Docker's socket for calls. OpenSSH counts only session channels against MaxSessions (`session_new` in its
/// session.c), not `direct-streamlocal` ones, so this is our own bound: more at once only queue inside Docker.
const CALL_CHANNELS: usize = 16;
/// The same for reports of pushes and pulls, apart, because they take minutes: a few operations at once on a host, and moves to it.
const REPORT_CHANNELS: usize = 16;
/// The same for polls, apart, so that no amount of calls keeps a host from being seen.
const POLL_CHANNELS: usize = 8;
pub(crate) struct SshHost {
    login: Arc<Login>,
    link: Link,
    pool: Arc<Pool>,
    forward: Forward,
    call_channels: Arc<Semaphore>,
    report_channels: Arc<Semaphore>,
    poll_channels: Arc<Semaphore>,
    /// The one session for calls' scripts, open between them: MaxSessions is 10 by default and often hardened to 2; one more is the poll's own.
    shell: Mutex<Option<Shell>>,
    poll_sessions: Semaphore,
}

/// A byte stream to Docker's socket through SSH.
pub(crate) struct SshStream {
    // Dropped first: the channel is closed before its connection serves the next stream.
    stream: ChannelStream<Msg>,
    _held: Held,
}

/// What a stream holds while it lives; only ever dropped.
#[allow(dead_code)]
enum Held {
    Shared(Arc<Connection>, OwnedSemaphorePermit),
    Own(Lease),
}

impl SshHost {
    pub(crate) fn new(login: Login) -> Self {
        let login = Arc::new(login);
        Self {
            link: Link::new(Arc::clone(&login)),
            pool: Pool::new(Arc::clone(&login)),
            forward: Forward::new(Arc::clone(&login)),
            call_channels: Arc::new(Semaphore::new(CALL_CHANNELS)),
            report_channels: Arc::new(Semaphore::new(REPORT_CHANNELS)),
            poll_channels: Arc::new(Semaphore::new(POLL_CHANNELS)),
            shell: Mutex::new(None),
            poll_sessions: Semaphore::new(1),
            login,
        }
    }

    /// Opens a byte stream to Docker's socket.
    pub(crate) async fn open(&self, class: Class) -> Result<SshStream, HostError> {
        let channels = match class {
            Class::Poll => &self.poll_channels,
            Class::Call => &self.call_channels,
            Class::Report => &self.report_channels,
            Class::Stream => {
                // First the shared connection: it knows whether the host answers, and backs off if not.
                self.link.get().await?;
                let lease = self.pool.lease().await?;
                let stream = self.streamlocal(&lease.connection).await?;
                return Ok(SshStream { stream, _held: Held::Own(lease) });
            }
        };
        let permit = Arc::clone(channels).acquire_owned().await.map_err(|_| self.lost("it is shutting down"))?;
        let connection = self.link.get().await?;
        let stream = self.streamlocal(&connection).await?;
        Ok(SshStream { stream, _held: Held::Shared(connection, permit) })
    }

    /// Makes the registry reachable from the host, for as long as the answer is held.
    pub(crate) async fn forward(&self, place: &Place) -> Result<Arc<Forwarded>, HostError> {
        // First the shared connection: it knows whether the host answers, and backs off if not.
        self.link.get().await?;
        self.forward.open(place).await
    }

    /// Runs a fixed script on the machine. One of a call's may be run twice if the connection breaks under it.
    pub(crate) async fn command(&self, class: Class, script: &str, args: &[&str]) -> Result<Output, HostError> {
        let ran = match class {
            Class::Poll => {
                let _permit = self.poll_sessions.acquire().await.map_err(|_| self.lost("it is shutting down"))?;
                let connection = self.link.get().await?;
                command::run(&connection.handle, script, args).await
            }
            Class::Call | Class::Stream | Class::Report => self.tell(script, args).await?,
        };
        ran.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(_) | russh::Error::RequestDenied => error::this_host(
                Code::SshDenied,
                format!(
                    "sshd on host {} allows no session for user {}: raise MaxSessions, and allow the user a shell",
                    self.login.name, self.login.user
                ),
            ),
            error => self.lost(&error::chain(&error)),
        })
    }

    /// Tells the open shell a script, or one that is opened for it.
    async fn tell(&self, script: &str, args: &[&str]) -> Result<Result<Output, russh::Error>, HostError> {
        let mut kept = self.shell.lock().await;
        let connection = self.link.get().await?;
        // Taken out until it has answered: whoever gives up waiting leaves no half-read shell behind.
        if let Some(mut shell) = kept.take().filter(|shell| shell.is_of(&connection))
            && let Ok(Some(output)) = shell.run(script, args).await
        {
            *kept = Some(shell);
            return Ok(Ok(output));
        }
        let mut shell = match Shell::open(connection).await {
            Ok(shell) => shell,
            Err(error) => return Ok(Err(error)),
        };
        match shell.run(script, args).await {
            Ok(Some(output)) => {
                *kept = Some(shell);
                Ok(Ok(output))
            }
            // A user without a shell: its login program says so and ends.
            Ok(None) => {
                Ok(Ok(Output { code: None, stdout: Vec::new(), stderr: b"the login user has no shell".to_vec() }))
            }
            Err(error) => Ok(Err(russh::Error::IO(error))),
        }
    }

    async fn streamlocal(&self, connection: &Connection) -> Result<ChannelStream<Msg>, HostError> {
        let opening = connection.handle.channel_open_direct_streamlocal(SOCKET);
        let name = &self.login.name;
        match tokio::time::timeout(limits::OPEN, opening).await {
            Ok(Ok(channel)) => Ok(channel.into_stream()),
            Ok(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited))) => {
                Err(error::this_host(
                    Code::DockerUnreachable,
                    format!(
                        "sshd on host {name} forbids forwarding to {SOCKET}: set `AllowStreamLocalForwarding yes` (and no \
                     `DisableForwarding`) in its sshd_config"
                    ),
                ))
            }
            Ok(Err(russh::Error::ChannelOpenFailure(_))) => Err(error::unreachable(
                Code::DockerUnreachable,
                format!(
                    "SSH to host {name} works but {SOCKET} does not answer: check that Docker runs there and that user {} is in \
                     group docker",
                    self.login.user
                ),
            )),
            Ok(Err(error)) => Err(self.lost(&error::chain(&error))),
            Err(_) => Err(self.lost("it did not open a channel in time")),
        }
    }

    fn lost(&self, why: &str) -> HostError {
        let text =
            format!("the SSH connection to host {} failed: {why}; it is opened again on the next try", self.login.name);
        error::unreachable(Code::SshUnreachable, text)
    }
}

impl AsyncRead for SshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
