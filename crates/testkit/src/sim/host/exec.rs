//! Processes in a simulated container: `true`, `false`, `echo …`, `cat`, `sleep n`, `exit n`; anything else is no program.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use plimsoll_lifecycle::ports::{ExecControl, ExecEvent, ExecRequest, ExecSession, HostError, HostFailure, TtySize};
use plimsoll_types::Code;
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time,
};

/// How much a process may have said or been told without anybody listening, in pieces.
const PIECES: usize = 16;

/// A program that the interpreter knows.
enum Program {
    Exit(i64),
    Echo(String),
    Cat,
    Sleep(Duration),
}

impl Program {
    fn parse(argv: &[String]) -> Option<Self> {
        let words: Vec<_> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["true"] => Some(Self::Exit(0)),
            ["false"] => Some(Self::Exit(1)),
            ["exit", code] => code.parse().ok().map(Self::Exit),
            ["cat"] => Some(Self::Cat),
            ["sleep", seconds] => seconds.parse().ok().map(Duration::from_secs).map(Self::Sleep),
            ["echo", rest @ ..] => Some(Self::Echo(format!("{}\n", rest.join(" ")))),
            _ => None,
        }
    }
}

fn ended() -> HostError {
    HostError::new(HostFailure::Permanent, Code::ExecFailed, "the process has ended")
}

/// Starts a process; it ends when both halves of the session are dropped.
pub(super) fn start(request: &ExecRequest) -> Result<ExecSession, HostError> {
    let program = Program::parse(&request.argv).ok_or_else(|| {
        let name = request.argv.first().map_or("", String::as_str);
        HostError::new(HostFailure::Permanent, Code::ExecFailed, format!("{name}: no such program"))
    })?;
    let (say, events) = mpsc::channel(PIECES);
    let (stdin, input) = mpsc::channel(PIECES);
    let (kill, killed) = watch::channel(false);
    if !request.stdin {
        drop(input);
        tokio::spawn(supervise(program, None, say, killed, request.time_limit));
    } else {
        tokio::spawn(supervise(program, Some(input), say, killed, request.time_limit));
    }
    let events =
        stream::unfold(events, |mut events| async move { events.recv().await.map(|event| (Ok(event), events)) });
    let control = SimExec { stdin: Some(stdin), kill, tty: request.tty.is_some() };
    Ok(ExecSession { events: Box::pin(events), control: Box::new(control) })
}

async fn supervise(
    program: Program,
    input: Option<mpsc::Receiver<Bytes>>,
    say: mpsc::Sender<ExecEvent>,
    mut killed: watch::Receiver<bool>,
    time_limit: Option<Duration>,
) {
    let limit = async {
        match time_limit {
            Some(limit) => time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let killing = async {
        // A dropped control only closes stdin; the process goes on as long as somebody listens.
        if killed.wait_for(|killed| *killed).await.is_err() {
            say.closed().await;
        }
    };
    let (code, timed_out) = tokio::select! {
        code = run(program, input, &say) => (code, false),
        () = limit => (137, true),
        () = killing => (137, false),
    };
    // Nobody listens any more: the process is over all the same.
    let _unheard = say.send(ExecEvent::Exit { code, timed_out }).await;
}

async fn run(program: Program, input: Option<mpsc::Receiver<Bytes>>, say: &mpsc::Sender<ExecEvent>) -> i64 {
    match program {
        Program::Exit(code) => code,
        Program::Echo(text) => i64::from(say.send(ExecEvent::Stdout(text.into())).await.is_err()),
        Program::Sleep(duration) => {
            time::sleep(duration).await;
            0
        }
        Program::Cat => {
            let Some(mut input) = input else { return 0 };
            while let Some(piece) = input.recv().await {
                if say.send(ExecEvent::Stdout(piece)).await.is_err() {
                    return 1;
                }
            }
            0
        }
    }
}

struct SimExec {
    stdin: Option<mpsc::Sender<Bytes>>,
    kill: watch::Sender<bool>,
    tty: bool,
}

#[async_trait]
impl ExecControl for SimExec {
    async fn write(&mut self, data: Bytes) -> Result<(), HostError> {
        match &self.stdin {
            Some(stdin) => stdin.send(data).await.map_err(|_| ended()),
            None => Err(ended()),
        }
    }

    async fn close_stdin(&mut self) -> Result<(), HostError> {
        self.stdin = None;
        Ok(())
    }

    async fn resize(&mut self, _size: TtySize) -> Result<(), HostError> {
        if self.tty {
            Ok(())
        } else {
            Err(HostError::new(HostFailure::Permanent, Code::InvalidRequest, "it has no terminal"))
        }
    }

    async fn kill(&mut self) -> Result<(), HostError> {
        self.kill.send_replace(true);
        Ok(())
    }
}
