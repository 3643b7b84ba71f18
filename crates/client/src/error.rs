//! What can go wrong with a call, by what the caller can do about it.

use crate::wire::Problem;
use plimsoll_types::{Code, code::Exit};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A URL or a key is malformed; nothing was sent.
    #[error("{0}")]
    Config(String),
    /// No node could be reached; nothing happened.
    #[error("no control-plane node answers: {0}; is `plimsoll server` or `plimsoll dev` running there?")]
    Unreachable(String),
    /// The connection broke after the request was sent; it may have happened.
    #[error("the connection broke while {doing}: {why}; it may have happened all the same")]
    Interrupted {
        /// The method and path.
        doing: String,
        /// What broke.
        why: String,
    },
    /// The cluster answered with a problem.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// Something answered that is not Plimsoll, or a newer one.
    #[error("the answer to {doing} is not understood: {why}")]
    Protocol {
        /// The method and path.
        doing: String,
        /// What was wrong with the answer.
        why: String,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::InvalidRequest,
            Self::Unreachable(_) => Code::NoQuorum,
            Self::Interrupted { .. } => Code::Timeout,
            Self::Problem(problem) => problem.code,
            Self::Protocol { .. } => Code::Internal,
        }
    }

    /// How the CLI exits.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.code().exit()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}
