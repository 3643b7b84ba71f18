//! One node's line to a simulated host: where latency, deadlines and mishaps happen.

use super::{Docker, HostOp, Inner, Mishap, Moment, SimHost, faults};
use crate::sim::Lifeline;
use plimsoll_lifecycle::ports::{Clock, HostError, HostFailure};
use plimsoll_types::{Code, NodeId, Timestamp};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use tokio::time;

/// How long it takes to find that a host does not answer.
const CONNECT: Duration = Duration::from_secs(1);

/// Who asks a host: a node's process, with the key it expects. Clones are the same line.
#[derive(Clone)]
pub(in crate::sim) struct Line {
    pub(in crate::sim) host: SimHost,
    pub(in crate::sim) node: Option<NodeId>,
    pub(in crate::sim) life: Lifeline,
    pub(in crate::sim) key: Option<String>,
}

/// What a request does to the daemon.
type Work<T> = Arc<dyn Fn(&mut Docker, Timestamp) -> Result<T, HostError> + Send + Sync>;

/// What is to become of a request.
struct Request {
    mishap: Option<Mishap>,
    latency: Duration,
    heals: u64,
}

fn unreachable(host: &str, what: &str) -> HostError {
    HostError::new(HostFailure::Unreachable, Code::SshUnreachable, format!("{host}: {what}"))
}

fn injected(failure: HostFailure, host: &str, op: HostOp) -> HostError {
    let code = match failure {
        HostFailure::Unreachable => Code::SshUnreachable,
        HostFailure::Transient => Code::Timeout,
        HostFailure::ThisHost => Code::PortClash,
        HostFailure::Permanent => Code::InvalidRequest,
    };
    HostError::new(failure, code, format!("{host}: {op:?} failed, as the script says"))
}

impl Line {
    /// Does something on the host, with all that may go wrong; never answers a dead process.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        op: HostOp,
        body: impl Fn(&mut Docker, Timestamp) -> Result<T, HostError> + Send + Sync + 'static,
    ) -> Result<T, HostError> {
        self.life.guard(self.serve(op, Arc::new(body))).await
    }

    async fn serve<T: Send + 'static>(&self, op: HostOp, body: Work<T>) -> Result<T, HostError> {
        let name = self.host.name();
        if !self.connected() {
            time::sleep(CONNECT).await;
            return Err(unreachable(name, "does not answer"));
        }
        self.check_key()?;
        let request = self.accept(op);
        match request.mishap {
            Some(Mishap::FailBefore(failure)) => {
                time::sleep(request.latency).await;
                return Err(injected(failure, name, op));
            }
            Some(Mishap::Unreachable) => {
                time::sleep(CONNECT).await;
                return Err(unreachable(name, "does not answer"));
            }
            Some(Mishap::Panic) => panic!("{name}: {op:?} panics, as the script says"),
            Some(Mishap::FailAfter | Mishap::Hang | Mishap::Slow(_) | Mishap::Twice) | None => {}
        }
        let answer_lost = request.mishap == Some(Mishap::FailAfter);
        let working = tokio::spawn(work(self.host.clone(), op, request, body));
        let answer = match time::timeout(op.deadline(), working).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err(unreachable(name, "the connection broke")),
            Err(_) => {
                return Err(HostError::new(
                    HostFailure::Unreachable,
                    Code::Timeout,
                    format!("{name}: no answer in time"),
                ));
            }
        };
        if answer_lost || !self.connected() {
            return Err(unreachable(name, "the connection broke before the answer"));
        }
        answer
    }

    fn connected(&self) -> bool {
        self.host.with(|inner| !inner.down && self.node.is_none_or(|node| !inner.cut.contains(&node)))
    }

    fn check_key(&self) -> Result<(), HostError> {
        let shown = self.host.key();
        match &self.key {
            Some(pinned) if *pinned != shown => {
                let message = format!("{} shows the key {shown} instead of {pinned}", self.host.name());
                Err(HostError::new(HostFailure::Unreachable, Code::HostKeyChanged, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn accept(&self, op: HostOp) -> Request {
        let heals = *self.host.machine.heals.borrow();
        self.host.with(|inner| {
            *inner.calls.entry(op).or_default() += 1;
            let Inner { faults, rng, .. } = inner;
            let mishap = faults::draw(faults, rng, op);
            let slowest = if HostOp::MUTATING.contains(&op) { 250 } else { 20 };
            let mut latency = Duration::from_millis(rng.random_range(1..slowest));
            if let Some(Mishap::Slow(more)) = mishap {
                latency += more;
            }
            if matches!(op, HostOp::Push | HostOp::Pull) {
                latency += inner.docker.registry.delay();
            }
            if matches!(mishap, Some(Mishap::Slow(_) | Mishap::Hang)) {
                inner.docker.disturb();
            }
            Request { mishap, latency, heals }
        })
    }
}

/// The host's side of a request.
async fn work<T>(host: SimHost, op: HostOp, request: Request, body: Work<T>) -> Result<T, HostError> {
    // Half of the time passes on the way there, half on the way back.
    time::sleep(request.latency / 2).await;
    if request.mishap == Some(Mishap::Hang) {
        let mut heals = host.machine.heals.subscribe();
        // The sender lives as long as the host, so waiting cannot fail.
        let _closed = heals.wait_for(|heals| *heals > request.heals).await;
    }
    host.run_hooks(op, Moment::Before);
    if host.with(|inner| inner.down) {
        return Err(unreachable(host.name(), "the connection broke"));
    }
    let now = host.machine.clock.now();
    let mut answer = host.with(|inner| body(&mut inner.docker, now));
    if request.mishap == Some(Mishap::Twice) {
        answer = host.with(|inner| body(&mut inner.docker, now));
    }
    host.run_hooks(op, Moment::After);
    time::sleep(request.latency / 2).await;
    answer
}

impl SimHost {
    fn run_hooks(&self, op: HostOp, moment: Moment) {
        // Taken out first: a hook may look at the host.
        let hooks = self.with(|inner| inner.hooks.remove(&(op, moment))).unwrap_or_default();
        for hook in hooks {
            hook();
        }
    }
}
