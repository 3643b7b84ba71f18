//! How one host is reached: over SSH, or through the socket of this machine; the same for all above.

use crate::{
    door::{Door, Local},
    error, limits,
    registry::Place,
    ssh::{SshHost, SshStream},
};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Most bytes of a script's output that are kept.
pub(crate) const MAX_OUTPUT: usize = 256 << 10;
/// Connections to a local socket at once, calls and streams together; Docker has the same bound for nothing else.
const LOCAL_CONNECTIONS: usize = 96;
/// The same for polls, apart.
const LOCAL_POLLS: usize = 8;

/// What a connection is for; each class has its own limits, so that none starves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The regular measurement.
    Poll,
    /// Requests whose whole answer is read at once.
    Call,
    /// Streams somebody else reads, at their pace.
    Stream,
    /// What Docker tells of a push or a pull while it goes on: small lines, read as they come, for as long as it takes.
    Report,
}

/// What a script said.
pub(crate) struct Output {
    pub(crate) code: Option<u32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// The way to one host.
pub(crate) enum Access {
    Ssh(Box<SshHost>),
    Local(LocalHost),
}

/// The machine this node itself runs on.
pub(crate) struct LocalHost {
    socket: PathBuf,
    connections: Arc<Semaphore>,
    polls: Arc<Semaphore>,
    door: Local,
}

/// A byte stream to Docker's socket.
pub(crate) enum Io {
    Ssh(SshStream),
    Local(UnixStream, #[allow(dead_code)] OwnedSemaphorePermit),
}

impl Access {
    pub(crate) fn local(socket: &Path) -> Self {
        Self::Local(LocalHost {
            socket: socket.to_owned(),
            connections: Arc::new(Semaphore::new(LOCAL_CONNECTIONS)),
            polls: Arc::new(Semaphore::new(LOCAL_POLLS)),
            door: Local::default(),
        })
    }

    /// Opens a byte stream to Docker's socket.
    pub(crate) async fn open(&self, class: Class) -> Result<Io, HostError> {
        match self {
            Self::Ssh(host) => host.open(class).await.map(Io::Ssh),
            Self::Local(host) => host.open(class).await,
        }
    }

    /// Makes the registry reachable for the host's Docker on its own loopback address, for as long as the answer is held.
    pub(crate) async fn registry(&self, place: &Place) -> Result<Door, HostError> {
        match self {
            Self::Ssh(host) => host.forward(place).await.map(Door::Forwarded),
            Self::Local(host) => host.door.open(place).await,
        }
    }

    /// Runs a fixed script (`sh`) with positional arguments on the machine.
    pub(crate) async fn command(&self, class: Class, script: &str, args: &[&str]) -> Result<Output, HostError> {
        match self {
            Self::Ssh(host) => host.command(class, script, args).await,
            Self::Local(_) => local_command(script, args).await.map_err(|error| {
                error::transient(Code::Internal, format!("a script could not be run on this machine: {error}"))
            }),
        }
    }
}

impl LocalHost {
    async fn open(&self, class: Class) -> Result<Io, HostError> {
        let permits = match class {
            Class::Poll => &self.polls,
            Class::Call | Class::Stream | Class::Report => &self.connections,
        };
        let trouble = |why: String| {
            let socket = self.socket.display();
            let text = format!(
                "Docker's socket {socket} does not answer: {why}; check that Docker runs and that you may use it"
            );
            error::unreachable(Code::DockerUnreachable, text)
        };
        let opening = async {
            let permit = Arc::clone(permits).acquire_owned().await.map_err(|e| trouble(e.to_string()))?;
            let stream = UnixStream::connect(&self.socket).await.map_err(|e| trouble(e.to_string()))?;
            Ok(Io::Local(stream, permit))
        };
        match tokio::time::timeout(limits::OPEN, opening).await {
            Ok(io) => io,
            Err(_) => Err(trouble("too many connections are open".to_owned())),
        }
    }
}

async fn local_command(script: &str, args: &[&str]) -> std::io::Result<Output> {
    let mut child = tokio::process::Command::new("sh")
        .args(["-s", "--"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<_>, buffer| read_all(pipe, buffer);
    let (first, second) = tokio::join!(read(out.map(Pipe::Out), &mut stdout), read(err.map(Pipe::Err), &mut stderr));
    first?;
    second?;
    let code = child.wait().await?.code().and_then(|code| u32::try_from(code).ok());
    Ok(Output { code, stdout, stderr })
}

enum Pipe {
    Out(tokio::process::ChildStdout),
    Err(tokio::process::ChildStderr),
}

async fn read_all(pipe: Option<Pipe>, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let limit = MAX_OUTPUT as u64;
    match pipe {
        Some(Pipe::Out(pipe)) => pipe.take(limit).read_to_end(buffer).await.map(|_| ()),
        Some(Pipe::Err(pipe)) => pipe.take(limit).read_to_end(buffer).await.map(|_| ()),
        None => Ok(()),
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Ssh(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Local(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match &mut *self {
            Self::Ssh(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Local(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Ssh(stream) => Pin::new(stream).poll_flush(cx),
            Self::Local(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Ssh(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Local(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
