//! `plimsoll exec`: a process in a sandbox joined to this terminal.

use super::{args::ExecArgs, parse};
use anyhow::{Context as _, Result};
use plimsoll_client::{
    Client, ExecEvent, ExecInput, ExecOutput,
    wire::{ExecRequest, SecretMap, TtySize},
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal as _, Write as _};
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Pieces of input on their way; a slow sandbox holds the terminal up instead of filling memory.
const INPUT_PIECES: usize = 16;

/// Runs it; the exit code is the command's own.
pub async fn run(client: &Client, args: &ExecArgs) -> Result<u8> {
    let terminal = args.tty && std::io::stdin().is_terminal();
    let request = ExecRequest {
        argv: args.argv.clone(),
        cwd: args.workdir.clone(),
        user: args.user.clone(),
        env: SecretMap(variables(args)?),
        time_limit_s: time_limit(args)?,
        tty: args.tty.then(window),
        interactive: args.interactive,
        ..ExecRequest::default()
    };
    let (input, output) = client.exec_stream(args.sandbox, &request).await?;
    let raw = (terminal && args.interactive).then(RawTerminal::enter).transpose()?;
    let ended = join(input, output, args.interactive, args.tty).await;
    drop(raw);
    let (code, timed_out) = ended?;
    if timed_out {
        super::print::note("the command was killed at its time limit");
    }
    Ok(u8::try_from(code).unwrap_or(255))
}

fn variables(args: &ExecArgs) -> Result<std::collections::BTreeMap<String, String>> {
    let mut variables = parse::variables(args.env.iter().map(String::as_str)).context("--env")?;
    if args.tty && !variables.contains_key("TERM") {
        variables.insert("TERM".into(), std::env::var("TERM").unwrap_or_else(|_| "xterm".into()));
    }
    Ok(variables)
}

fn time_limit(args: &ExecArgs) -> Result<Option<u64>> {
    let limit = args.time_limit.as_deref().map(parse::duration).transpose().context("--time-limit")?;
    Ok(limit.map(|limit| limit.as_secs().max(1)))
}

/// This terminal's size, or the classic one where there is none.
fn window() -> TtySize {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => TtySize { columns: size.ws_col, rows: size.ws_row },
        Ok(_) | Err(_) => TtySize { columns: 80, rows: 24 },
    }
}

/// Copies both ways until the process ends.
async fn join(mut input: ExecInput, mut output: ExecOutput, interactive: bool, tty: bool) -> Result<(i64, bool)> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(INPUT_PIECES);
    // Reading a terminal cannot be cancelled: the task ends with the process, after the last output is out.
    let reader = interactive.then(|| tokio::spawn(read_stdin(sender.clone())));
    drop(sender);
    let mut resized = signal(SignalKind::window_change()).context("cannot watch the terminal's size")?;
    let (mut stdin_open, mut input_alive) = (interactive, true);
    let ended = loop {
        tokio::select! {
            event = output.next() => match event? {
                Some(ExecEvent::Stdout(data)) => write(&mut std::io::stdout(), &data)?,
                Some(ExecEvent::Stderr(data)) => write(&mut std::io::stderr(), &data)?,
                Some(ExecEvent::Exit { code, timed_out }) => break (code, timed_out),
                None => anyhow::bail!("the stream ended without an exit code; the node or the host may be gone"),
            },
            piece = pieces.recv(), if stdin_open && input_alive => match piece {
                Some(piece) => input_alive = input.write(&piece).await.is_ok(),
                None => { stdin_open = false; input_alive = tty || input.close_stdin().await.is_ok(); }
            },
            _ = resized.recv(), if tty && input_alive => {
                let size = window();
                input_alive = input.resize(size.columns, size.rows).await.is_ok();
            }
        }
    };
    if let Some(reader) = reader {
        reader.abort();
    }
    Ok(ended)
}

fn write(to: &mut impl std::io::Write, data: &[u8]) -> Result<()> {
    Ok(to.write_all(data).and_then(|()| to.flush())?)
}

async fn read_stdin(sender: mpsc::Sender<Vec<u8>>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 << 10];
    while let Ok(read @ 1..) = stdin.read(&mut buffer).await {
        if sender.send(buffer[..read].to_vec()).await.is_err() {
            return;
        }
    }
}

/// A terminal that passes every key on; put back as it was when dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("cannot read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("cannot set the terminal's mode")?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        let _ = std::io::stderr().flush();
    }
}
