//! One log entry of placements: taken from the backlog, decided, proposed, and answered when it was applied.

use super::{BATCH_LIMIT, Committed, DECISIONS, FIRST, Placing, Reply, Wish, request};
use crate::{Error, leader::hold, questions::PlaceAnswer};
use plimsoll_placement::Request;
use plimsoll_state::{Command, Outcome, PlaceOutcome, Refusal, State, command::Place};
use plimsoll_types::{Code, HostId, SandboxId, SessionId, TenantId, sandbox::deadline};
use std::sync::Arc;
use tokio::time::Instant;

/// A placement that waits for its decision.
pub(super) struct Waiting {
    pub(super) wish: Wish,
    pub(super) reply: Reply,
    pub(super) since: Instant,
    /// How often it was decided already.
    pub(super) decisions: u32,
}

/// What may stand only once in the entries under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Session(TenantId, SessionId),
    Idempotency(TenantId, Box<str>),
}

/// What is in an entry under way, and who waits for it.
pub(super) enum Entry {
    Placed(Vec<Waiting>),
    Assigned { sandboxes: Vec<SandboxId>, reply: Option<super::Answer> },
}

impl Waiting {
    fn keys(&self) -> impl Iterator<Item = Key> {
        let tenant = &self.wish.tenant;
        let idempotency = self.wish.idempotency.as_ref().map(|it| Key::Idempotency(tenant.clone(), it.key.clone()));
        std::iter::once(Key::Session(tenant.clone(), self.wish.session.clone())).chain(idempotency)
    }

    fn answer(self, answer: Result<PlaceAnswer, Error>) {
        crate::metrics::placement(&answer, self.since.elapsed());
        // Nobody listening is no error: the caller has gone, and state knows.
        let _gone = self.reply.send(answer);
    }
}

impl Placing {
    /// Decides the oldest placements and proposes them together.
    pub(super) fn propose_batch(&mut self) {
        let count = self.backlog.len().min(BATCH_LIMIT);
        let taken: Vec<Waiting> = self.backlog.drain(..count).collect();
        if let Err(held) = hold::refuse(&self.node) {
            return refuse_all(taken, &held);
        }
        let known: Vec<Option<Result<PlaceAnswer, Error>>> =
            self.node.read(|state| taken.iter().map(|waiting| answered(state, waiting)).collect());
        let now = self.node.now();
        let (mut batch, mut places) = (Vec::new(), Vec::new());
        for (waiting, known) in taken.into_iter().zip(known) {
            if let Some(answer) = known {
                waiting.answer(answer);
                continue;
            }
            if waiting.keys().any(|key| self.busy.contains(&key)) {
                self.parked.push(waiting);
                continue;
            }
            let request = self.request(&waiting.wish);
            let host = self.yard.choose(waiting.wish.sandbox, FIRST, &request);
            if host.is_none() && waiting.wish.queue_timeout.is_none() {
                let refusal = self.yard.refusal(&request);
                tracing::info!(tenant = %waiting.wish.tenant, session = %waiting.wish.session, "{refusal}");
                waiting.answer(Err(Error::new(Code::NoCapacity, refusal.to_string())));
                continue;
            }
            self.busy.extend(waiting.keys());
            places.push(place(&waiting, host, now));
            batch.push(waiting);
        }
        if batch.is_empty() {
            return;
        }
        crate::metrics::batch(batch.len());
        self.propose(Command::Place(places), Entry::Placed(batch));
    }

    /// Only a snapshot needs a look at state.
    fn request(&self, wish: &Wish) -> Request {
        match wish.spec.snapshot {
            None => Request::of(&wish.spec, wish.tenant.clone()),
            base => self.node.read(|state| request(state, &wish.spec, &wish.tenant, base)),
        }
    }

    /// Answers the placements of an entry, or takes them back to be decided anew.
    pub(super) fn land_batch(&mut self, batch: Vec<Waiting>, outcome: Committed) {
        for waiting in &batch {
            self.yard.landed(waiting.wish.sandbox);
            for key in waiting.keys() {
                self.busy.remove(&key);
            }
        }
        for parked in self.parked.drain(..).rev() {
            self.backlog.push_front(parked);
        }
        let outcomes = match outcome {
            Ok(Outcome::Placed(outcomes)) if outcomes.len() == batch.len() => outcomes,
            Ok(Outcome::Refused(refusal)) => return refuse_all(batch, &Error::from(refusal)),
            Ok(
                Outcome::Placed(_) | Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Each(_),
            ) => {
                return refuse_all(batch, &Error::new(Code::Internal, "apply answered something else than placements"));
            }
            // It may be applied later all the same: whoever asks again, with the same ids, gets the same sandbox.
            Err(error) => return refuse_all(batch, &Error::from(error)),
        };
        for (mut waiting, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                PlaceOutcome::Created(id) => waiting.answer(Ok(PlaceAnswer::Created(id))),
                PlaceOutcome::SessionLive(id) => waiting.answer(Ok(PlaceAnswer::SessionLive(id))),
                PlaceOutcome::Replayed(id) => waiting.answer(Ok(PlaceAnswer::Replayed(id))),
                PlaceOutcome::Refused(Refusal::HostChanged | Refusal::HostUnknown) if waiting.decisions < DECISIONS => {
                    waiting.decisions += 1;
                    self.backlog.push_front(waiting);
                }
                PlaceOutcome::Refused(Refusal::HostChanged | Refusal::HostUnknown) => {
                    let request = self.request(&waiting.wish);
                    let refusal = self.yard.refusal(&request);
                    waiting.answer(Err(Error::new(Code::NoCapacity, refusal.to_string())));
                }
                PlaceOutcome::Refused(refusal) => waiting.answer(Err(refusal.into())),
            }
        }
    }
}

/// What state already says to a placement.
fn answered(state: &State, waiting: &Waiting) -> Option<Result<PlaceAnswer, Error>> {
    let wish = &waiting.wish;
    if state.sandboxes.get(&wish.sandbox).is_some_and(|known| known.operation == wish.operation) {
        return Some(Ok(PlaceAnswer::Created(wish.sandbox)));
    }
    if let Some(idempotency) = &wish.idempotency
        && let Some(known) = state.remembered(&wish.tenant, &idempotency.key)
    {
        let same = known.request.request_hash == idempotency.request_hash;
        let answer = PlaceAnswer::Replayed(known.sandbox);
        return Some(if same { Ok(answer) } else { Err(Refusal::IdempotencyMismatch.into()) });
    }
    state.live_sandbox(&wish.tenant, &wish.session).map(|live| Ok(PlaceAnswer::SessionLive(live.id)))
}

fn place(waiting: &Waiting, host: Option<HostId>, now: plimsoll_types::Timestamp) -> Place {
    let wish = &waiting.wish;
    Place {
        sandbox: wish.sandbox,
        tenant: wish.tenant.clone(),
        session: wish.session.clone(),
        spec: Arc::clone(&wish.spec),
        host,
        queue_until: wish.queue_timeout.filter(|_| host.is_none()).map(|timeout| now.plus(timeout)),
        deadline: deadline(now, wish.lifetime),
        lifetime: wish.lifetime,
        idempotency: wish.idempotency.clone(),
        operation: wish.operation,
        at: now,
    }
}

fn refuse_all(batch: Vec<Waiting>, error: &Error) {
    for waiting in batch {
        waiting.answer(Err(error.clone()));
    }
}
