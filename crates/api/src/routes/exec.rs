//! Commands whose output is collected.

use crate::{
    auth::Caller,
    convert::{exec, rules::Rules},
    error::{Answer, ApiError},
    extract::{Id, Json},
    limits,
    options::Api,
};
use axum::extract::State;
use bytes::Bytes;
use futures_util::StreamExt;
use plimsoll_client::wire::{self, CommandLine, CommandResult, Encoding, ExecResult};
use plimsoll_engine::Scope;
use plimsoll_lifecycle::ports::{ExecEvent, ExecRequest, ExecSession};
use plimsoll_types::{Code, SandboxId};
use std::{convert::Infallible, time::Instant};

/// Run a command and collect its output.
///
/// The time limit kills it with its children. Output past `max_output` is read and dropped.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec", tag = "exec", operation_id = "execCommand", request_body = wire::ExecRequest,
    params(("id" = String, Path)), responses((status = 200, description = "It ended, well or not", body = wire::ExecResult)),
)]
pub(crate) async fn run(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<wire::ExecRequest>,
) -> Answer<axum::Json<ExecResult>> {
    let (request, stdin, keep) = exec::collected(body)?;
    collect(&api, &caller.scope(), id, request, stdin, keep).await.map(axum::Json)
}

/// Run commands one after another.
///
/// Each has the time limit for itself. One that cannot be started carries its problem.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/commands", tag = "exec", operation_id = "testServiceCommands", request_body = wire::RunCommands,
    params(("id" = String, Path)), responses((status = 200, body = Vec<wire::CommandResult>)),
)]
pub(crate) async fn run_commands(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<wire::RunCommands>,
) -> Answer<axum::Json<Vec<CommandResult>>> {
    let mut rules = Rules::default();
    let most = limits::MAX_COMMANDS;
    rules.require((1..=most).contains(&body.commands.len()), "/commands", format!("from 1 to {most} commands"));
    for (index, command) in body.commands.iter().enumerate() {
        rules.argv(&format!("/commands/{index}/argv"), &command.argv);
        rules.env(&format!("/commands/{index}/env"), &command.env.0);
        if let Some(cwd) = &command.cwd {
            rules.path(&format!("/commands/{index}/cwd"), cwd);
        }
    }
    let limit = exec::time_limit(&mut rules, body.time_limit_s);
    let keep = body.max_output.unwrap_or(limits::COMMAND_OUTPUT);
    rules.require(
        keep <= limits::MAX_COMMAND_OUTPUT,
        "/max_output",
        format!("at most {} bytes", limits::MAX_COMMAND_OUTPUT),
    );
    rules.end()?;
    let mut results = Vec::new();
    for CommandLine { name, argv, cwd, env } in body.commands {
        let request = ExecRequest { argv, cwd, env: env.0, time_limit: Some(limit), ..ExecRequest::default() };
        let (result, problem) = match collect(&api, &caller.scope(), id, request, None, keep).await {
            Ok(result) => (Some(result), None),
            // Only this command is wrong; anything else concerns them all.
            Err(error) if error.code() == Code::ExecFailed => (None, Some(*error.0)),
            Err(error) => return Err(error),
        };
        let failed = result.as_ref().is_none_or(|result| result.exit_code != 0);
        results.push(CommandResult { name, result, problem });
        if failed && body.stop_on_failure {
            break;
        }
    }
    Ok(axum::Json(results))
}

/// Runs a command to its end. Dropping this future kills it: a caller that goes away leaves nothing behind.
async fn collect(
    api: &Api,
    scope: &Scope,
    id: SandboxId,
    request: ExecRequest,
    stdin: Option<Vec<u8>>,
    keep: u64,
) -> Answer<ExecResult> {
    let started = Instant::now();
    let limit = request.time_limit.unwrap_or(limits::MAX_EXEC_TIME) + limits::EXEC_GRACE;
    let run = async {
        let ExecSession { mut events, mut control } = api.options.provider.exec(scope, id, request).await?;
        let feed = async {
            if let Some(stdin) = stdin {
                // A process that ends without reading its stdin is no error: its exit code says how it went.
                let _ = control.write(Bytes::from(stdin)).await;
                let _ = control.close_stdin().await;
            }
            // The way in stays open until the process ends: dropping it may kill the process.
            std::future::pending::<Infallible>().await
        };
        let read = async {
            let (mut stdout, mut stderr) = (Kept::new(keep), Kept::new(keep));
            while let Some(event) = events.next().await {
                match event? {
                    ExecEvent::Stdout(data) => stdout.push(&data),
                    ExecEvent::Stderr(data) => stderr.push(&data),
                    ExecEvent::Exit { code, timed_out } => return Ok((stdout, stderr, code, timed_out)),
                }
            }
            Err(ApiError::new(
                Code::HostUnavailable,
                "the host broke off before the command ended; it may still run until its time limit",
            ))
        };
        tokio::select! {
            ended = read => ended,
            never = feed => match never {},
        }
    };
    let overdue = |_| ApiError::new(Code::Timeout, "the host did not say how the command ended within its time limit");
    let (stdout, stderr, exit_code, timed_out) = tokio::time::timeout(limit, run).await.map_err(overdue)??;
    let encoding = Encoding::fitting(&[&stdout.bytes, &stderr.bytes]);
    Ok(ExecResult {
        exit_code,
        stdout: encoding.encode(&stdout.bytes),
        stderr: encoding.encode(&stderr.bytes),
        encoding,
        truncated: stdout.truncated || stderr.truncated,
        timed_out,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The first bytes of an output.
struct Kept {
    bytes: Vec<u8>,
    most: usize,
    truncated: bool,
}

impl Kept {
    fn new(most: u64) -> Self {
        Self { bytes: Vec::new(), most: usize::try_from(most).unwrap_or(usize::MAX), truncated: false }
    }

    fn push(&mut self, data: &[u8]) {
        let room = self.most.saturating_sub(self.bytes.len()).min(data.len());
        self.bytes.extend(data.iter().take(room));
        if room < data.len() && !self.truncated {
            self.truncated = true;
            self.whole_characters();
        }
    }

    /// Text that was cut inside a character would no longer be text.
    fn whole_characters(&mut self) {
        if let Err(error) = std::str::from_utf8(&self.bytes)
            && error.error_len().is_none()
        {
            self.bytes.truncate(error.valid_up_to());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_between_characters_and_says_so() {
        let mut kept = Kept::new(4);
        kept.push("aä".as_bytes());
        assert!(!kept.truncated);
        kept.push("ä".as_bytes());
        assert_eq!((kept.bytes.as_slice(), kept.truncated), ("aä".as_bytes(), true));
    }
}
