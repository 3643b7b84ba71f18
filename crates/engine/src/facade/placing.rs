//! Ensure, create and explain: a request is checked, its secrets are sealed, and the leader is asked to place it.

use super::{VpsClusterProvider, misunderstood, resuming::Revival};
use crate::{
    Error,
    questions::{Answer, PlaceAnswer, PlaceWish, Question},
    request::{Explained, NewSandbox, Provided, Scope, Wait, no_such_sandbox},
    spec,
};
use plimsoll_state::{Command, Sandbox, command::Terminate};
use plimsoll_types::{Code, Phase, SandboxId, SandboxSpec, SessionId};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often ensure begins anew when the live sandbox it found ended while it waited.
const ENSURE_TRIES: u32 = 3;
/// How long a session's failed sandbox may take to make room for the next; a takedown has 30 s on its host.
const MAKING_ROOM: Duration = Duration::from_secs(30);
/// How long news of a placement may take from the leader before everything is waited for instead: many heartbeats.
const ARRIVAL: Duration = Duration::from_secs(2);

impl VpsClusterProvider {
    pub(super) async fn ensure_sandbox(&self, mut request: NewSandbox, wait: Wait) -> Result<Provided, Error> {
        spec::check(&request)?;
        let began = Instant::now();
        let mut tries = 1;
        loop {
            let (id, created) = match self.live(&request).await? {
                Some(live) => (live, false),
                None => match self.anew(&mut request, wait.left(began)).await? {
                    PlaceAnswer::Created(id) => (id, true),
                    PlaceAnswer::SessionLive(id) => (id, false),
                    PlaceAnswer::Replayed(id) => return self.replayed(id, &request, wait.left(began)).await,
                },
            };
            match self.provided(id, created, &request, wait.left(began)).await {
                // It was somebody else's, and ended before it ran: the session is free for one of our own.
                Err(_) if !created && tries < ENSURE_TRIES && !self.is_live(id) => tries += 1,
                answer => return answer,
            }
        }
    }

    pub(super) async fn create_sandbox(&self, mut request: NewSandbox, wait: Wait) -> Result<Provided, Error> {
        spec::check(&request)?;
        let began = Instant::now();
        match self.anew(&mut request, wait).await? {
            PlaceAnswer::Created(id) => self.provided(id, true, &request, wait.left(began)).await,
            PlaceAnswer::Replayed(id) => self.replayed(id, &request, wait.left(began)).await,
            PlaceAnswer::SessionLive(id) => {
                let message =
                    format!("the session already has the live sandbox {id}; use ensure, or terminate it first");
                Err(Error::new(Code::SessionLive, message).about(id))
            }
        }
    }

    pub(super) async fn explain_placement(&self, request: &NewSandbox) -> Result<Explained, Error> {
        spec::check(request)?;
        let question = Question::Explain { tenant: request.tenant.clone(), spec: Arc::new(request.spec.clone()) };
        match self.ask(&question).await? {
            Answer::Explained(it) => Ok(Explained { chosen: it.chosen, sentence: it.sentence, hosts: it.hosts }),
            Answer::Placed(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Awake(_)
            | Answer::Noted
            | Answer::Left(_)
            | Answer::Moves(_)
            | Answer::Error(_) => Err(misunderstood()),
        }
    }

    /// The session's live sandbox, as of now. `None` also where this node knows of none: the leader, which is asked for a new one
    /// then, says if there is. Only a start from a snapshot is judged here first, and must not be if the session lives.
    async fn live(&self, request: &NewSandbox) -> Result<Option<SandboxId>, Error> {
        let Some(session) = &request.session else { return Ok(None) };
        let find = || self.node.read(|state| state.live_sandbox(&request.tenant, session).map(|live| live.id));
        if find().is_none() && request.spec.snapshot.is_none() {
            return Ok(None);
        }
        self.barrier().await?;
        Ok(find())
    }

    fn is_live(&self, id: SandboxId) -> bool {
        self.node.read(|state| state.sandboxes.get(&id).is_some_and(|sandbox| sandbox.phase.is_live()))
    }

    /// Places a sandbox that starts from its image, or from a snapshot that this tenant has: then its image is that one's.
    async fn anew(&self, request: &mut NewSandbox, wait: Wait) -> Result<PlaceAnswer, Error> {
        if let Some(id) = request.spec.snapshot {
            self.registry_there()?;
            let snapshot = self.startable(&Scope::Tenant(request.tenant.clone()), id).await?;
            request.spec.image = snapshot.image.clone();
        }
        self.place_anew(request, wait).await
    }

    /// Places a sandbox; where that finds no room, the session's failed ones, which only keep theirs for their logs, go first.
    async fn place_anew(&self, request: &NewSandbox, wait: Wait) -> Result<PlaceAnswer, Error> {
        let placed = self.place(request).await;
        match &placed {
            Ok(PlaceAnswer::Created(id)) if self.is_queued(*id) => {
                self.dismiss_failed(request).await?;
                placed
            }
            // One without a session of its own succeeds nobody.
            Err(error) if error.code == Code::NoCapacity && request.session.is_some() => {
                self.barrier().await?;
                let failed = self.dismiss_failed(request).await?;
                if failed.is_empty() {
                    return placed;
                }
                let limit = match wait {
                    Wait::No => MAKING_ROOM,
                    Wait::Upto(limit) => limit.min(MAKING_ROOM),
                };
                let gone = async {
                    for id in failed {
                        let _late = self.until_gone(id, Wait::Upto(limit)).await;
                    }
                };
                // One whose host does not answer keeps its room; the next try says what is lacking.
                let _late = tokio::time::timeout(limit, gone).await;
                self.place(request).await
            }
            Ok(_) | Err(_) => placed,
        }
    }

    /// Wants those sandboxes of the session gone that failed and still hold room; answers with them.
    async fn dismiss_failed(&self, request: &NewSandbox) -> Result<Vec<SandboxId>, Error> {
        let Some(session) = &request.session else { return Ok(Vec::new()) };
        let holds = |sandbox: &&Arc<Sandbox>| {
            sandbox.assignment.is_some() && sandbox.tenant == request.tenant && sandbox.session == *session
        };
        // One that is on its way out already is waited for as well.
        let (failed, going): (Vec<SandboxId>, Vec<SandboxId>) = self.node.read(|state| {
            let of = |phase| state.in_phase(phase).filter(holds).map(|sandbox| sandbox.id).collect();
            (of(Phase::Failed), of(Phase::Terminating))
        });
        let at = self.node.now();
        let wish = |sandbox: &SandboxId| Terminate {
            sandbox: *sandbox,
            reason: "its session begins anew".into(),
            if_deadline: None,
            if_phase: Some(Phase::Failed),
            at,
        };
        if !failed.is_empty() {
            self.node.commit(Command::Terminate(failed.iter().map(wish).collect())).await?;
        }
        Ok(failed.into_iter().chain(going).collect())
    }

    fn is_queued(&self, id: SandboxId) -> bool {
        self.node.read(|state| state.sandboxes.get(&id).is_some_and(|sandbox| sandbox.phase == Phase::Pending))
    }

    async fn place(&self, request: &NewSandbox) -> Result<PlaceAnswer, Error> {
        let wish = self.wish(request)?;
        match self.ask(&Question::Place(Box::new(wish))).await? {
            Answer::Placed(answer) => {
                match answer {
                    PlaceAnswer::Created(id) => self.shown(id).await?,
                    // What was there before must be seen as it is now, not as it was when it was made.
                    PlaceAnswer::SessionLive(_) | PlaceAnswer::Replayed(_) => self.barrier().await?,
                }
                Ok(answer)
            }
            Answer::Explained(_)
            | Answer::Loads(_)
            | Answer::Host(_)
            | Answer::Awake(_)
            | Answer::Noted
            | Answer::Left(_)
            | Answer::Moves(_)
            | Answer::Error(_) => Err(misunderstood()),
        }
    }

    /// Returns once this node shows what the leader has just made. The leader answered after a majority had it and it was applied
    /// there, so that no majority has to be asked again: on the leader it is here already, elsewhere it is on its way.
    async fn shown(&self, id: SandboxId) -> Result<(), Error> {
        let arrives = async {
            loop {
                let (seen, there) = self.node.read(|state| (state.applied, state.sandboxes.contains_key(&id)));
                if there {
                    return;
                }
                self.node.ledger.changed(seen).await;
            }
        };
        match tokio::time::timeout(ARRIVAL, arrives).await {
            Ok(()) => Ok(()),
            // This node lags, or the sandbox was forgotten already.
            Err(_) => self.barrier().await,
        }
    }

    /// From here on the secrets are sealed, and asking again is the same request.
    fn wish(&self, request: &NewSandbox) -> Result<PlaceWish, Error> {
        let sandbox = self.node.new_sandbox();
        let session = match &request.session {
            Some(session) => session.clone(),
            None => SessionId::new(&sandbox.to_string())
                .map_err(|error| Error::new(Code::Internal, format!("an id is no session: {error}")))?,
        };
        let sealed_env = self.node.options.secret.seal(sandbox, &request.secret_env)?;
        Ok(PlaceWish {
            sandbox,
            operation: self.node.new_operation(),
            tenant: request.tenant.clone(),
            session,
            spec: Arc::new(SandboxSpec { sealed_env, ..request.spec.clone() }),
            lifetime: request.lifetime,
            queue_timeout: request.queue_timeout,
            idempotency: request.idempotency.clone(),
        })
    }

    /// The sandbox as it runs: brought back if it is not new and stands still.
    async fn provided(
        &self,
        id: SandboxId,
        created: bool,
        request: &NewSandbox,
        wait: Wait,
    ) -> Result<Provided, Error> {
        let how = Revival { to: None, lifetime: request.lifetime, room: request.queue_timeout };
        let (sandbox, recovered) = self.revive(id, how, wait).await?;
        Ok(Provided { sandbox, created, recovered: recovered && !created })
    }

    /// What an idempotency key made, whatever became of it since: only a start is waited for, and nothing is brought back.
    async fn replayed(&self, id: SandboxId, request: &NewSandbox, wait: Wait) -> Result<Provided, Error> {
        let sandbox = self.node.read(|state| state.sandboxes.get(&id).cloned()).ok_or_else(|| no_such_sandbox(id))?;
        if matches!(sandbox.phase, Phase::Pending | Phase::Assigned | Phase::Starting) {
            return self.provided(id, false, request, wait).await;
        }
        Ok(Provided { sandbox, created: false, recovered: false })
    }
}
