//! Runs one of our own small commands in a container to its end.

use super::{
    kill::{self, Target, Unheard},
    start::{self, CHUNK, Spec},
};
use crate::{
    access::Class,
    docker::{Api, Channel},
    error,
};
use bytes::Bytes;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Most of stderr that is kept.
const MAX_STDERR: usize = 8 << 10;
/// Between two looks at an exec whose output has ended but whose code is not known yet.
const LOOK: Duration = Duration::from_millis(10);

/// How it ended.
pub(crate) struct Finished {
    pub(crate) code: i64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a command as [`plain`] does; if nobody waits for its end any more, it is killed.
pub(crate) async fn run(
    api: &Arc<Api>,
    container: &str,
    mut spec: Spec,
    stdin: Option<&[u8]>,
    max_stdout: usize,
) -> Result<Finished, HostError> {
    let marker = kill::marker();
    spec.env.push(kill::entry(&marker));
    let target =
        Target { api: Arc::clone(api), container: container.to_owned(), user: spec.user.clone(), marker, exec: None };
    let unheard = Unheard::new(target);
    let result = plain(api, container, spec, stdin, max_stdout).await;
    match &result {
        Ok(_) => unheard.settled(),
        Err(error) if error.code != TOO_MUCH && kill::never_began(error) => unheard.settled(),
        Err(_) => drop(unheard),
    }
    result
}

/// The code of a command that printed too much: it runs on.
const TOO_MUCH: Code = Code::BodyTooLarge;

/// Runs a command with this on its stdin; more than `max_stdout` bytes of output are an error. Bounded by the caller's deadline.
pub(crate) async fn plain(
    api: &Api,
    container: &str,
    mut spec: Spec,
    stdin: Option<&[u8]>,
    max_stdout: usize,
) -> Result<Finished, HostError> {
    spec.stdin = stdin.is_some();
    let start::Started { id, mut reader, mut writer, mut frames } =
        start::start(api, Class::Call, container, spec).await?;
    let broke = |why: String| {
        error::unreachable(Code::DockerUnreachable, format!("the connection to a command in {container} broke: {why}"))
    };
    let write = async {
        if let Some(stdin) = stdin {
            // It may end without reading; its exit code says what that means.
            if writer.write_all(stdin).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        }
        Ok::<(), HostError>(())
    };
    let read = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = reader.read(&mut buffer).await.map_err(|e| broke(e.to_string()))?;
            if n == 0 {
                return Ok((stdout, stderr));
            }
            let mut input = Bytes::copy_from_slice(&buffer[..n]);
            while let Some((channel, piece)) = frames.next(&mut input).map_err(|e| broke(e.to_string()))? {
                match channel {
                    Channel::Stdout if stdout.len() + piece.len() > max_stdout => {
                        let text = format!("it printed more than {max_stdout} bytes");
                        return Err(error::permanent(TOO_MUCH, text));
                    }
                    Channel::Stdout => stdout.extend_from_slice(&piece),
                    Channel::Stderr => {
                        let room = MAX_STDERR.saturating_sub(stderr.len()).min(piece.len());
                        stderr.extend_from_slice(&piece[..room]);
                    }
                }
            }
        }
    };
    let ((), (stdout, stderr)) = tokio::try_join!(write, read)?;
    Ok(Finished { code: code(api, &id).await?, stdout, stderr })
}

/// The exit code of a process whose output has ended.
pub(crate) async fn code(api: &Api, id: &str) -> Result<i64, HostError> {
    loop {
        let found = start::inspect(api, id).await?;
        if found.running == Some(false)
            && let Some(code) = found.exit_code
        {
            return Ok(code);
        }
        tokio::time::sleep(LOOK).await;
    }
}
