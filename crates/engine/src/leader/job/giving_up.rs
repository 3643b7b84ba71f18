//! A create that its host did not do: tried again, moved to another host, or failed with the code of its last real cause.

use super::{Create, Ending, Stop, Trouble, View};
use crate::leader::{
    desk::{Ask, MoveWish, ask},
    takedown,
};
use plimsoll_lifecycle::ports::{HostDriver, HostError, HostFailure};
use plimsoll_types::{Code, Health, Phase};
use std::sync::atomic::Ordering;

/// Hosts an incarnation is tried on before the sandbox fails: one bad host is common, three in a row is the request's fault.
const HOSTS_TRIED: u64 = 3;
/// Failures of the passing kind on one host before it is taken for the host's own.
const PASSING_FAILURES: u32 = 5;

impl Create<'_> {
    pub(super) async fn failed(&self, driver: &dyn HostDriver, trouble: Trouble) -> Ending {
        let View { sandbox, host, .. } = self.view;
        let error = &trouble.error;
        tracing::warn!(sandbox = %sandbox.id, host = %host.name, code = %error.code, %error, "create failed");
        crate::metrics::create_failed(error.code);
        if sandbox.phase == Phase::Lost {
            // What stands there is all there is of it: never removed, tried again for as long as it takes.
            return Ending::Refused(trouble);
        }
        let ended = match error.failure {
            HostFailure::Unreachable => Ending::Again,
            HostFailure::Transient if self.past.failures < PASSING_FAILURES => Ending::Again,
            HostFailure::Transient | HostFailure::ThisHost => match takedown::clear(driver, self.view).await {
                Ok(()) => self.leave(error).await,
                Err(_) => Ending::Again,
            },
            HostFailure::Permanent => self.give_up(error.clone()).await,
        };
        match ended {
            Ending::Done | Ending::Again => Ending::Refused(trouble),
            other => other,
        }
    }

    /// What is said when the time is over: what a host said last, where that explains it.
    pub(super) fn late(&self) -> HostError {
        let (name, budget) = (&self.view.host.name, self.allowed());
        match &self.past.last {
            Some(last) if last.failure != HostFailure::Unreachable => {
                let message = format!("{}; given up after {budget:?}", last.message);
                HostError::new(HostFailure::Permanent, last.code, message)
            }
            Some(HostError { message, .. }) => {
                let message = format!("it did not run on {name} within {budget:?}: {message}");
                HostError::new(HostFailure::Permanent, Code::Timeout, message)
            }
            None => {
                let message = format!("it did not run on {name} within {budget:?}");
                HostError::new(HostFailure::Permanent, Code::Timeout, message)
            }
        }
    }

    /// Goes to another host; fails with the cause if there is none left. Nothing of it may be left on this one.
    pub(super) async fn leave(&self, cause: &HostError) -> Ending {
        let View { sandbox, host, .. } = self.view;
        let mut avoid: Vec<_> = self.past.tried.iter().copied().collect();
        avoid.push(host.id);
        let mut elsewhere = String::new();
        avoid.sort_unstable();
        avoid.dedup();
        let tries_left = sandbox.started_at.is_some() || sandbox.generation.0 < HOSTS_TRIED;
        if tries_left && (avoid.len() as u64) < HOSTS_TRIED {
            let wish = MoveWish { sandbox: sandbox.id, generation: sandbox.generation, avoid };
            match ask(self.desk, |reply| Ask::Move(wish, reply)).await {
                Ok(Ok(())) => return Ending::Done,
                Ok(Err(error)) if error.code == Code::NoCapacity => elsewhere = error.message,
                Ok(Err(error)) | Err(error) if self.left().is_some() => {
                    tracing::debug!(sandbox = %sandbox.id, %error, "no other host yet");
                    return Ending::Again;
                }
                Ok(Err(error)) | Err(error) => elsewhere = error.message,
            }
        }
        if host.health != Health::Ready && sandbox.phase == Phase::Assigned && self.left().is_some() {
            // Its own host may be back before its budget ends.
            return Ending::Again;
        }
        let reason = format!("{}: {}{}", cause.code, cause.message, self.others(&elsewhere));
        self.fail(&reason, true).await
    }

    /// What became of the other hosts, as the end of a sentence.
    fn others(&self, elsewhere: &str) -> String {
        let tried = self.node.read(|state| {
            let others = self.past.tried.iter().filter(|id| **id != self.view.host.id);
            others.filter_map(|id| state.hosts.get(id)).map(|host| host.name.to_string()).collect::<Vec<_>>()
        });
        let mut text = String::new();
        if !tried.is_empty() {
            text = format!("; also tried {}", tried.join(", "));
        }
        if !elsewhere.is_empty() {
            text = format!("{text}; {elsewhere}");
        }
        text
    }

    /// Fails it for good. What is left on the host keeps the reservation until it could be removed.
    pub(super) async fn give_up(&self, error: HostError) -> Ending {
        let untouched = !self.begun.load(Ordering::Relaxed);
        let reachable = self.view.host.health == Health::Ready;
        let driver = self.node.drivers.of(&self.view.host);
        let clean = untouched || (reachable && takedown::clear(driver.as_ref(), self.view).await.is_ok());
        self.fail(&format!("{}: {}{}", error.code, error.message, self.others("")), clean).await
    }

    /// One that has a snapshot to come back from does not fail: it is paused again, or goes on trying to be restored.
    async fn fail(&self, reason: &str, release: bool) -> Ending {
        let sandbox = &self.view.sandbox;
        let resumes = sandbox.base.is_some() && sandbox.started_at.is_some();
        let to = match sandbox.phase {
            Phase::Lost | Phase::Restoring => return Ending::Again,
            Phase::Assigned | Phase::Starting if resumes => Phase::Paused,
            Phase::Pending
            | Phase::Assigned
            | Phase::Starting
            | Phase::Running
            | Phase::Pausing
            | Phase::Paused
            | Phase::Migrating
            | Phase::Failed
            | Phase::Terminating
            | Phase::Terminated => Phase::Failed,
        };
        match self.advance(to, None, Vec::new(), reason, release).await {
            Ok(()) => Ending::Done,
            Err(Stop::Moved | Stop::Behind | Stop::Late | Stop::Host(_)) => Ending::Later,
            Err(Stop::Ledger(_)) => Ending::Again,
        }
    }
}
