//! What nodes ask the leader's engine, and its answers: a wire format between nodes of adjacent releases.

use crate::{
    Error, RequestId,
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
    /// The HTTP request that it is about, for the log of whoever reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,
}

/// A message, and the request that it is about.
pub(crate) struct Read<T> {
    pub(crate) body: T,
    pub(crate) request: Option<RequestId>,
}

/// Writes a message. It is about the request that this task answers, if it does answer one.
pub(crate) fn encode<T: Serialize>(body: &T) -> Result<Bytes, Error> {
    let request = RequestId::current().map(|request| request.as_str().to_owned());
    serde_json::to_vec(&Envelope { version: VERSION, body, request })
        .map(Bytes::from)
        .map_err(|error| Error::new(Code::Internal, format!("a message to the leader cannot be written: {error}")))
}

/// Reads a message.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<Read<T>, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u16,
    }
    // The error shows no content: a wish carries the caller's environment.
    let unreadable = |what: &str| Error::new(Code::Internal, format!("nodes do not understand each other: {what}"));
    let other = |found: u16| unreadable(&format!("message version {found}, this node speaks {VERSION}"));
    match serde_json::from_slice::<Envelope<T>>(bytes) {
        Ok(Envelope { version: VERSION, body, request }) => {
            // An id that is none here is no reason to leave a question without an answer.
            Ok(Read { body, request: request.as_deref().and_then(RequestId::new) })
        }
        Ok(envelope) => Err(other(envelope.version)),
        // Another version may have another shape: then that is the reason.
        Err(_) => match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { version }) if version != VERSION => Err(other(version)),
            Ok(_) => Err(unreadable("the message has another shape; bring all nodes to one release")),
            Err(_) => Err(unreadable("no version in the message")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_says_for_which_request_it_is_asked() {
        let asked = RequestId::scope(RequestId::new("req-7"), async { encode(&Question::Loads) }).await;
        let read: Read<Question> = decode(&asked.expect("written")).expect("read");
        assert_eq!(read.request, RequestId::new("req-7"));
        let asked = encode(&Question::Loads).expect("written");
        assert_eq!(&asked[..], br#"{"version":1,"body":"loads"}"#, "as nodes wrote it that knew no requests");
        assert_eq!(decode::<Question>(&asked).expect("read").request, None);
    }

    #[test]
    fn what_a_later_node_adds_is_no_obstacle() {
        for added in [r#""request":"a b""#, r#""request":null"#, r#""trace":{"id":1}"#] {
            let asked = format!(r#"{{"version":1,"body":"loads",{added}}}"#);
            let read = decode::<Question>(asked.as_bytes()).expect(added);
            assert!(matches!(read.body, Question::Loads) && read.request.is_none(), "{added}");
        }
        assert!(decode::<Question>(br#"{"version":2,"body":"loads"}"#).is_err());
    }
}
