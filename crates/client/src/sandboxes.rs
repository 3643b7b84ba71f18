//! Calls about sandboxes.

use crate::{
    call::{Call, Wait},
    client::{ByteStream, Client},
    error::Error,
    wire::{
        BatchPlaced, BatchPlacements, CheckSandboxes, CommandResult, CreateSandbox, CreateTerminal, ExecRequest,
        ExecResult, Explanation, ExtendSandbox, Page, Problem, Provided, RunCommands, RunningSandboxes, Sandbox,
        SecretMap, Stats, Terminal, Tunnels, WriteEnv,
    },
};
use plimsoll_types::{Code, Phase, SandboxId};
use reqwest::StatusCode;
use std::collections::BTreeMap;

/// Which sandboxes to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxFilter {
    /// With this session.
    pub session: Option<String>,
    /// In one of these phases; all if empty.
    pub phases: Vec<Phase>,
    /// On this host, by name.
    pub host: Option<String>,
    /// With each of these labels (`key=value`).
    pub labels: Vec<String>,
    /// Terminated ones too.
    pub all: bool,
    /// At most so many; 100 if absent, 1,000 at most.
    pub limit: Option<u32>,
    /// After this one: the last page's `next`.
    pub after: Option<String>,
    /// Whatever the asked node has applied, without asking the leader.
    pub stale: bool,
}

/// Which log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with new lines as they come.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u32>,
}

impl Client {
    /// A fresh sandbox. With an idempotency key the call is repeated on other nodes if one breaks off.
    ///
    /// # Errors
    /// See [`Error`]; `session_live` if the session has a live sandbox.
    pub async fn create(
        &self,
        request: &CreateSandbox,
        wait: Wait,
        idempotency_key: Option<&str>,
    ) -> Result<Provided, Error> {
        let call = Call::post(&["v1", "sandboxes"]).repeatable(idempotency_key.is_some());
        self.json(&call.json(request).wait(wait).header("idempotency-key", idempotency_key)).await
    }

    /// Fresh sandboxes, up to 256 with one request; what became of each, in order. With an idempotency key the call is repeated on
    /// other nodes if one breaks off.
    ///
    /// # Errors
    /// See [`Error`]; nothing was made if a field of any is wrong. What happens to one alone is in its result.
    pub async fn create_many(
        &self,
        requests: &BatchPlacements,
        wait: Wait,
        idempotency_key: Option<&str>,
    ) -> Result<BatchPlaced, Error> {
        let call = Call::post(&["v1", "placements:batch"]).repeatable(idempotency_key.is_some());
        self.json(&call.json(requests).wait(wait).header("idempotency-key", idempotency_key)).await
    }

    /// The session's sandbox: the live one, or a new one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ensure(&self, request: &CreateSandbox, wait: Wait) -> Result<Provided, Error> {
        let call = Call::post(&["v1", "sandboxes:ensure"]).repeatable(request.session.is_some());
        self.json(&call.json(request).wait(wait)).await
    }

    /// Where a sandbox would go now, and why.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain(&self, request: &CreateSandbox) -> Result<Explanation, Error> {
        self.json(&Call::post(&["v1", "placements:explain"]).repeatable(true).json(request)).await
    }

    /// A sandbox to log into over SSH.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_terminal(&self, request: &CreateTerminal, wait: Wait) -> Result<Terminal, Error> {
        self.json(&Call::post(&["v1", "terminals"]).json(request).wait(wait)).await
    }

    /// One sandbox.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sandbox(&self, id: SandboxId) -> Result<Sandbox, Error> {
        self.json(&of(Call::get, id, &[])).await
    }

    /// A page of sandboxes, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sandboxes(&self, filter: &SandboxFilter) -> Result<Page<Sandbox>, Error> {
        let mut call = Call::get(&["v1", "sandboxes"])
            .query("session", filter.session.as_ref())
            .query("host", filter.host.as_ref())
            .query("all", filter.all.then_some("true"))
            .query("limit", filter.limit)
            .query("after", filter.after.as_ref())
            .query("consistency", filter.stale.then_some("stale"));
        call.query.extend(filter.phases.iter().map(|phase| ("phase", phase.to_string())));
        call.query.extend(filter.labels.iter().map(|label| ("label", label.clone())));
        self.json(&call).await
    }

    /// Takes a sandbox down. Gone already is success; so is accepted, for a call that does not wait.
    ///
    /// # Errors
    /// See [`Error`]; `timeout` if it is not gone within the wait (25 s by default). It was accepted all the same, and goes on by itself.
    pub async fn terminate(&self, id: SandboxId, wait: Wait) -> Result<(), Error> {
        let response = self.send(&of(Call::delete, id, &[]).wait(wait)).await?;
        if response.status() == StatusCode::ACCEPTED && wait != Wait::No {
            let detail =
                format!("{id} is not gone yet; it was accepted and goes on, look again with `plimsoll inspect {id}`");
            return Err(Problem::new(Code::Timeout, detail).into());
        }
        Ok(())
    }

    /// Moves a sandbox's deadline.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn extend(&self, id: SandboxId, until: &ExtendSandbox) -> Result<Sandbox, Error> {
        // A time is the same time twice; a lifetime counts from now.
        let call = of(Call::post, id, &["extend"]).repeatable(until.lifetime_s.is_none());
        self.json(&call.json(until)).await
    }

    /// Those of these ids that run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check(&self, ids: &[SandboxId]) -> Result<Vec<SandboxId>, Error> {
        let body = CheckSandboxes { ids: ids.iter().map(ToString::to_string).collect() };
        let answer: RunningSandboxes =
            self.json(&Call::post(&["v1", "sandboxes:check"]).repeatable(true).json(&body)).await?;
        Ok(answer.running)
    }

    /// Where its ports are reached now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tunnels(&self, id: SandboxId) -> Result<Tunnels, Error> {
        self.json(&of(Call::get, id, &["tunnels"])).await
    }

    /// What it uses now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stats(&self, id: SandboxId) -> Result<Stats, Error> {
        self.json(&of(Call::get, id, &["stats"])).await
    }

    /// Its main process's output.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(&self, id: SandboxId, options: LogOptions) -> Result<ByteStream, Error> {
        let call =
            of(Call::get, id, &["logs"]).query("follow", options.follow.then_some("true")).query("tail", options.tail);
        self.stream(call).await
    }

    /// Writes the platform's environment to `/tmp/.proliferate_env.json`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_env(&self, id: SandboxId, env: BTreeMap<String, String>) -> Result<(), Error> {
        self.nothing(&of(Call::put, id, &["env"]).json(&WriteEnv { env: SecretMap(env) })).await
    }

    /// Runs a command and collects its output.
    ///
    /// # Errors
    /// See [`Error`]; a command that fails is no error, its exit code says so.
    pub async fn exec(&self, id: SandboxId, request: &ExecRequest) -> Result<ExecResult, Error> {
        // The node keeps the time limit, however long it is.
        self.json(&of(Call::post, id, &["exec"]).json(request).without_timeout()).await
    }

    /// Runs commands one after another.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run_commands(&self, id: SandboxId, request: &RunCommands) -> Result<Vec<CommandResult>, Error> {
        self.json(&of(Call::post, id, &["commands"]).json(request).without_timeout()).await
    }
}

/// A call about one sandbox.
pub(crate) fn of(method: fn(&[&str]) -> Call, id: SandboxId, rest: &[&str]) -> Call {
    let id = id.to_string();
    let mut path = vec!["v1", "sandboxes", id.as_str()];
    path.extend_from_slice(rest);
    method(&path)
}
