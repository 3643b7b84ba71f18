//! How errors of SSH and Docker become [`HostError`]s: by what the caller can do, with a sentence that says what to do.
//!
//! No text here may contain a key, an environment value or the content of a file.

use plimsoll_lifecycle::ports::{HostError, HostFailure};
use plimsoll_types::Code;

/// Longest text of Docker's or a sandbox's that is passed on in an error: a screenful.
const MAX_TEXT: usize = 2000;

pub(crate) fn unreachable(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::Unreachable, code, message)
}

pub(crate) fn transient(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::Transient, code, message)
}

pub(crate) fn this_host(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::ThisHost, code, message)
}

pub(crate) fn permanent(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::Permanent, code, message)
}

/// Cuts a text that came from outside to what fits into an error, control characters replaced.
pub(crate) fn tidy(text: &str) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    match clean.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{} …", &clean[..end]),
        None => clean,
    }
}

/// An error and all that caused it, in one line, without repeating what an error already says of its cause.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    tidy(&text)
}

/// The [`HostError`] a connector put into a chain of other libraries' errors, if there is one.
pub(crate) fn find(error: &(dyn std::error::Error + 'static)) -> Option<HostError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<HostError>() {
            return Some(found.clone());
        }
        next = error.source();
    }
    None
}

/// What Docker answered to a request that it refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// HTTP status.
    pub(crate) status: u16,
    /// Docker's text.
    pub(crate) message: String,
}

/// A request to Docker that failed.
#[derive(Clone, Debug)]
pub(crate) enum DockerError {
    /// Docker answered, with a refusal.
    Refused(Refused),
    /// Docker was not reached, or the connection broke.
    Lost(HostError),
}

impl DockerError {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refused) => Some(refused.status),
            Self::Lost(_) => None,
        }
    }
}

impl From<bollard::errors::Error> for DockerError {
    fn from(error: bollard::errors::Error) -> Self {
        match error {
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                Self::Refused(Refused { status: status_code, message: tidy(&message) })
            }
            bollard::errors::Error::DockerStreamError { error } => {
                Self::Refused(Refused { status: 500, message: tidy(&error) })
            }
            other => Self::Lost(find(&other).unwrap_or_else(|| {
                let why = chain(&other);
                unreachable(Code::DockerUnreachable, format!("the connection to Docker broke: {why}"))
            })),
        }
    }
}

/// Maps a failed Docker request. `what` names the request: "list containers".
pub(crate) fn docker(what: &str, error: impl Into<DockerError>) -> HostError {
    let refused = match error.into() {
        DockerError::Lost(lost) => return lost,
        DockerError::Refused(refused) => refused,
    };
    let Refused { status, message } = refused;
    if is_full(&message) {
        return this_host(
            Code::HostFull,
            format!("Docker could not {what}: {message}; free space on the host or place the sandbox elsewhere"),
        );
    }
    let text = format!("Docker could not {what}: {message}");
    match status {
        404 => transient(Code::NotFound, text),
        409 => transient(Code::Conflict, text),
        400..=499 => permanent(Code::InvalidRequest, text),
        _ => transient(Code::DockerUnreachable, text),
    }
}

/// Whether Docker complains about its own machine, whatever it was asked to run.
pub(crate) fn is_broken(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "input/output error",
        "read-only file system",
        "too many open files",
        "iptables",
        "containerd.sock",
        "error creating overlay mount",
        "failed to mount local volume",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

/// Whether Docker complains about a full disk or used-up memory.
pub(crate) fn is_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded", "cannot allocate memory", "non-overlapping ipv4 address pool"]
        .iter()
        .any(|sign| message.contains(sign))
}
