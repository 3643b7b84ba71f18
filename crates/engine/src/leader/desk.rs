//! The way from anywhere on this node to its leader loops, open while this node leads.

use super::{drainer, idle, rebalance, stillness};
use crate::{
    Error,
    node::Node,
    questions::{Answer, PlaceAnswer, PlaceWish, Question, Read, WireExplained, decode, encode},
};
use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::ports::LeaderHandler;
use plimsoll_types::{
    Code, Generation, HostId, MeasuredLoad, OperationId, SandboxId, SandboxSpec, SnapshotId, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument as _, Span};

/// How long a question waits for a leader that was just elected to confirm itself.
const OPENING: Duration = Duration::from_secs(5);

/// What the placer is asked. It is the only one to choose hosts, so that no two choices oversell one.
pub(crate) enum Ask {
    /// Record a new sandbox.
    Place(Box<PlaceWish>, oneshot::Sender<Result<PlaceAnswer, Error>>),
    /// Give an incarnation that could not start another host.
    Move(MoveWish, oneshot::Sender<Result<(), Error>>),
    /// Give a paused sandbox a host.
    Resume(ResumeWish, oneshot::Sender<Result<HostId, Error>>),
    /// Give a sandbox whose host is lost another one.
    Restore(RestoreWish, oneshot::Sender<Result<HostId, Error>>),
    /// Choose where a running sandbox moves to, and begin the move.
    Migrate(MigrateWish, oneshot::Sender<Result<HostId, Error>>),
    /// Say where a sandbox that exists would go.
    ExplainMove(MoveQuery, oneshot::Sender<Result<WireExplained, Error>>),
    /// Say where something would go.
    Explain(TenantId, Arc<SandboxSpec>, oneshot::Sender<Result<WireExplained, Error>>),
    /// Say what was measured.
    Loads(oneshot::Sender<BTreeMap<HostId, MeasuredLoad>>),
}

/// An incarnation that is to leave its host.
pub(crate) struct MoveWish {
    pub(crate) sandbox: SandboxId,
    pub(crate) generation: Generation,
    /// Hosts it is not to go to.
    pub(crate) avoid: Vec<HostId>,
}

/// A paused sandbox that is to run again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResumeWish {
    pub(crate) sandbox: SandboxId,
    /// Only there, if given.
    pub(crate) to: Option<HostId>,
    /// Its deadline from now on, if it changes.
    pub(crate) deadline: Option<Timestamp>,
}

/// A sandbox on a lost host that is to begin again elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RestoreWish {
    pub(crate) sandbox: SandboxId,
    pub(crate) snapshot: SnapshotId,
    /// The last sign of life of its host.
    pub(crate) last_seen: Timestamp,
}

/// A running sandbox that is to move. The asking node chose the ids, so that asking again after a lost answer begins nothing twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MigrateWish {
    pub(crate) sandbox: SandboxId,
    pub(crate) generation: Generation,
    pub(crate) operation: OperationId,
    pub(crate) snapshot: SnapshotId,
    /// Only there, if given.
    pub(crate) to: Option<HostId>,
}

/// A sandbox that may move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveQuery {
    pub(crate) sandbox: SandboxId,
    /// Only there, if given.
    pub(crate) to: Option<HostId>,
}

type Slot = Option<mpsc::Sender<Ask>>;

/// Where to ask.
pub(crate) struct Desk(watch::Sender<Slot>);

/// Keeps the desk open; dropping it closes it.
pub(crate) struct Open<'a>(&'a Desk);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn open(&self, sender: mpsc::Sender<Ask>) -> Open<'_> {
        self.0.send_replace(Some(sender));
        Open(self)
    }

    async fn slot(&self) -> Result<mpsc::Sender<Ask>, Error> {
        let mut slot = self.0.subscribe();
        let opened = tokio::time::timeout(OPENING, slot.wait_for(Option::is_some)).await;
        opened.ok().and_then(Result::ok).and_then(|slot| slot.clone()).ok_or_else(not_leading)
    }

    async fn answer(&self, node: &Node, question: Question) -> Result<Answer, Error> {
        let slot = self.slot().await?;
        match question {
            Question::Resume(wish) => ask(&slot, |reply| Ask::Resume(wish, reply)).await?.map(Answer::Host),
            Question::Migrate(wish) => {
                let (sandbox, operation) = (wish.sandbox, wish.operation);
                let begun = ask(&slot, |reply| Ask::Migrate(wish, reply)).await?;
                begun.inspect(|to| tracing::info!(%sandbox, %operation, %to, "a move begins")).map(Answer::Host)
            }
            Question::ExplainMove(query) => {
                ask(&slot, |reply| Ask::ExplainMove(query, reply)).await?.map(Answer::Explained)
            }
            Question::Freeze { sandbox, generation, frozen } => {
                stillness::set(node, sandbox, generation, frozen).await.map(|()| Answer::Noted)
            }
            Question::Awake(sandbox) => idle::awake(node, sandbox).map(Answer::Awake),
            Question::Touch(touched) => idle::touch(node, &touched).map(|()| Answer::Noted),
            Question::DrainPlan(host) => drainer::left(node, &slot, host).await.map(Answer::Left),
            Question::Rebalance { dry_run, spread_permille } => {
                rebalance::rebalance(node, &slot, dry_run, spread_permille).await.map(Answer::Moves)
            }
            Question::Place(wish) => {
                let (sandbox, operation) = (wish.sandbox, wish.operation);
                let placed = ask(&slot, |reply| Ask::Place(wish, reply)).await?;
                placed.inspect(|placed| tell_placed(sandbox, operation, placed)).map(Answer::Placed)
            }
            Question::Explain { tenant, spec } => {
                ask(&slot, |reply| Ask::Explain(tenant, spec, reply)).await?.map(Answer::Explained)
            }
            Question::Loads => ask(&slot, Ask::Loads).await.map(Answer::Loads),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(None);
    }
}

/// Joins a request, which the span has, to the sandbox and the operation that everything later is logged under. It is told at info,
/// because afterwards is when it is asked for, and by the task that answers, so that the placer waits for no line.
fn tell_placed(sandbox: SandboxId, operation: OperationId, placed: &PlaceAnswer) {
    match placed {
        PlaceAnswer::Created(_) => tracing::info!(%sandbox, %operation, "placed"),
        PlaceAnswer::SessionLive(id) => tracing::debug!(sandbox = %id, "its session has one"),
        PlaceAnswer::Replayed(id) => tracing::debug!(sandbox = %id, "its idempotency key has made one"),
    }
}

/// Puts a question to the placer; refuses at once when too many wait.
pub(crate) async fn ask<T>(
    slot: &mpsc::Sender<Ask>,
    question: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    slot.try_send(question(reply)).map_err(|refused| match refused {
        mpsc::error::TrySendError::Full(_) => Error::new(Code::Overloaded, Code::Overloaded.meaning()),
        mpsc::error::TrySendError::Closed(_) => not_leading(),
    })?;
    answer.await.map_err(|_| not_leading())
}

pub(super) fn not_leading() -> Error {
    Error::new(Code::NoQuorum, "the node that was asked does not lead any more; retry")
}

/// Answers other nodes' questions (and this node's own) while it leads.
/// It must not keep the node alive: the ledger that holds it is the node's own.
pub(crate) struct Handler(pub(crate) Weak<Node>);

#[async_trait]
impl LeaderHandler for Handler {
    async fn answer(&self, question: Bytes) -> Bytes {
        let answer = match (self.0.upgrade(), decode(&question)) {
            (Some(node), Ok(Read { body, request })) => {
                let span = request.map_or_else(Span::none, |request| tracing::info_span!("asked", %request));
                node.desk.answer(&node, body).instrument(span).await
            }
            (None, _) => Err(not_leading()),
            (_, Err(error)) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Error(error.into()));
        // An answer always can be written; an empty one reads as an error of its own.
        encode(&answer).unwrap_or_default()
    }
}
