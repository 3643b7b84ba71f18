//! Carries a process's output to its reader, and watches over its end.
//!
//! One task per process. It never reads faster than the reader takes, and it ends: with the process, its time limit, its reader or its
//! host.

use super::{
    kill, run,
    session::Shared,
    start::{self, CHUNK, Reader},
};
use crate::{
    docker::{Channel, Frames},
    error, metrics,
};
use bytes::{Bytes, BytesMut};
use plimsoll_lifecycle::ports::{ExecEvent, HostError};
use plimsoll_types::Code;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How soon a process is looked at whose output is still open: a child in the background may hold it for ever. The wait doubles.
const WATCH: Duration = Duration::from_secs(1);
/// The longest such wait.
const WATCH_MAX: Duration = Duration::from_secs(8);
/// Output of a process that has ended may still be on its way for so long without a pause.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the end of a killed process is waited for.
const DEATH: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<ExecEvent, HostError>>;

/// Why the output is no longer carried.
enum End {
    /// The stream or the process ended.
    Output,
    /// The time limit.
    Time,
    /// Somebody wants it dead; or nobody listens any more.
    Kill,
    /// The host is gone.
    Lost(HostError),
}

pub(crate) async fn pump(shared: Arc<Shared>, reader: Reader, frames: Frames, sender: Sender, limit: Option<Duration>) {
    let _open = metrics::Open::stream(&shared.target.api.name);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut carrier = Carrier { reader, frames, sender: sender.clone(), shared: Arc::clone(&shared) };
    let end = tokio::select! {
        end = carrier.carry() => end,
        () = shared.kill.notified() => End::Kill,
        () = until(deadline) => End::Time,
    };
    let timed_out = matches!(end, End::Time);
    let last = match end {
        End::Lost(lost) => {
            // The process may live on; without its connection nobody can hear it.
            tokio::spawn(kill::kill_in_the_end(shared.target.clone()));
            Err(lost)
        }
        End::Output => tokio::select! {
            code = run::code(&shared.target.api, &shared.id) => code.map(|code| exit(code, false)),
            // Its output is closed and it still runs.
            () = shared.kill.notified() => killed(&shared, &mut carrier, false).await,
            () = until(deadline) => killed(&shared, &mut carrier, true).await,
        },
        End::Time | End::Kill => killed(&shared, &mut carrier, timed_out).await,
    };
    shared.ended.store(true, Ordering::Release);
    // Stdin is closed with the process: a writer that waits for it is freed by the connection's end.
    if let Ok(mut writer) = shared.writer.try_lock() {
        *writer = None;
    }
    drop(carrier);
    // Nobody may listen any more.
    let _ = sender.send(last).await;
}

fn exit(code: i64, timed_out: bool) -> ExecEvent {
    ExecEvent::Exit { code, timed_out }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Kills it, carries what it still said, and tells how it ended.
async fn killed(shared: &Shared, carrier: &mut Carrier, timed_out: bool) -> Result<ExecEvent, HostError> {
    if let Err(error) = kill::kill(&shared.target).await {
        tracing::warn!(host = shared.target.api.name, container = shared.target.container, %error, "a process was not killed yet");
        tokio::spawn(kill::kill_in_the_end(shared.target.clone()));
    }
    if !carrier.sender.is_closed() {
        let _ = tokio::time::timeout(DRAIN, carrier.carry()).await;
    }
    match tokio::time::timeout(DEATH, run::code(&shared.target.api, &shared.id)).await {
        Ok(Ok(code)) => Ok(exit(code, timed_out)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(error::transient(
            Code::Timeout,
            "the process was killed and has not ended; the sandbox may be frozen or waiting for its disk",
        )),
    }
}

struct Carrier {
    reader: Reader,
    frames: Frames,
    sender: Sender,
    shared: Arc<Shared>,
}

impl Carrier {
    /// Carries until the stream ends, or the process has and its children say nothing more.
    async fn carry(&mut self) -> End {
        let mut buffer = BytesMut::new();
        let mut wait = WATCH;
        let mut look = Instant::now() + wait;
        let mut quiet = false;
        loop {
            buffer.reserve(CHUNK);
            let patience = if quiet { Instant::now() + DRAIN } else { look };
            tokio::select! {
                read = self.reader.read_buf(&mut buffer) => match read {
                    Ok(0) => return End::Output,
                    Ok(_) => match self.pass_on(buffer.split().freeze()).await {
                        Ok(()) => {}
                        Err(end) => return end,
                    },
                    Err(error) => return End::Lost(self.broke(&error.to_string())),
                },
                () = sleep_until(patience) => {
                    if quiet {
                        return End::Output;
                    }
                    match start::inspect(&self.shared.target.api, &self.shared.id).await {
                        Ok(found) => quiet = found.running == Some(false),
                        // The stream itself will tell whether the host is gone.
                        Err(error) => tracing::debug!(%error, "a running exec could not be looked at"),
                    }
                    wait = (wait * 2).min(WATCH_MAX);
                    look = Instant::now() + wait;
                }
            }
        }
    }

    async fn pass_on(&mut self, mut input: Bytes) -> Result<(), End> {
        loop {
            match self.frames.next(&mut input) {
                Ok(None) => return Ok(()),
                Ok(Some((channel, piece))) => {
                    let event = match channel {
                        Channel::Stdout => ExecEvent::Stdout(piece),
                        Channel::Stderr => ExecEvent::Stderr(piece),
                    };
                    // Both halves may be gone, or only this one: then what it says is dropped, and it goes on.
                    if self.sender.send(Ok(event)).await.is_err() && Arc::strong_count(&self.shared) <= 2 {
                        return Err(End::Kill);
                    }
                }
                Err(error) => return Err(End::Lost(self.broke(&error.to_string()))),
            }
        }
    }

    fn broke(&self, why: &str) -> HostError {
        let host = &self.shared.target.api.name;
        let text = format!("the connection to the process on host {host} broke: {why}; whether it ended is not known");
        error::unreachable(Code::DockerUnreachable, text)
    }
}
