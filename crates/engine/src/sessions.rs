//! What is open into sandboxes through this node: processes, streams, transfers. It is counted here and reported to the leader, for
//! which an open session is work. Nothing here keeps a sandbox running by itself.

use crate::{
    node::Node,
    questions::{Question, Touched, encode},
};
use futures_util::StreamExt;
use plimsoll_lifecycle::ports::{ByteStream, ExecControl, ExecSession, HostError, TtySize};
use plimsoll_types::SandboxId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{self, MissedTickBehavior},
};

/// How often open sessions are reported.
pub(crate) const REPORT: Duration = Duration::from_secs(2);
/// The least time between two reports: a session that begins is reported at once, a storm of them together.
const PAUSE: Duration = Duration::from_millis(200);
/// Most sandboxes in one report, some 50 bytes each; the others follow in the next one.
const REPORTED: usize = 4096;
/// How long a report may take; the next one says the same again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sessions by sandbox. An entry without open ones stays until it was reported.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<SandboxId, u32>>,
    begun: Notify,
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<SandboxId, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was open since the last report, with how many are open now.
    fn take(&self) -> Vec<(SandboxId, u32)> {
        let mut open = self.open();
        let taken: Vec<_> = open.iter().take(REPORTED).map(|(id, count)| (*id, *count)).collect();
        open.retain(|id, count| *count > 0 || taken.binary_search_by_key(id, |(taken, _)| *taken).is_err());
        taken
    }
}

/// Something open into a sandbox; it ends when this is dropped.
pub(crate) struct Session {
    node: Arc<Node>,
    sandbox: SandboxId,
}

impl Session {
    pub(crate) fn begin(node: &Arc<Node>, sandbox: SandboxId) -> Self {
        {
            let mut open = node.sessions.open();
            let count = open.entry(sandbox).or_default();
            *count = count.saturating_add(1);
        }
        node.sessions.begun.notify_one();
        Self { node: Arc::clone(node), sandbox }
    }

    /// The stream, open as long as it is read.
    pub(crate) fn stream(self, stream: ByteStream) -> ByteStream {
        Box::pin(stream.map(move |item| {
            let _open = &self;
            item
        }))
    }

    /// The process, open until both halves are dropped.
    pub(crate) fn exec(self, session: ExecSession) -> ExecSession {
        let (shared, events) = (Arc::new(self), session.events);
        let control = Box::new(Held { control: session.control, _open: Arc::clone(&shared) });
        let events = Box::pin(events.map(move |item| {
            let _open = &shared;
            item
        }));
        ExecSession { events, control }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(count) = self.node.sessions.open().get_mut(&self.sandbox) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The way into a process, and the session it belongs to.
struct Held {
    control: Box<dyn ExecControl>,
    _open: Arc<Session>,
}

#[async_trait::async_trait]
impl ExecControl for Held {
    async fn write(&mut self, data: bytes::Bytes) -> Result<(), HostError> {
        self.control.write(data).await
    }

    async fn close_stdin(&mut self) -> Result<(), HostError> {
        self.control.close_stdin().await
    }

    async fn resize(&mut self, size: TtySize) -> Result<(), HostError> {
        self.control.resize(size).await
    }

    async fn kill(&mut self) -> Result<(), HostError> {
        self.control.kill().await
    }
}

/// Reports until dropped, on every node: the leader counts its own node's sessions as any other's.
pub(crate) async fn report(node: Arc<Node>) {
    let mut tick = time::interval(REPORT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.sessions.begun.notified() => {}
        }
        let taken = node.sessions.take();
        let sandboxes = node.read(|state| {
            let pauses = |id| state.sandboxes.get(id).is_some_and(|it| it.spec.idle_timeout.is_some());
            taken.iter().filter(|(id, _)| pauses(id)).copied().collect::<Vec<_>>()
        });
        if sandboxes.is_empty() {
            continue;
        }
        let question = Question::Touch(Touched { node: node.ledger.node(), sandboxes });
        let told = async { Ok::<_, crate::Error>(node.ledger.ask_leader(encode(&question)?).await?) };
        match time::timeout(PATIENCE, told).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "open sessions could not be reported"),
            Err(_) => tracing::debug!("open sessions could not be reported within {PATIENCE:?}"),
        }
        time::sleep(PAUSE).await;
    }
}
