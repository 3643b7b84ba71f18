//! Commands about the hold, and which commands it refuses.

use super::Command;
use crate::model::Assignment;
use plimsoll_types::{Endpoint, Generation, OperationId, SandboxId, SandboxSpec, SessionId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

impl Command {
    /// Whether it has, or leads to, an effect on hosts or the registry: refused while the cluster is on hold.
    #[must_use]
    pub const fn acts(&self) -> bool {
        match self {
            Self::RemoveHost(_)
            | Self::DrainHost(_)
            | Self::Place(_)
            | Self::Assign(_)
            | Self::Advance(_)
            | Self::Begin(_)
            | Self::Taken(_)
            | Self::Switch(_)
            | Self::GiveUp(_)
            | Self::Freeze(_)
            | Self::DeleteSnapshots(_)
            | Self::ForgetSnapshots(_)
            | Self::Terminate(_)
            | Self::Forget(_) => true,
            Self::InitCluster(_)
            | Self::SetPolicy(_)
            | Self::AddHost(_)
            | Self::ReportHost(_)
            | Self::CordonHost(_)
            | Self::LabelHost(_)
            | Self::PriceHost(_)
            | Self::NoteDisk(_)
            | Self::QuarantineHost(_)
            | Self::SetDeadline(_)
            | Self::ForgetIdempotency(_)
            | Self::CreateKey(_)
            | Self::RevokeKey(_)
            | Self::SpendJoinToken(_)
            | Self::SetHold(_)
            | Self::TakeOver(_)
            | Self::WriteOff(_) => false,
        }
    }
}

/// See [`Command::SetHold`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetHold {
    /// Why nothing is to be done on hosts; `None` ends the hold.
    pub reason: Option<Box<str>>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// A container that was found on a host, by whose labels its sandbox goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The sandbox its labels name.
    pub sandbox: SandboxId,
    /// Where it stands, and the generation its labels name.
    pub assignment: Assignment,
    /// The container: Docker's full 64-digit id.
    pub container: Box<str>,
    /// Where its ports are reached.
    pub endpoints: Vec<Endpoint>,
    /// Whether it is held still.
    pub frozen: bool,
    /// What else was found out, for a sandbox that state does not know.
    pub made: Option<Found>,
    /// When it was proposed.
    pub at: Timestamp,
}

/// What a container tells of a sandbox that state does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whose it is.
    pub tenant: TenantId,
    /// The platform's key for it.
    pub session: SessionId,
    /// What the container shows of what was asked for; the rest is as by default.
    pub spec: Arc<SandboxSpec>,
    /// The operation that made the container.
    pub operation: OperationId,
    /// When the container was made.
    pub created_at: Timestamp,
}

/// A sandbox that is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOff {
    /// Which.
    pub sandbox: SandboxId,
    /// The incarnation that was looked for.
    pub generation: Generation,
    /// Why, in a sentence.
    pub reason: Box<str>,
    /// When it was proposed.
    pub at: Timestamp,
}
