//! Starts a process and finds out whether it really started.
//!
//! Docker answers 101 before it starts anything. If the user, the working directory or the program is wrong, the error comes as text on
//! stdout with exit code 126 or 127, as if the process had said it. What tells the two apart is the exec's pid: it is set
//! only once a process exists. Nothing is read from the stream before that is known, so no output is ever mistaken.

use crate::{
    access::Class,
    docker::{Api, Channel, Frames},
    error::{self, DockerError},
};
use bollard::{
    models::{ExecConfig, ExecInspectResponse},
    query_parameters::ResizeExecOptionsBuilder,
};
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use plimsoll_lifecycle::ports::{HostError, TtySize};
use plimsoll_types::Code;
use std::time::Duration;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};

/// Docker's error text is a line.
const MAX_TEXT: usize = 4096;
/// How long that text may take.
const TEXT_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at an exec that is starting: that takes about 40 ms.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes read at once: the largest frame Docker sends.
pub(crate) const CHUNK: usize = 32 << 10;

/// A process to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) tty: Option<TtySize>,
    pub(crate) stdin: bool,
}

pub(crate) type Reader = ReadHalf<TokioIo<Upgraded>>;
pub(crate) type Writer = WriteHalf<TokioIo<Upgraded>>;

/// A process that exists, or existed.
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) frames: Frames,
}

pub(crate) async fn start(api: &Api, class: Class, container: &str, spec: Spec) -> Result<Started, HostError> {
    crate::docker::check_name(container)?;
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(error::permanent(Code::ExecFailed, "the command is empty; give at least a program"));
    }
    let docker = api.call().await?;
    let tty = spec.tty;
    let config = ExecConfig {
        attach_stdin: Some(spec.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(tty.is_some()),
        env: Some(spec.env),
        cmd: Some(spec.argv),
        user: spec.user,
        working_dir: spec.cwd,
        ..ExecConfig::default()
    };
    let id = docker.create_exec(container, config).await.map_err(|e| refused(container, e.into()))?.id;
    let body = serde_json::json!({ "Detach": false, "Tty": tty.is_some() });
    let path = format!("/exec/{id}/start");
    let response = api
        .stream(class, |path| crate::docker::upgrade(&path, &body), &path)
        .await
        .map_err(|error| refused(container, error))?;
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| {
        error::unreachable(
            Code::DockerUnreachable,
            format!("Docker did not open the exec's stream: {}", error::chain(&e)),
        )
    })?;
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let mut started = Started { id, reader, writer, frames: Frames::new(tty.is_some()) };
    if !exists(api, &started.id).await? {
        let text = read_text(&mut started).await;
        return Err(not_started(container, &text));
    }
    if let Some(size) = tty {
        // A process that has ended already has no terminal to resize.
        if let Err(error) = resize(api, &started.id, size).await {
            tracing::debug!(container, %error, "the terminal's first size could not be set");
        }
    }
    Ok(started)
}

pub(crate) async fn inspect(api: &Api, id: &str) -> Result<ExecInspectResponse, HostError> {
    api.call().await?.inspect_exec(id).await.map_err(|e| error::docker("inspect an exec", e))
}

pub(crate) async fn resize(api: &Api, id: &str, size: TtySize) -> Result<(), HostError> {
    let options = ResizeExecOptionsBuilder::new().h(i32::from(size.rows)).w(i32::from(size.columns)).build();
    api.call().await?.resize_exec(id, options).await.map_err(|e| error::docker("resize a terminal", e))
}

/// Waits until the process exists (true) or is known never to have (false). The caller's deadline ends the wait.
async fn exists(api: &Api, id: &str) -> Result<bool, HostError> {
    loop {
        let found = inspect(api, id).await?;
        if found.pid.is_some_and(|pid| pid != 0) {
            return Ok(true);
        }
        // Before the start there is no exit code either.
        if found.running == Some(false) && found.exit_code.is_some() {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read_text(started: &mut Started) -> String {
    let mut text = Vec::new();
    let reading = async {
        let mut buffer = vec![0; MAX_TEXT];
        while text.len() < MAX_TEXT {
            match started.reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    let mut input = Bytes::copy_from_slice(&buffer[..n]);
                    while let Ok(Some((Channel::Stdout | Channel::Stderr, piece))) = started.frames.next(&mut input) {
                        text.extend_from_slice(&piece);
                    }
                }
            }
        }
    };
    // Whatever has come by then is what there is to show.
    let _ = tokio::time::timeout(TEXT_WAIT, reading).await;
    error::tidy(&String::from_utf8_lossy(&text))
}

fn not_started(container: &str, text: &str) -> HostError {
    let lower = text.to_ascii_lowercase();
    if lower.contains("is not running") || lower.contains("is paused") {
        return error::transient(Code::WrongPhase, format!("container {container} does not run: {text}"));
    }
    if lower.contains("resource temporarily unavailable") || error::is_full(text) {
        return error::transient(
            Code::ExecFailed,
            format!("the sandbox has used up its processes or memory, so nothing more starts in it: {text}"),
        );
    }
    let text = if text.is_empty() { "Docker gave no reason" } else { text };
    error::permanent(
        Code::ExecFailed,
        format!("the command could not be started: {text}; check program, working directory and user"),
    )
}

fn refused(container: &str, error: DockerError) -> HostError {
    match error {
        DockerError::Refused(refused) if refused.status == 409 => {
            error::transient(Code::WrongPhase, format!("container {container} does not run: {}", refused.message))
        }
        DockerError::Refused(refused) if refused.status == 404 => {
            error::transient(Code::NotFound, format!("there is no container {container}: {}", refused.message))
        }
        DockerError::Refused(refused) if (400..500).contains(&refused.status) => {
            error::permanent(Code::ExecFailed, format!("the command could not be started: {}", refused.message))
        }
        // Newer engines look the user up before they answer.
        DockerError::Refused(refused) if refused.message.contains("unable to find user") => {
            error::permanent(Code::ExecFailed, format!("the command could not be started: {}", refused.message))
        }
        other => error::docker("start a command", other),
    }
}
