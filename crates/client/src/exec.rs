//! Commands over a WebSocket, with a terminal if asked; see [`crate::wire::exec`] for the protocol.

use crate::{
    call::Call,
    client::Client,
    error::Error,
    sandboxes::of,
    wire::{ExecControl, ExecNotice, ExecRequest, Stream},
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use plimsoll_types::SandboxId;
use reqwest::{Upgraded, header};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

type Socket = WebSocketStream<Upgraded>;

/// Larger messages are refused; the node sends pieces of at most 64 KiB.
const MAX_MESSAGE: usize = 1 << 20;

/// What a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes on its stdout (or its terminal).
    Stdout(Bytes),
    /// Bytes on its stderr.
    Stderr(Bytes),
    /// It ended; the last event.
    Exit {
        /// Its exit code.
        code: i64,
        /// Whether the time limit killed it.
        timed_out: bool,
    },
}

/// The way into a running command. Dropping both halves kills it.
pub struct ExecInput(SplitSink<Socket, Message>);

/// What a running command says.
pub struct ExecOutput(SplitStream<Socket>);

impl Client {
    /// Starts a command and connects to it.
    ///
    /// # Errors
    /// See [`Error`]; that the command could not be started is told by the first [`ExecOutput::next`].
    pub async fn exec_stream(&self, id: SandboxId, request: &ExecRequest) -> Result<(ExecInput, ExecOutput), Error> {
        let key = generate_key();
        let call = of(Call::get, id, &["exec", "stream"])
            .header("connection", Some("Upgrade"))
            .header("upgrade", Some("websocket"))
            .header("sec-websocket-version", Some("13"))
            .header("sec-websocket-key", Some(&key))
            .without_timeout();
        let response = self.send(&call).await?;
        let accepted = response
            .headers()
            .get(header::SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|value| value == derive_accept_key(key.as_bytes()).as_str());
        if response.status().as_u16() != 101 || !accepted {
            return Err(Error::Protocol {
                doing: call.doing(),
                why: "it did not become a WebSocket; is a proxy in between?".to_owned(),
            });
        }
        let upgraded = response.upgrade().await.map_err(|error| crate::client::interrupted(&call, &error))?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        let (sink, stream) = socket.split();
        let mut input = ExecInput(sink);
        input.text(request).await?;
        Ok((input, ExecOutput(stream)))
    }
}

impl ExecInput {
    /// Writes to its stdin; waits while the process does not read.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        // Small pieces, so that a message never passes the node's limit.
        for piece in data.chunks(64 << 10) {
            self.0.send(Message::Binary(Stream::Stdin.frame(piece))).await.map_err(|error| broken(&error))?;
        }
        Ok(())
    }

    /// Ends its stdin.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn close_stdin(&mut self) -> Result<(), Error> {
        self.text(&ExecControl::CloseStdin).await
    }

    /// Tells its terminal a new size.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        self.text(&ExecControl::Resize { columns, rows }).await
    }

    /// Kills it and its children.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.text(&ExecControl::Kill).await
    }

    async fn text(&mut self, message: &impl serde::Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(message).unwrap_or_default();
        self.0.send(Message::Text(text.into())).await.map_err(|error| broken(&error))
    }
}

impl ExecOutput {
    /// The next thing it says; `None` after `Exit`.
    ///
    /// # Errors
    /// When the command could not be started, its host is lost, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        while let Some(message) = self.0.next().await {
            match message.map_err(|error| broken(&error))? {
                Message::Binary(frame) => match frame.first().copied().and_then(Stream::from_byte) {
                    Some(Stream::Stdout) => return Ok(Some(ExecEvent::Stdout(frame.slice(1..)))),
                    Some(Stream::Stderr) => return Ok(Some(ExecEvent::Stderr(frame.slice(1..)))),
                    Some(Stream::Stdin) | None => return Err(not_understood("a frame names no stream")),
                },
                Message::Text(text) => {
                    match serde_json::from_str(&text).map_err(|error| not_understood(&error.to_string()))? {
                        ExecNotice::Started => {}
                        ExecNotice::Exit { code, timed_out } => return Ok(Some(ExecEvent::Exit { code, timed_out })),
                        ExecNotice::Error { problem } => return Err(Error::Problem(problem)),
                    }
                }
                Message::Close(_) => return Ok(None),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }
}

fn broken(error: &tungstenite::Error) -> Error {
    Error::Interrupted { doing: "a command's stream".to_owned(), why: error.to_string() }
}

fn not_understood(why: &str) -> Error {
    Error::Protocol { doing: "a command's stream".to_owned(), why: why.to_owned() }
}
