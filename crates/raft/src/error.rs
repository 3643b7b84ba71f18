//! What can go wrong with a node, by what the caller can do about it.

use plimsoll_types::Code;
use std::{io, path::Path, sync::Arc};

/// Why a node could not be made, opened or kept running. Never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The data folder is damaged, foreign or behind what the node promised: this node is lost.
    #[error(
        "the data folder cannot be used: {0}. This node must not vote again: remove it from the cluster on another node \
         (`plimsoll cluster remove`), empty the folder and join again with a new token"
    )]
    Corrupt(String),
    /// Another process holds the data folder.
    #[error("the data folder {0} is in use by another process")]
    InUse(String),
    /// Flushes would not reach the disk; nothing was promised to anyone.
    #[error("this build cannot store durably: {0}")]
    NotDurable(String),
    /// The folder holds a node already.
    #[error("{0} holds a node already; start it, or choose an empty folder")]
    Exists(String),
    /// The folder holds no node.
    #[error("{0} holds no node yet; run `plimsoll init` or `plimsoll join` first")]
    Empty(String),
    /// The folder holds something.
    #[error("{0} is not empty; a backup is restored into an empty folder only")]
    NotEmpty(String),
    /// A restore into the folder was cut short.
    #[error(
        "a backup was being restored into {0} and that was not finished; run the same `plimsoll cluster restore` again, or \
         empty the folder"
    )]
    Unfinished(String),
    /// The system refused a file or socket operation.
    #[error("{what}")]
    Io {
        /// What was tried, with the path or address.
        what: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// An option is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The token is wrong, expired or used up.
    #[error("the join token was refused: {0}; ask for a new one with `plimsoll cluster token`")]
    JoinDenied(String),
    /// A member has this id or address.
    #[error("{0}")]
    NodeExists(String),
    /// No member answered.
    #[error("the cluster cannot be reached: {0}")]
    Unreachable(String),
    /// The node was removed from the cluster.
    #[error("this node was removed from the cluster; empty its data folder to use the machine again")]
    Removed,
    /// Raft stopped; the process must end.
    #[error("the node stopped: {0}")]
    Stopped(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }

    pub(crate) fn path(what: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("cannot {what} {}", path.display()), source)
    }

    /// An error of the store: what could not be understood is damage, what the system refused is not.
    pub(crate) fn store(what: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Corrupt(format!("{what}: {error}")),
            _ => Self::io(what, error),
        }
    }

    /// The stable code that callers see.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Corrupt(_) => Code::StorageCorrupt,
            Self::InUse(_) | Self::NotEmpty(_) | Self::Unfinished(_) => Code::Conflict,
            Self::Exists(_) | Self::NodeExists(_) => Code::NodeExists,
            Self::Empty(_) | Self::Invalid(_) => Code::InvalidRequest,
            Self::JoinDenied(_) => Code::JoinDenied,
            Self::Unreachable(_) => Code::NoQuorum,
            Self::Removed => Code::NodeNotFound,
            Self::NotDurable(_) | Self::Io { .. } | Self::Stopped(_) => Code::Internal,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
