//! Content that streams: files out, and folders as tar both ways.
//!
//! Nothing is held whole: a slow reader slows the process inside down.

use super::script;
use crate::{docker::Api, error, exec, limits};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::ports::{ByteStream, ExecControl, ExecEvent, ExecRequest, ExecSession, HostError, exec::feed};
use plimsoll_types::Code;
use std::sync::Arc;

/// Most of a failed script's stderr that is kept.
const MAX_STDERR: usize = 4096;

/// Reads a regular file.
pub(crate) async fn read(api: &Arc<Api>, container: &str, path: &str) -> Result<ByteStream, HostError> {
    let path = script::check(path)?;
    output(api, container, path, script::READ).await
}

/// A folder, or one file, as an uncompressed tar.
pub(crate) async fn export_tar(api: &Arc<Api>, container: &str, path: &str) -> Result<ByteStream, HostError> {
    let path = script::check(path)?;
    output(api, container, path, script::EXPORT).await
}

/// Unpacks an uncompressed tar into a folder.
pub(crate) async fn import_tar(api: &Arc<Api>, container: &str, path: &str, body: ByteStream) -> Result<(), HostError> {
    let path = script::check(path)?;
    input(api, container, None, path, (script::IMPORT, &[path]), body).await
}

/// Starts a script and answers with its stdout, once it is known that there is some or that it ended well.
async fn output(api: &Arc<Api>, container: &str, path: &str, script: &str) -> Result<ByteStream, HostError> {
    let mut reading = Reading {
        session: open(api, container, None, path, (script, &[path]), false).await?,
        path: path.to_owned(),
        stderr: Vec::new(),
        done: false,
    };
    let first = reading.next().await?;
    let rest =
        stream::try_unfold(reading, |mut reading| async { Ok(reading.next().await?.map(|piece| (piece, reading))) });
    Ok(match first {
        Some(first) => Box::pin(stream::iter([Ok(first)]).chain(rest)),
        None => Box::pin(stream::empty()),
    })
}

struct Reading {
    session: ExecSession,
    path: String,
    stderr: Vec<u8>,
    done: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, HostError> {
        if self.done {
            return Ok(None);
        }
        while let Some(event) = self.session.events.next().await {
            match event? {
                ExecEvent::Stdout(piece) => return Ok(Some(piece)),
                ExecEvent::Stderr(piece) => keep(&mut self.stderr, &piece),
                ExecEvent::Exit { code, timed_out } => {
                    self.done = true;
                    return ended(&self.path, code, timed_out, &self.stderr).map(|()| None);
                }
            }
        }
        Err(cut(&self.path))
    }
}

/// Starts a script, feeds it, and waits until it has ended well. If the body fails, the script is killed.
pub(crate) async fn input(
    api: &Arc<Api>,
    container: &str,
    user: Option<&str>,
    path: &str,
    script: (&str, &[&str]),
    body: ByteStream,
) -> Result<(), HostError> {
    let ExecSession { mut events, mut control } = open(api, container, user, path, script, true).await?;
    let mut stderr = Vec::new();
    let listen = async {
        while let Some(event) = events.next().await {
            match event? {
                ExecEvent::Stdout(_) => {}
                ExecEvent::Stderr(piece) => keep(&mut stderr, &piece),
                ExecEvent::Exit { code, timed_out } => return ended(path, code, timed_out, &stderr),
            }
        }
        Err(cut(path))
    };
    let mut listen = std::pin::pin!(listen);
    let fed = tokio::select! {
        fed = feed(control.as_mut(), body) => fed,
        // It ended before it had everything: either it failed, or it is a tar whose end came early, which is fine.
        ended = &mut listen => return ended,
    };
    match fed {
        Ok(()) => listen.await,
        Err(error) => Err(abandon(control.as_mut(), error, listen).await),
    }
}

/// The body or the way to the process broke: what the process itself says about it goes first.
async fn abandon(
    control: &mut dyn ExecControl,
    error: HostError,
    listen: std::pin::Pin<&mut (impl Future<Output = Result<(), HostError>> + Send)>,
) -> HostError {
    if error.code == Code::ExecFailed
        && let Ok(Err(said)) = tokio::time::timeout(limits::EXEC_START, listen).await
    {
        return said;
    }
    // Killed before its stdin closes, so that it does not take a part for the whole.
    if let Err(failed) = control.kill().await {
        tracing::debug!(error = %failed, "a file operation could not be stopped");
    }
    error
}

async fn open(
    api: &Arc<Api>,
    container: &str,
    user: Option<&str>,
    path: &str,
    (script, args): (&str, &[&str]),
    stdin: bool,
) -> Result<ExecSession, HostError> {
    let request = ExecRequest {
        argv: script::argv(script, args),
        user: user.map(str::to_owned),
        stdin,
        time_limit: Some(limits::FILE_STREAM),
        ..ExecRequest::default()
    };
    exec::open(api, container, request).await.map_err(|error| script::not_run(path, error))
}

fn keep(stderr: &mut Vec<u8>, piece: &[u8]) {
    let room = MAX_STDERR.saturating_sub(stderr.len()).min(piece.len());
    stderr.extend_from_slice(&piece[..room]);
}

fn ended(path: &str, code: i64, timed_out: bool, stderr: &[u8]) -> Result<(), HostError> {
    match code {
        _ if timed_out => Err(error::transient(Code::Timeout, format!("{path:?}: the operation took too long"))),
        0 => Ok(()),
        code => Err(script::failed(path, code, stderr)),
    }
}

fn cut(path: &str) -> HostError {
    error::unreachable(Code::DockerUnreachable, format!("{path:?}: the connection to the sandbox ended early"))
}
