//! Beginning an operation on a running sandbox, for whoever wants one: the façade and the leader's loops alike.

use crate::{Error, node::Node};
use plimsoll_lifecycle::ports::LedgerError;
use plimsoll_state::{Command, Refusal, Sandbox, WorkKind, command::Begin};
use plimsoll_types::{Code, OperationId, SnapshotId, SnapshotName, Timestamp};

/// What is to be done. A migration is begun by the placer, which chooses where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) kind: WorkKind,
    pub(crate) name: Option<SnapshotName>,
    /// Only while the deadline is this one.
    pub(crate) if_deadline: Option<Timestamp>,
}

impl Wish {
    pub(crate) const fn new(kind: WorkKind) -> Self {
        Self { kind, name: None, if_deadline: None }
    }
}

/// An operation that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) operation: OperationId,
    pub(crate) snapshot: SnapshotId,
}

/// Begins it; the executor does the rest.
pub(crate) async fn begin(node: &Node, sandbox: &Sandbox, wish: Wish) -> Result<Result<Begun, Refusal>, LedgerError> {
    let begun = Begun { operation: node.new_operation(), snapshot: node.new_snapshot() };
    let at = node.now();
    let begin = Begin {
        sandbox: sandbox.id,
        generation: sandbox.generation,
        operation: begun.operation,
        kind: wish.kind,
        snapshot: begun.snapshot,
        name: wish.name,
        to: None,
        if_deadline: wish.if_deadline,
        deadline: at.plus(node.read(|state| state.policy.work_budget)),
        at,
    };
    Ok(node.commit_one(Command::Begin(Box::new(begin))).await?.map(|()| begun))
}

/// The error that a reason stands for: reasons begin with their code where there is one, because they went through state as text.
pub(crate) fn reason(text: &str, otherwise: Code) -> Error {
    let coded = text.split_once(": ").and_then(|(code, rest)| Some((code.parse::<Code>().ok()?, rest)));
    let (code, message) = coded.unwrap_or((otherwise, text));
    Error::new(code, if message.is_empty() { otherwise.meaning() } else { message })
}

/// What is said where nothing can be snapshot, paused or moved.
pub(crate) fn registry_missing() -> Error {
    let message =
        "no registry is configured, so nothing can be snapshot, paused or moved; set registry.url on every node";
    Error::new(Code::RegistryMissing, message)
}
