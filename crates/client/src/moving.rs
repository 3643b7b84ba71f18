//! Calls that hold a sandbox still, put it away, bring it back and move it.

use crate::{
    call::{Call, Wait},
    client::Client,
    error::Error,
    sandboxes::of,
    wire::{Awake, MigrateSandbox, Operation, Paused, Provided, ResumeSandbox, Sandbox},
};
use plimsoll_types::{OperationId, SandboxId};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

/// What a call that may not wait is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted<T> {
    /// It is done.
    Done(T),
    /// It is under way; [`Client::operation`] tells how it ends.
    UnderWay(Box<Operation>),
}

impl<T> Accepted<T> {
    /// The result, if it is done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(result) => Some(result),
            Self::UnderWay(_) => None,
        }
    }
}

impl Client {
    /// Puts a running sandbox away: its files are kept in a snapshot, its CPU, memory and place are freed. Paused already is success.
    ///
    /// # Errors
    /// See [`Error`]; `timeout` if it takes longer than the wait: it goes on by itself.
    pub async fn pause(&self, id: SandboxId, wait: Wait) -> Result<Accepted<Paused>, Error> {
        // A sandbox is paused once, however often it is asked for.
        self.accepted(&of(Call::post, id, &["pause"]).repeatable(true).wait(wait)).await
    }

    /// Brings a paused sandbox back, by the same id, on any host.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self, id: SandboxId, how: &ResumeSandbox, wait: Wait) -> Result<Provided, Error> {
        self.json(&of(Call::post, id, &["resume"]).json(how).wait(wait)).await
    }

    /// Holds a running sandbox still in memory, within milliseconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn freeze(&self, id: SandboxId) -> Result<Sandbox, Error> {
        self.json(&of(Call::post, id, &["freeze"]).repeatable(true)).await
    }

    /// Lets a frozen sandbox go on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn thaw(&self, id: SandboxId) -> Result<Sandbox, Error> {
        self.json(&of(Call::post, id, &["thaw"]).repeatable(true)).await
    }

    /// Moves a sandbox to another host: the one named, or the one that fits best. `moved` says how long it did not run and what was sent.
    ///
    /// # Errors
    /// See [`Error`]; whatever it is, the sandbox is where it was, as it was.
    pub async fn migrate(&self, id: SandboxId, to: Option<&str>, wait: Wait) -> Result<Accepted<Sandbox>, Error> {
        let body = MigrateSandbox { to: to.map(str::to_owned) };
        self.accepted(&of(Call::post, id, &["migrate"]).json(&body).wait(wait)).await
    }

    /// What keeps a sandbox awake.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn awake(&self, id: SandboxId) -> Result<Awake, Error> {
        self.json(&of(Call::get, id, &["awake"])).await
    }

    /// How an operation stands.
    ///
    /// # Errors
    /// See [`Error`]; `not_found` once it is no longer known how it ended.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, Error> {
        self.json(&Call::get(&["v1", "operations", &id.to_string()])).await
    }

    /// Sends a call that is answered with its result, or with 202 and an operation.
    pub(crate) async fn accepted<T: DeserializeOwned>(&self, call: &Call) -> Result<Accepted<T>, Error> {
        let response = self.send(call).await?;
        let under_way = response.status() == StatusCode::ACCEPTED;
        if under_way {
            Ok(Accepted::UnderWay(Box::new(self.read(call, response).await?)))
        } else {
            Ok(Accepted::Done(self.read(call, response).await?))
        }
    }
}
