//! Commands inside sandboxes: the collected form, the list form, and the WebSocket protocol.
//!
//! The WebSocket at `/v1/sandboxes/{id}/exec/stream` speaks so:
//!
//! 1. The client's first message is text: an [`ExecRequest`] as JSON (never in the URL: environments hold secrets).
//! 2. Binary messages carry data: the first byte names the [`Stream`] (0 stdin from the client; 1 stdout and 2 stderr from
//!    the server), the rest is the data. With a terminal everything the process says is stdout.
//! 3. Text messages from the client are [`ExecControl`], from the server [`ExecNotice`].
//! 4. The server's last text message is `exit` or `error`; then it closes. A client that goes away kills the process.

use super::problem::Problem;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A command to run. No shell is involved: argv is an array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments, at least one.
    #[schema(example = json!(["ls", "-l", "/workspace"]))]
    pub argv: Vec<String>,
    /// Where it starts; the image's working directory if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the sandbox's environment. Never logged.
    #[serde(skip_serializing_if = "super::SecretMap::is_empty")]
    pub env: super::SecretMap,
    /// As whom: `name`, `uid` or `uid:gid`; the sandbox's user if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Seconds until it and its children are killed; 30 if absent for collected runs, none for streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// What it reads on stdin (collected runs only), encoded as `encoding` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// How `stdin` is encoded.
    #[serde(skip_serializing_if = "is_utf8")]
    pub encoding: Encoding,
    /// Most bytes of stdout and of stderr to keep each (collected runs only); 1 MiB if absent, 8 MiB at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// A terminal of this size (streams only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// Whether stdin is connected (streams only).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interactive: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_utf8(encoding: &Encoding) -> bool {
    *encoding == Encoding::Utf8
}

/// How bytes stand in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are.
    #[default]
    Utf8,
    /// Base64 with padding.
    Base64,
}

/// Bytes that are not what their encoding says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not base64 with padding")]
pub struct InvalidEncoding;

impl Encoding {
    /// The bytes behind the text.
    ///
    /// # Errors
    /// When it is not base64.
    pub fn decode(self, text: &str) -> Result<Vec<u8>, InvalidEncoding> {
        match self {
            Self::Utf8 => Ok(text.as_bytes().to_vec()),
            Self::Base64 => STANDARD.decode(text).map_err(|_| InvalidEncoding),
        }
    }

    /// The text of these bytes.
    #[must_use]
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Base64 => STANDARD.encode(bytes),
        }
    }

    /// UTF-8 if all of these are, else base64.
    #[must_use]
    pub fn fitting(parts: &[&[u8]]) -> Self {
        if parts.iter().all(|part| std::str::from_utf8(part).is_ok()) { Self::Utf8 } else { Self::Base64 }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Its exit code; 137 for a kill.
    pub exit_code: i64,
    /// Its stdout, encoded as `encoding` says.
    pub stdout: String,
    /// Its stderr, encoded likewise.
    pub stderr: String,
    /// `utf8` if both outputs are UTF-8, else `base64` for both.
    pub encoding: Encoding,
    /// Whether either output was longer than was kept; the rest was read and dropped.
    pub truncated: bool,
    /// Whether the time limit killed it.
    pub timed_out: bool,
    /// How long it ran.
    pub duration_ms: u64,
}

impl ExecResult {
    /// Its stdout as bytes.
    #[must_use]
    pub fn stdout_bytes(&self) -> Vec<u8> {
        self.encoding.decode(&self.stdout).unwrap_or_default()
    }

    /// Its stderr as bytes.
    #[must_use]
    pub fn stderr_bytes(&self) -> Vec<u8> {
        self.encoding.decode(&self.stderr).unwrap_or_default()
    }
}

/// Commands to run one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunCommands {
    /// At most 64.
    pub commands: Vec<CommandLine>,
    /// Seconds each may take; 30 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// Most bytes of each output to keep; 64 KiB if absent, 1 MiB at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Whether the first that fails ends the list.
    pub stop_on_failure: bool,
}

/// One of several commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandLine {
    /// What to call it in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the sandbox's environment.
    #[serde(skip_serializing_if = "super::SecretMap::is_empty")]
    pub env: super::SecretMap,
}

/// How one of several commands ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// Its name, if it has one.
    #[serde(default)]
    pub name: Option<String>,
    /// How it ended; absent if it could not be started.
    #[serde(default)]
    pub result: Option<ExecResult>,
    /// Why it could not be started.
    #[serde(default)]
    pub problem: Option<Problem>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TtySize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a binary message of the WebSocket carries: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// To the process.
    Stdin = 0,
    /// From the process.
    Stdout = 1,
    /// From the process.
    Stderr = 2,
}

impl Stream {
    /// The stream a first byte names.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }

    /// A binary message with this data.
    #[must_use]
    pub fn frame(self, data: &[u8]) -> bytes::Bytes {
        let mut frame = bytes::BytesMut::with_capacity(data.len() + 1);
        frame.extend_from_slice(&[self as u8]);
        frame.extend_from_slice(data);
        frame.freeze()
    }
}

/// What a client tells a running command (text messages after the first).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExecControl {
    /// Its stdin ends.
    CloseStdin,
    /// Its terminal has a new size.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// It is killed, with its children.
    Kill,
}

/// What the server tells a client (text messages).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecNotice {
    /// It runs.
    Started,
    /// It ended; the last message.
    Exit {
        /// Its exit code.
        code: i64,
        /// Whether the time limit killed it.
        timed_out: bool,
    },
    /// It could not be started, or its host was lost; the last message.
    Error {
        /// Why.
        problem: Box<Problem>,
    },
}

/// Plain environment, for callers that have one.
impl From<BTreeMap<String, String>> for super::SecretMap {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_text_where_it_can_be() {
        assert_eq!(Encoding::fitting(&[b"ok", "ä".as_bytes()]), Encoding::Utf8);
        let encoding = Encoding::fitting(&[b"ok", &[0xff, 0]]);
        assert_eq!(encoding, Encoding::Base64);
        assert_eq!(encoding.decode(&encoding.encode(&[0xff, 0])).unwrap(), [0xff, 0]);
        assert_eq!(Encoding::Base64.decode("!"), Err(InvalidEncoding));
    }

    #[test]
    fn environments_do_not_print() {
        let request =
            ExecRequest { env: BTreeMap::from([("T".to_owned(), "hunter2".to_owned())]).into(), ..Default::default() };
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
