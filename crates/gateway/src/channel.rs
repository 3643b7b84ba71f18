//! One session channel: collects what the client asks for, then joins it to a process in the sandbox.

use bytes::Bytes;
use futures_util::StreamExt as _;
use plimsoll_engine::{Error, SandboxProvider, Scope};
use plimsoll_lifecycle::ports::{ExecEvent, ExecRequest, ExecSession, TtySize};
use plimsoll_types::{SandboxId, names::check_env_name};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, server::Msg};
use std::{collections::BTreeMap, sync::Arc};

/// Opens the best shell there is. A constant: nothing of the client's is put into it.
const SHELL: &str = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";
/// Variables a client may set; more is a mistake or an attack.
const MAX_VARIABLES: usize = 64;
/// What OpenSSH exits with when the remote side could not start the command.
const CANNOT_START: u32 = 255;

/// Serves one channel until the process or the client ends it.
pub(crate) async fn run(channel: Channel<Msg>, provider: Arc<dyn SandboxProvider>, sandbox: SandboxId) {
    let (mut reader, writer) = channel.split();
    let Some(request) = asked(&mut reader).await else { return };
    let tty = request.tty.is_some();
    match provider.exec(&Scope::All, sandbox, request).await {
        Ok(session) => join(session, reader, &writer, tty).await,
        Err(error) => refuse(&writer, &error).await,
    }
    let _ = writer.eof().await;
    let _ = writer.close().await;
}

/// Reads requests until the client asks for a shell or a command.
async fn asked(reader: &mut ChannelReadHalf) -> Option<ExecRequest> {
    let mut request = ExecRequest { stdin: true, ..ExecRequest::default() };
    let mut env = BTreeMap::new();
    loop {
        match reader.wait().await? {
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                request.tty = Some(size(col_width, row_height));
                env.insert("TERM".to_owned(), term);
            }
            ChannelMsg::SetEnv { variable_name, variable_value, .. }
                if check_env_name(&variable_name).is_ok() && env.len() < MAX_VARIABLES =>
            {
                env.insert(variable_name, variable_value);
            }
            ChannelMsg::RequestShell { .. } => {
                request.argv = ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec();
                break;
            }
            // SSH has one command line, not an argv: like sshd, it is the login shell that reads it.
            ChannelMsg::Exec { command, .. } => {
                let command = String::from_utf8_lossy(&command).into_owned();
                request.argv = vec!["/bin/sh".into(), "-c".into(), command];
                break;
            }
            ChannelMsg::Close | ChannelMsg::Eof => return None,
            _ => {}
        }
    }
    request.env = env;
    Some(request)
}

/// Copies both ways until the process ends, or the client goes away: then the process is killed with the session.
async fn join(session: ExecSession, mut reader: ChannelReadHalf, writer: &ChannelWriteHalf<Msg>, tty: bool) {
    let ExecSession { mut events, mut control } = session;
    let outward = async {
        while let Some(event) = events.next().await {
            let sent = match event {
                Ok(ExecEvent::Stdout(data)) => writer.data_bytes(data).await,
                Ok(ExecEvent::Stderr(data)) => writer.extended_data_bytes(1, data).await,
                Ok(ExecEvent::Exit { code, .. }) => return u32::try_from(code).unwrap_or(CANNOT_START),
                Err(error) => {
                    let _ = writer.extended_data_bytes(1, Bytes::from(format!("plimsoll: {error}\r\n"))).await;
                    return CANNOT_START;
                }
            };
            if sent.is_err() {
                return CANNOT_START;
            }
        }
        CANNOT_START
    };
    let inward = async {
        while let Some(message) = reader.wait().await {
            let told = match message {
                ChannelMsg::Data { data } => control.write(data).await,
                ChannelMsg::Eof if tty => Ok(()),
                ChannelMsg::Eof => control.close_stdin().await,
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    control.resize(size(col_width, row_height)).await
                }
                ChannelMsg::Close => return,
                _ => Ok(()),
            };
            if let Err(error) = told {
                tracing::debug!(%error, "input for an SSH session was dropped");
            }
        }
    };
    tokio::pin!(outward);
    let code = tokio::select! {
        code = &mut outward => Some(code),
        () = inward => None,
    };
    match code {
        Some(code) => {
            let _ = writer.exit_status(code).await;
        }
        None => {
            let _ = control.kill().await;
        }
    }
}

async fn refuse(writer: &ChannelWriteHalf<Msg>, error: &Error) {
    let text = format!("plimsoll: {error}\r\n");
    let _ = writer.extended_data_bytes(1, Bytes::from(text)).await;
    let _ = writer.exit_status(CANNOT_START).await;
}

fn size(columns: u32, rows: u32) -> TtySize {
    let clamp = |n: u32| u16::try_from(n.clamp(1, 10_000)).unwrap_or(80);
    TtySize { columns: clamp(columns), rows: clamp(rows) }
}
