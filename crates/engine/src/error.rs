//! The engine's error: a stable code, and a message that says what was wrong and what to do.

use plimsoll_lifecycle::ports::{HostError, LedgerError};
use plimsoll_state::Refusal;
use plimsoll_types::{Code, SandboxId};

/// Why an operation did not happen. `code` is what programs read, the message is for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What went wrong, where and what to do; never a secret.
    pub message: String,
    /// The sandbox it is about, where there is one (the live one for `session_live`).
    pub sandbox: Option<SandboxId>,
}

impl Error {
    /// Makes one.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), sandbox: None }
    }

    /// Names the sandbox it is about.
    #[must_use]
    pub const fn about(mut self, sandbox: SandboxId) -> Self {
        self.sandbox = Some(sandbox);
        self
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        let code = match error {
            LedgerError::NoQuorum(_) | LedgerError::Closed | LedgerError::Leader(_) => Code::NoQuorum,
            LedgerError::Overloaded => Code::Overloaded,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code();
        Self::new(code, code.meaning())
    }
}
