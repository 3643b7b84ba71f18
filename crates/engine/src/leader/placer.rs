//! The placement loop: requests that arrive while earlier ones are being committed share the next log entry.
//!
//! It is the only place that chooses hosts. What it decides is judged again by apply; a refusal there is decided anew.

mod batch;
mod moves;

use super::{
    desk::Ask,
    hold,
    leading::Leading,
    yard::{Yard, request},
};
use crate::{
    Error,
    node::Node,
    questions::{PlaceAnswer, PlaceWish},
};
use batch::{Entry, Waiting};
use plimsoll_lifecycle::ports::LedgerError;
use plimsoll_state::{Assignment, Command, Outcome, Sandbox, command::Assign};
use plimsoll_types::{Code, Generation, HostId, Phase};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
    time::{self, Instant, MissedTickBehavior},
};

/// Placements in one log entry: larger ones hold up apply, smaller ones cost a flush each.
const BATCH_LIMIT: usize = 256;
/// Log entries under way at once: enough to keep the log busy, few enough for batches to fill up under load.
const ENTRIES_IN_FLIGHT: usize = 4;
/// Placements that wait here for an entry; the rest wait in the desk's channel, and beyond that are refused.
const BACKLOG: usize = 1024;
/// How often one placement is decided anew after apply refused its host.
const DECISIONS: u32 = 5;
/// Sandboxes of the queue that are looked at in one go, oldest first.
const QUEUE_LOOK: usize = 256;
/// A pass at least so often: quarantines end by the clock.
const PERIOD: Duration = Duration::from_secs(1);

/// Why the loop woke.
enum Event {
    Asked(Option<Ask>),
    Landed(Result<(Id, Committed), JoinError>),
    Changed,
}

/// Places until dropped.
pub(crate) async fn run(node: Arc<Node>, leading: Arc<Leading>, asks: &mut mpsc::Receiver<Ask>) {
    let mut placer = Placing::new(Arc::clone(&node), leading);
    let mut tick = time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let seen = placer.pass();
        let room = placer.backlog.len() < BACKLOG;
        let event = tokio::select! {
            ask = asks.recv(), if room => Event::Asked(ask),
            Some(landed) = placer.entries.join_next_with_id(), if !placer.entries.is_empty() => Event::Landed(landed),
            _ = node.ledger.changed(seen) => Event::Changed,
            () = placer.leading.loads.changed.notified() => Event::Changed,
            _ = tick.tick() => Event::Changed,
        };
        match event {
            Event::Asked(None) => return,
            Event::Asked(Some(ask)) => {
                placer.take(ask);
                // Whatever else waits goes along; nothing is waited for.
                while placer.backlog.len() < BACKLOG
                    && let Ok(ask) = asks.try_recv()
                {
                    placer.take(ask);
                }
            }
            Event::Landed(landed) => placer.land(landed),
            Event::Changed => {}
        }
    }
}

struct Placing {
    node: Arc<Node>,
    leading: Arc<Leading>,
    yard: Yard,
    /// Placements to decide, oldest first.
    backlog: VecDeque<Waiting>,
    /// Placements whose session or idempotency key is in an entry under way; bounded with the backlog.
    parked: Vec<Waiting>,
    busy: BTreeSet<batch::Key>,
    entries: JoinSet<Committed>,
    /// What is in each of them; kept here, so that an entry whose task panics is answered and given up like any other.
    under_way: HashMap<Id, Entry>,
}

impl Placing {
    fn new(node: Arc<Node>, leading: Arc<Leading>) -> Self {
        Self {
            node,
            leading,
            yard: Yard::default(),
            backlog: VecDeque::new(),
            parked: Vec::new(),
            busy: BTreeSet::new(),
            entries: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// One pass over all there is to decide; answers the index that it saw.
    fn pass(&mut self) -> u64 {
        let seen = self.node.read(|state| state.applied);
        let changed = self.yard.follow(&self.node, &self.leading.loads);
        // On hold every proposal is refused, which is a change as well: trying again at once would never end.
        let free = changed && self.entries.len() < ENTRIES_IN_FLIGHT && hold::refuse(&self.node).is_ok();
        if free {
            self.assign_queued();
        }
        while self.entries.len() < ENTRIES_IN_FLIGHT && !self.backlog.is_empty() {
            self.propose_batch();
        }
        self.leading.set_waiting(self.backlog.len() + self.parked.len());
        seen
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Place(wish, reply) => {
                if self.backlog.len() + self.parked.len() >= 2 * BACKLOG {
                    // Nobody listening is no error: the caller has gone.
                    let _gone = reply.send(Err(Error::new(Code::Overloaded, Code::Overloaded.meaning())));
                    return;
                }
                self.backlog.push_back(Waiting { wish, reply, since: Instant::now(), decisions: 0 });
            }
            Ask::Move(wish, reply) => self.move_on(wish, reply),
            Ask::Explain(tenant, spec, reply) => {
                self.yard.follow(&self.node, &self.leading.loads);
                let request = self.node.read(|state| request(state, &spec, &tenant, spec.snapshot));
                let _gone = reply.send(Ok(self.yard.explain(&request, |_| true)));
            }
            Ask::Resume(wish, reply) => self.resume(&wish, answer_with(reply)),
            Ask::Restore(wish, reply) => self.restore(&wish, answer_with(reply)),
            Ask::Migrate(wish, reply) => self.migrate(wish, answer_with(reply)),
            Ask::ExplainMove(query, reply) => {
                let _gone = reply.send(self.explain_move(&query));
            }
            Ask::Loads(reply) => {
                let loads = self.leading.loads.all().into_iter().map(|(host, measured)| (host, measured.raw));
                let _gone = reply.send(loads.collect());
            }
        }
    }

    /// Gives hosts to the sandboxes that waited longest, as far as there is room.
    fn assign_queued(&mut self) {
        let now = self.node.now();
        let queued: Vec<Arc<Sandbox>> = self.node.read(|state| {
            let waits = |sandbox: &&Arc<Sandbox>| sandbox.queue_until.is_none_or(|until| until > now);
            state.pending().filter(waits).take(QUEUE_LOOK).cloned().collect()
        });
        let mut assigns = Vec::new();
        for sandbox in queued {
            if self.yard.is_in_flight(sandbox.id) {
                continue;
            }
            let request = self.node.read(|state| request(state, &sandbox.spec, &sandbox.tenant, sandbox.base));
            let generation = sandbox.generation.next();
            if let Some(host) = self.yard.choose(sandbox.id, generation, &request) {
                let assignment = Assignment { host, generation };
                assigns.push(Assign { sandbox: sandbox.id, assignment, deadline: None, restore: None, at: now });
            }
        }
        if !assigns.is_empty() {
            let sandboxes = assigns.iter().map(|assign| assign.sandbox).collect();
            self.propose(Command::Assign(assigns), Entry::Assigned { sandboxes, reply: None });
        }
    }

    /// Gives an incarnation that could not start another host.
    fn move_on(&mut self, wish: super::desk::MoveWish, reply: oneshot::Sender<Result<(), Error>>) {
        self.yard.follow(&self.node, &self.leading.loads);
        let current = self.node.read(|state| state.sandboxes.get(&wish.sandbox).cloned());
        let movable = |sandbox: &Arc<Sandbox>| {
            sandbox.generation == wish.generation
                && matches!(sandbox.phase, Phase::Assigned | Phase::Starting | Phase::Restoring)
        };
        let Some(sandbox) = current.filter(movable) else {
            let _gone = reply.send(Err(Error::new(Code::Conflict, Code::Conflict.meaning())));
            return;
        };
        let request = self.node.read(|state| request(state, &sandbox.spec, &sandbox.tenant, sandbox.base));
        let generation = wish.generation.next();
        match self.yard.choose_but(&wish.avoid, sandbox.id, generation, &request) {
            Ok(host) => {
                let assignment = Assignment { host, generation };
                let at = self.node.now();
                let assign = Assign { sandbox: sandbox.id, assignment, deadline: None, restore: None, at };
                let answer: Answer = Box::new(move |answer| drop(reply.send(answer)));
                let entry = Entry::Assigned { sandboxes: vec![sandbox.id], reply: Some(answer) };
                self.propose(Command::Assign(vec![assign]), entry);
            }
            Err(refusal) => {
                // Empty where there is no other host to say anything about.
                let text = refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
                let _gone = reply.send(Err(Error::new(Code::NoCapacity, text)));
            }
        }
    }

    /// Proposes what was decided, and answers once it was applied.
    fn propose(&mut self, command: Command, entry: Entry) {
        let node = Arc::clone(&self.node);
        let proposal = async move { node.ledger.propose(command).await.map(|applied| applied.outcome) };
        let task = self.entries.spawn(proposal);
        self.under_way.insert(task.id(), entry);
    }

    fn land(&mut self, landed: Result<(Id, Committed), JoinError>) {
        // First what state has now, then the tickets: nothing is free in between.
        self.yard.follow(&self.node, &self.leading.loads);
        let (id, outcome) = landed.unwrap_or_else(|error| {
            tracing::error!(%error, "an entry's task ended badly");
            (error.id(), Err(LedgerError::NoQuorum("whether it was applied is not known".into())))
        });
        match self.under_way.remove(&id) {
            Some(Entry::Assigned { sandboxes, reply }) => {
                for sandbox in sandboxes {
                    self.yard.landed(sandbox);
                }
                if let Some(reply) = reply {
                    reply(first_refusal(outcome));
                }
            }
            Some(Entry::Placed(batch)) => self.land_batch(batch, outcome),
            None => {}
        }
    }
}

/// The generation that a new sandbox's first assignment has.
const FIRST: Generation = Generation::FIRST;

fn first_refusal(outcome: Committed) -> Result<(), Error> {
    match outcome? {
        Outcome::Each(each) => each.into_iter().find_map(Result::err).map_or(Ok(()), |refusal| Err(refusal.into())),
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) => Ok(()),
    }
}

/// What became of a proposal.
type Committed = Result<Outcome, LedgerError>;

/// How somebody is told what became of a decision.
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Nobody listening is no error: the caller has gone, and state knows.
fn answer_with(reply: oneshot::Sender<Result<HostId, Error>>) -> impl FnOnce(Result<HostId, Error>) + Send + 'static {
    move |answer| drop(reply.send(answer))
}

/// A placement as it was asked for, with whoever waits for it.
type Reply = oneshot::Sender<Result<PlaceAnswer, Error>>;
/// What was asked.
type Wish = Box<PlaceWish>;
