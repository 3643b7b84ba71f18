//! What a create commits of its progress.

use super::{Create, Stop};
use crate::leader::{
    desk::{Ask, RestoreWish, ask},
    ready::endpoints,
};
use plimsoll_lifecycle::ports::ContainerSeen;
use plimsoll_state::{Command, command::Advance};
use plimsoll_types::{Code, Endpoint, Phase};
use std::sync::atomic::Ordering;

impl Create<'_> {
    pub(super) async fn commit(&self, phase: Phase, reason: &str) -> Result<(), Stop> {
        // Also if the answer is lost: it may have been committed, and another leader may act on it.
        self.begun.store(true, Ordering::Relaxed);
        self.advance(phase, None, Vec::new(), reason, false).await
    }

    pub(super) async fn commit_running(&self, made: Option<&ContainerSeen>) -> Result<(), Stop> {
        let Some(seen) = made else { return Err(Stop::Moved) };
        let endpoints = endpoints(&self.view.host, &self.view.sandbox.spec.ports, seen);
        self.advance(Phase::Running, Some(seen.id.as_str().into()), endpoints, "", false).await?;
        let sandbox = &self.view.sandbox;
        let took = self.node.now().since(sandbox.created_at);
        crate::metrics::created(took);
        tracing::info!(sandbox = %sandbox.id, host = %self.view.host.name, container = %seen.id, took_ms = took.0, "running");
        Ok(())
    }

    pub(super) async fn advance(
        &self,
        to: Phase,
        container: Option<Box<str>>,
        endpoints: Vec<Endpoint>,
        reason: &str,
        release: bool,
    ) -> Result<(), Stop> {
        let sandbox = &self.view.sandbox;
        let at = self.node.now();
        let news = Advance {
            sandbox: sandbox.id,
            generation: sandbox.generation,
            to,
            container,
            endpoints,
            release,
            reason: reason.into(),
            at,
        };
        match self.node.commit_one(Command::Advance(vec![news])).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => {
                tracing::debug!(sandbox = %sandbox.id, %to, ?refusal, "state has moved on");
                Err(Stop::Moved)
            }
            Err(error) => Err(Stop::Ledger(error)),
        }
    }

    /// A lost sandbox whose host came back without its container: it begins again from its newest snapshot, or has failed.
    pub(super) async fn gone(&self, reason: &str) -> Result<(), Stop> {
        let sandbox = &self.view.sandbox;
        let newest = self.node.read(|state| state.newest_snapshot(sandbox.id).map(|snapshot| snapshot.id));
        let Some(snapshot) = newest else {
            let reason = format!("{}: {reason}", Code::StartFailed);
            return self.advance(Phase::Failed, None, Vec::new(), &reason, true).await;
        };
        let wish = RestoreWish { sandbox: sandbox.id, snapshot, last_seen: sandbox.phase_since };
        match ask(self.desk, |reply| Ask::Restore(wish, reply)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(sandbox = %sandbox.id, code = %error.code, %error, "cannot be restored yet");
                Err(Stop::Behind)
            }
        }
    }
}
