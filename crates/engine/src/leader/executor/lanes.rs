//! Who is due, by what is to be done on which host: starting the next job takes a look at one lane, however many wait.
//!
//! It chooses nothing by itself: who is due is put in from outside, and every job that was taken is told to have ended.

use plimsoll_state::Sandbox;
use plimsoll_types::{HostId, Phase, SandboxId};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// What a job does, each with its own bound on a host; those that free room come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    TakeDown,
    Work,
    Create,
}

impl Kind {
    pub(super) const fn of(sandbox: &Sandbox) -> Self {
        match sandbox.phase {
            Phase::Assigned | Phase::Starting | Phase::Restoring | Phase::Lost => Self::Create,
            Phase::Running | Phase::Pausing | Phase::Migrating => Self::Work,
            Phase::Pending | Phase::Paused | Phase::Failed | Phase::Terminating | Phase::Terminated => Self::TakeDown,
        }
    }
}

/// The jobs of one kind on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) kind: Kind,
    pub(super) host: HostId,
}

/// Before whom of its lane: what was begun is finished first, then the oldest goes.
type Turn = (u8, SandboxId);

const fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Terminating | Phase::Starting => 0,
        Phase::Restoring => 1,
        Phase::Assigned => 2,
        Phase::Failed | Phase::Lost => 3,
        Phase::Pending | Phase::Running | Phase::Pausing | Phase::Paused | Phase::Migrating | Phase::Terminated => 4,
    }
}

#[derive(Default)]
struct Queue {
    due: BTreeSet<Turn>,
    running: usize,
    /// Whether it stands among those that may start something.
    open: bool,
}

/// Every lane with something in it.
pub(super) struct Lanes {
    lanes: BTreeMap<Lane, Queue>,
    /// Where each sandbox that is due stands.
    places: HashMap<SandboxId, (Lane, Turn)>,
    /// Lanes with somebody due and room for another job, by kind; each starts one and goes to the end, so that hosts take turns.
    open: BTreeMap<Kind, VecDeque<Lane>>,
    creates: usize,
    works: usize,
    takedowns: usize,
}

impl Lanes {
    /// Empty ones, with the most jobs of each kind at once on one host.
    pub(super) fn new(creates: usize, works: usize, takedowns: usize) -> Self {
        let open = BTreeMap::new();
        Self { lanes: BTreeMap::new(), places: HashMap::new(), open, creates, works, takedowns }
    }

    /// Says that a sandbox is due, on the host it is assigned to.
    pub(super) fn put(&mut self, sandbox: SandboxId, phase: Phase, lane: Lane) {
        let place = (lane, (rank(phase), sandbox));
        match self.places.insert(sandbox, place) {
            Some(before) if before == place => return,
            Some(before) => self.leave(before),
            None => {}
        }
        self.lanes.entry(lane).or_default().due.insert(place.1);
        self.reopen(lane);
    }

    /// Says that a sandbox is not due.
    pub(super) fn withdraw(&mut self, sandbox: SandboxId) {
        if let Some(place) = self.places.remove(&sandbox) {
            self.leave(place);
        }
    }

    /// Takes the next one whose lane has room: it counts there until [`Lanes::ended`].
    pub(super) fn take(&mut self) -> Option<(Lane, SandboxId)> {
        loop {
            let lane = self.open.values_mut().find_map(VecDeque::pop_front)?;
            let Some(queue) = self.lanes.get_mut(&lane) else { continue };
            queue.open = false;
            let Some((_, sandbox)) = queue.due.pop_first() else {
                self.tidy(lane);
                continue;
            };
            queue.running += 1;
            self.places.remove(&sandbox);
            self.reopen(lane);
            return Some((lane, sandbox));
        }
    }

    /// Says that a job is over.
    pub(super) fn ended(&mut self, lane: Lane) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.running = queue.running.saturating_sub(1);
        }
        self.reopen(lane);
        self.tidy(lane);
    }

    /// Who is due.
    pub(super) fn due(&self) -> impl Iterator<Item = SandboxId> {
        self.places.keys().copied()
    }

    fn leave(&mut self, (lane, turn): (Lane, Turn)) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.due.remove(&turn);
        }
        self.tidy(lane);
    }

    fn reopen(&mut self, lane: Lane) {
        let limit = match lane.kind {
            Kind::Create => self.creates,
            Kind::Work => self.works,
            Kind::TakeDown => self.takedowns,
        };
        if let Some(queue) = self.lanes.get_mut(&lane)
            && !queue.open
            && !queue.due.is_empty()
            && queue.running < limit
        {
            queue.open = true;
            self.open.entry(lane.kind).or_default().push_back(lane);
        }
    }

    /// Drops a lane that nobody is in; one that still stands among the open ones goes when its turn comes.
    fn tidy(&mut self, lane: Lane) {
        if self.lanes.get(&lane).is_some_and(|queue| queue.due.is_empty() && queue.running == 0 && !queue.open) {
            self.lanes.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u128) -> SandboxId {
        SandboxId::from_parts(1, n)
    }

    fn create(host: u32) -> Lane {
        Lane { kind: Kind::Create, host: HostId(host) }
    }

    fn taken(lanes: &mut Lanes) -> Vec<(u32, SandboxId)> {
        std::iter::from_fn(|| lanes.take()).map(|(lane, sandbox)| (lane.host.0, sandbox)).collect()
    }

    #[test]
    fn hosts_take_turns_and_none_gets_more_than_its_bound() {
        let mut lanes = Lanes::new(2, 1, 1);
        for n in 0..4 {
            lanes.put(id(n), Phase::Assigned, create(1));
        }
        lanes.put(id(9), Phase::Assigned, create(2));
        assert_eq!(taken(&mut lanes), [(1, id(0)), (2, id(9)), (1, id(1))]);
        lanes.ended(create(1));
        assert_eq!(taken(&mut lanes), [(1, id(2))]);
    }

    #[test]
    fn what_frees_room_goes_first_and_what_was_begun_before_what_was_not() {
        let mut lanes = Lanes::new(4, 4, 4);
        lanes.put(id(1), Phase::Assigned, create(1));
        lanes.put(id(2), Phase::Starting, create(1));
        lanes.put(id(3), Phase::Terminating, Lane { kind: Kind::TakeDown, host: HostId(7) });
        assert_eq!(taken(&mut lanes), [(7, id(3)), (1, id(2)), (1, id(1))]);
    }

    #[test]
    fn who_is_withdrawn_or_moves_is_in_no_old_lane() {
        let mut lanes = Lanes::new(1, 1, 1);
        lanes.put(id(1), Phase::Assigned, create(1));
        lanes.put(id(2), Phase::Assigned, create(1));
        lanes.put(id(1), Phase::Assigned, create(2));
        lanes.withdraw(id(2));
        assert_eq!(taken(&mut lanes), [(2, id(1))]);
        lanes.ended(create(2));
        assert!(lanes.lanes.is_empty() && lanes.places.is_empty() && lanes.open.values().all(VecDeque::is_empty));
    }
}
