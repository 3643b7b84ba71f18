//! Commands over a WebSocket; [`plimsoll_client::wire::exec`] documents the protocol.

use crate::{
    auth::Caller,
    convert,
    error::{Answer, ApiError},
    extract::{Id, parse},
    limits,
    options::Api,
    streams,
};
use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use plimsoll_client::wire::{ExecControl, ExecNotice, Stream};
use plimsoll_engine::{RequestId, Scope};
use plimsoll_lifecycle::ports::{ExecControl as Control, ExecEvent, ExecSession, TtySize};
use plimsoll_types::{Code, SandboxId};
use std::ops::ControlFlow;
use tracing::Instrument;

/// A command with live streams, over a WebSocket.
///
/// The first message (text) is an `ExecRequest`; then binary messages carry data behind one byte that names the stream
/// (0 stdin, 1 stdout, 2 stderr), and text messages are `ExecControl` from the client and `ExecNotice` from the server.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/stream", tag = "exec", operation_id = "execStream",
    params(("id" = String, Path)), responses((status = 101, description = "The WebSocket is open")),
)]
pub(crate) async fn connect(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|error| {
        ApiError::new(Code::InvalidRequest, format!("this route is a WebSocket: {}", error.body_text()))
    })?;
    let scope = caller.scope();
    // What can be said before the upgrade is said as a problem.
    api.options.provider.get(&scope, id).await?;
    let permit = streams::permit(&api)?;
    let upgrade = upgrade.max_message_size(limits::MAX_MESSAGE).max_frame_size(limits::MAX_MESSAGE);
    let (span, request) = (tracing::Span::current(), RequestId::current());
    let serve = async move |socket| {
        tokio::select! {
            () = serve(&api, &scope, id, socket) => {}
            () = api.closing.cancelled() => {}
        }
        drop(permit);
    };
    Ok(upgrade.on_upgrade(move |socket| RequestId::scope(request, serve(socket)).instrument(span)))
}

type Sink = SplitSink<WebSocket, Message>;

async fn serve(api: &Api, scope: &Scope, id: SandboxId, socket: WebSocket) {
    let (mut sink, mut source) = socket.split();
    let last = match begin(api, scope, id, &mut source).await {
        Ok(session) => {
            if tell(&mut sink, &ExecNotice::Started).await.is_err() {
                return;
            }
            // `None`: the client is gone; the session is dropped, which kills the process.
            join(session, &mut sink, &mut source).await
        }
        Err(error) => Some(ExecNotice::Error { problem: error.0 }),
    };
    if let Some(last) = last {
        let _ = tell(&mut sink, &last).await;
        let close = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = sink.send(Message::Close(Some(close))).await;
    }
}

async fn begin(api: &Api, scope: &Scope, id: SandboxId, source: &mut SplitStream<WebSocket>) -> Answer<ExecSession> {
    let first = tokio::time::timeout(limits::FIRST_MESSAGE, source.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err(ApiError::new(Code::InvalidRequest, "the first message is an ExecRequest as text, within 10 s"));
    };
    let request = convert::exec::streamed(parse(text.as_bytes())?)?;
    Ok(api.options.provider.exec(scope, id, request).await?)
}

/// Copies both ways at once until the process ends (its last notice) or the client goes away (`None`). The two directions
/// never wait for each other: a process that writes before it reads would stop both for ever.
async fn join(session: ExecSession, sink: &mut Sink, source: &mut SplitStream<WebSocket>) -> Option<ExecNotice> {
    let ExecSession { mut events, mut control } = session;
    let outward = async {
        loop {
            let message = match tokio::time::timeout(limits::KEEPALIVE, events.next()).await {
                Err(_) => Message::Ping(Bytes::new()),
                Ok(Some(Ok(ExecEvent::Stdout(data)))) => Message::Binary(Stream::Stdout.frame(&data)),
                Ok(Some(Ok(ExecEvent::Stderr(data)))) => Message::Binary(Stream::Stderr.frame(&data)),
                Ok(Some(Ok(ExecEvent::Exit { code, timed_out }))) => return Some(ExecNotice::Exit { code, timed_out }),
                Ok(Some(Err(error))) => return Some(ExecNotice::Error { problem: ApiError::from(error).0 }),
                Ok(None) => {
                    let error = ApiError::new(Code::HostUnavailable, "the host broke off before the command ended");
                    return Some(ExecNotice::Error { problem: error.0 });
                }
            };
            if sink.send(message).await.is_err() {
                return None;
            }
        }
    };
    let inward = async {
        while let Some(Ok(message)) = source.next().await {
            match obey(control.as_mut(), message).await {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(last) => return last,
            }
        }
        None
    };
    tokio::select! {
        last = outward => last,
        last = inward => last,
    }
}

/// Does what a message says; breaks when the client is done or its message is nonsense.
async fn obey(control: &mut dyn Control, message: Message) -> ControlFlow<Option<ExecNotice>> {
    let nonsense = |error: ApiError| ControlFlow::Break(Some(ExecNotice::Error { problem: error.0 }));
    let done = match message {
        Message::Binary(frame) => match frame.first().copied().and_then(Stream::from_byte) {
            Some(Stream::Stdin) => control.write(frame.slice(1..)).await,
            Some(Stream::Stdout | Stream::Stderr) | None => {
                return nonsense(ApiError::new(
                    Code::InvalidRequest,
                    "a client's binary message begins with the byte 0 (stdin)",
                ));
            }
        },
        Message::Text(text) => match parse(text.as_bytes()) {
            Ok(ExecControl::CloseStdin) => control.close_stdin().await,
            Ok(ExecControl::Resize { columns, rows }) => {
                control.resize(TtySize { columns: columns.max(1), rows: rows.max(1) }).await
            }
            Ok(ExecControl::Kill) => control.kill().await,
            Err(error) => return nonsense(error),
        },
        Message::Close(_) => return ControlFlow::Break(None),
        Message::Ping(_) | Message::Pong(_) => Ok(()),
    };
    if let Err(error) = done {
        // The process has ended, or will never hear it: its exit or its host's failure follows on the other way.
        tracing::debug!(%error, "a command's input went nowhere");
    }
    ControlFlow::Continue(())
}

async fn tell(sink: &mut Sink, notice: &ExecNotice) -> Result<(), axum::Error> {
    let text = serde_json::to_string(notice).unwrap_or_default();
    sink.send(Message::Text(text.into())).await
}
