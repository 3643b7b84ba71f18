//! What nodes ask the leader's engine, and its answers: a wire format between nodes of adjacent releases.

use crate::{
    Error,
    cluster::{LeftBehind, ProposedMove},
    leader::desk::{MigrateWish, MoveQuery, ResumeWish},
    request::{Awake, HostVerdict},
};
use bytes::Bytes;
use plimsoll_state::command::Idempotency;
use plimsoll_types::{
    Code, Generation, HostId, HostName, MeasuredLoad, Millis, NodeId, OperationId, SandboxId, SandboxSpec, SessionId,
    TenantId,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The format's version: raised when an old node would misread a message; added fields do not raise it.
const VERSION: u16 = 1;

/// Something only the leader can decide.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Record this sandbox on a host, or in the queue.
    Place(Box<PlaceWish>),
    /// Where would this go now?
    Explain { tenant: TenantId, spec: Arc<SandboxSpec> },
    /// What was measured last on each host?
    Loads,
    /// Give this paused sandbox a host.
    Resume(ResumeWish),
    /// Choose where this running sandbox moves to, and begin the move.
    Migrate(MigrateWish),
    /// Where would this sandbox move to now?
    ExplainMove(MoveQuery),
    /// Hold this sandbox still, or let it go on.
    Freeze { sandbox: SandboxId, generation: Generation, frozen: bool },
    /// What keeps this sandbox awake?
    Awake(SandboxId),
    /// These have something open through a node.
    Touch(Touched),
    /// What is left on this host, and where would it go?
    DrainPlan(HostId),
    /// Which moves bring the hosts closer together?
    Rebalance {
        /// Whether nothing is moved.
        dry_run: bool,
        /// The difference of dominant shares to get below, in thousandths.
        spread_permille: u32,
    },
}

/// Sandboxes with sessions open through one node, or that had some since its last report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Touched {
    pub(crate) node: NodeId,
    /// Each with how many are open now.
    pub(crate) sandboxes: Vec<(SandboxId, u32)>,
}

/// A sandbox to place. The asking node chose the ids, so that asking again after a lost answer makes nothing twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlaceWish {
    pub(crate) sandbox: SandboxId,
    pub(crate) operation: OperationId,
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) spec: Arc<SandboxSpec>,
    pub(crate) lifetime: Option<Millis>,
    pub(crate) queue_timeout: Option<Millis>,
    pub(crate) idempotency: Option<Idempotency>,
}

/// What the leader says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How a placement ended.
    Placed(PlaceAnswer),
    /// A dry run's answer.
    Explained(WireExplained),
    /// Loads by host.
    Loads(BTreeMap<HostId, MeasuredLoad>),
    /// The host that was chosen.
    Host(HostId),
    /// What keeps a sandbox awake.
    Awake(Awake),
    /// It was noted.
    Noted,
    /// What is left on a host.
    Left(Vec<LeftBehind>),
    /// Moves.
    Moves(Vec<ProposedMove>),
    /// It cannot or will not.
    Error(WireError),
}

/// How a placement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlaceAnswer {
    /// The sandbox was recorded.
    Created(SandboxId),
    /// The session has this live one.
    SessionLive(SandboxId),
    /// The idempotency key had made this one.
    Replayed(SandboxId),
}

/// [`crate::Explained`] on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireExplained {
    pub(crate) chosen: Option<HostName>,
    pub(crate) sentence: String,
    pub(crate) hosts: Vec<HostVerdict>,
}

/// [`crate::Error`] on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireError {
    code: Code,
    message: String,
    sandbox: Option<SandboxId>,
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        Self { code: error.code, message: error.message, sandbox: error.sandbox }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self { code: error.code, message: error.message, sandbox: error.sandbox }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u16,
    body: T,
}

/// Writes a message.
pub(crate) fn encode<T: Serialize>(body: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(&Envelope { version: VERSION, body })
        .map(Bytes::from)
        .map_err(|error| Error::new(Code::Internal, format!("a message to the leader cannot be written: {error}")))
}

/// Reads a message.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u16,
    }
    // The error shows no content: a wish carries the caller's environment.
    let unreadable = |what: &str| Error::new(Code::Internal, format!("nodes do not understand each other: {what}"));
    let other = |found: u16| unreadable(&format!("message version {found}, this node speaks {VERSION}"));
    match serde_json::from_slice::<Envelope<T>>(bytes) {
        Ok(envelope) if envelope.version == VERSION => Ok(envelope.body),
        Ok(envelope) => Err(other(envelope.version)),
        // Another version may have another shape: then that is the reason.
        Err(_) => match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { version }) if version != VERSION => Err(other(version)),
            Ok(_) => Err(unreadable("the message has another shape; bring all nodes to one release")),
            Err(_) => Err(unreadable("no version in the message")),
        },
    }
}
