//! A process somebody listens and talks to: what `exec` answers with.

use super::{
    control::Control,
    kill::{self, Target, Unheard},
    pump,
    start::{self, Spec, Started, Writer},
};
use crate::{access::Class, docker::Api, error, limits};
use futures_util::stream;
use plimsoll_lifecycle::ports::{ExecEvent, ExecRequest, ExecSession, HostError};
use plimsoll_types::Code;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, mpsc};

/// Pieces of output (at most 32 KiB each) between the host and the reader: enough to keep both busy.
const PIECES: usize = 8;

/// What both halves of a session share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    /// Docker's id of the exec.
    pub(crate) id: String,
    /// Whether the process is known to have ended.
    pub(crate) ended: AtomicBool,
    /// Set by whoever wants it dead.
    pub(crate) kill: tokio::sync::Notify,
    /// The way to its stdin; taken when that is closed or the process has ended.
    pub(crate) writer: Mutex<Option<Writer>>,
}

/// Starts a process in a running container.
pub(crate) async fn open(api: &Arc<Api>, container: &str, request: ExecRequest) -> Result<ExecSession, HostError> {
    check(&request.argv, &request.env)?;
    let marker = kill::marker();
    let mut env: Vec<String> = request.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    env.push(kill::entry(&marker));
    let spec = Spec {
        argv: request.argv,
        env,
        cwd: request.cwd,
        user: request.user.clone(),
        tty: request.tty,
        stdin: request.stdin,
    };
    let target =
        Target { api: Arc::clone(api), container: container.to_owned(), user: request.user, marker, exec: None };
    let unheard = Unheard::new(target.clone());
    let starting = start::start(api, Class::Stream, container, spec);
    let started = match limits::within(&api.name, "exec", limits::EXEC_START, starting).await {
        Ok(started) => started,
        Err(error) => {
            if kill::never_began(&error) {
                unheard.settled();
            }
            return Err(error);
        }
    };
    let Started { id, reader, writer, frames } = started;
    let target = Target { exec: Some(id.clone()), ..target };
    let shared = Arc::new(Shared {
        target,
        id,
        ended: AtomicBool::new(false),
        kill: tokio::sync::Notify::new(),
        writer: Mutex::new(Some(writer)),
    });
    let (sender, receiver) = mpsc::channel(PIECES);
    // From here on the pump watches over it.
    unheard.settled();
    tokio::spawn(pump::pump(Arc::clone(&shared), reader, frames, sender, request.time_limit));
    let guard = Arc::new(Guard(Arc::clone(&shared)));
    let control = Control::new(shared, Arc::clone(&guard), request.stdin, request.tty.is_some());
    Ok(ExecSession { events: Box::pin(stream::unfold((receiver, guard), next)), control: Box::new(control) })
}

type Events = mpsc::Receiver<Result<ExecEvent, HostError>>;

async fn next(
    (mut receiver, guard): (Events, Arc<Guard>),
) -> Option<(Result<ExecEvent, HostError>, (Events, Arc<Guard>))> {
    let event = receiver.recv().await?;
    Some((event, (receiver, guard)))
}

/// Kills the process when the last half of its session is dropped.
pub(crate) struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.0.ended.load(Ordering::Acquire) {
            self.0.kill.notify_one();
        }
    }
}

fn check(argv: &[String], env: &BTreeMap<String, String>) -> Result<(), HostError> {
    let nul = argv.iter().chain(env.keys()).chain(env.values()).any(|text| text.contains('\0'));
    let name = env.keys().any(|name| name.is_empty() || name.contains('='));
    if nul || name {
        let text = "arguments and environment must not contain NUL bytes, and names of variables no '='";
        return Err(error::permanent(Code::InvalidRequest, text));
    }
    Ok(())
}
