//! The exec port: a process inside a running sandbox, with streams both ways.

use super::host::{ByteStream, HostError};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use std::{collections::BTreeMap, pin::Pin, time::Duration};

/// A process to start in a container. No shell is involved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments, at least one.
    pub argv: Vec<String>,
    /// Added to the container's environment. Never logged.
    pub env: BTreeMap<String, String>,
    /// Where it starts; the container's working directory if `None`.
    pub cwd: Option<String>,
    /// As whom: `name`, `uid` or `uid:gid`; the container's user if `None`.
    pub user: Option<String>,
    /// A terminal of this size; stdout and stderr are one then.
    pub tty: Option<TtySize>,
    /// Whether its stdin is connected.
    pub stdin: bool,
    /// When the process and all its children are killed.
    pub time_limit: Option<Duration>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtySize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes on its stdout (or its terminal).
    Stdout(Bytes),
    /// Bytes on its stderr.
    Stderr(Bytes),
    /// It ended; the last event.
    Exit {
        /// Its exit code; 137 for a kill.
        code: i64,
        /// Whether the time limit killed it.
        timed_out: bool,
    },
}

/// A process that was started. Dropping both halves kills the process and its children.
pub struct ExecSession {
    /// What it says. Reading slowly slows the process down; nothing is buffered without bound.
    pub events: Pin<Box<dyn Stream<Item = Result<ExecEvent, HostError>> + Send>>,
    /// What can be told to it.
    pub control: Box<dyn ExecControl>,
}

/// The way into a process.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Writes to its stdin; waits while the process does not read.
    ///
    /// # Errors
    /// When the process has ended or the host is gone.
    async fn write(&mut self, data: Bytes) -> Result<(), HostError>;

    /// Ends its stdin.
    ///
    /// # Errors
    /// When the host is gone.
    async fn close_stdin(&mut self) -> Result<(), HostError>;

    /// Tells its terminal a new size.
    ///
    /// # Errors
    /// When it has no terminal or the host is gone.
    async fn resize(&mut self, size: TtySize) -> Result<(), HostError>;

    /// Kills it and its children.
    ///
    /// # Errors
    /// When the host is gone.
    async fn kill(&mut self) -> Result<(), HostError>;
}

/// Feeds a stream into a process's stdin and ends it.
///
/// # Errors
/// What the stream or the process reports.
pub async fn feed(control: &mut dyn ExecControl, mut body: ByteStream) -> Result<(), HostError> {
    while let Some(chunk) = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await {
        control.write(chunk?).await?;
    }
    control.close_stdin().await
}
