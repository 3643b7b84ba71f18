//! Reading the state: every question that loops, the API and metrics ask, answered from indexes where a scan would hold
//! up apply. Nothing here changes anything.

use crate::{
    Crowd, Event, State,
    model::{ApiKey, Host, Sandbox, Snapshot, SnapshotPhase},
};
use plimsoll_types::{
    HostId, HostName, Labels, Phase, SandboxId, SessionId, SnapshotId, SnapshotName, TenantId, Timestamp,
};
use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

/// Sandboxes in a page when the caller names no number.
pub const PAGE_DEFAULT: usize = 100;
/// Most sandboxes in a page: more would hold up apply while they are collected.
pub const PAGE_LIMIT: usize = 1000;

/// Which sandboxes a list shows; what is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this session, live or not.
    pub session: Option<SessionId>,
    /// In one of these phases; empty matches all.
    pub phases: BTreeSet<Phase>,
    /// Holding a reservation on this host.
    pub host: Option<HostId>,
    /// With all of these among their labels.
    pub labels: Labels,
    /// After this one: a page's `next`.
    pub after: Option<SandboxId>,
    /// At most so many; zero means [`PAGE_DEFAULT`], and more than [`PAGE_LIMIT`] means that.
    pub limit: usize,
}

/// One page of a list, in the order of ids, which is the order of creation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The sandboxes.
    pub sandboxes: Vec<Arc<Sandbox>>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<SandboxId>,
}

/// Events after a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<Arc<Event>>,
    /// Whether events between the position and the first of these were dropped: the reader must list anew.
    pub gap: bool,
}

impl Filter {
    fn matches(&self, sandbox: &Sandbox) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| sandbox.tenant == *tenant)
            && self.session.as_ref().is_none_or(|session| sandbox.session == *session)
            && (self.phases.is_empty() || self.phases.contains(&sandbox.phase))
            && self.host.is_none_or(|host| sandbox.assignment.is_some_and(|assignment| assignment.host == host))
            && self.labels.iter().all(|(key, value)| sandbox.spec.labels.get(key) == Some(value))
    }
}

impl State {
    /// A sandbox, if it is this tenant's: another tenant's is as good as unknown.
    #[must_use]
    pub fn sandbox_of(&self, tenant: &TenantId, id: SandboxId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(&id).filter(|sandbox| sandbox.tenant == *tenant)
    }

    /// The live sandbox of a session.
    #[must_use]
    pub fn live_sandbox(&self, tenant: &TenantId, session: &SessionId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(self.index.sessions.get(&(tenant.clone(), session.clone()))?)
    }

    /// What an idempotency key made.
    #[must_use]
    pub fn remembered(&self, tenant: &TenantId, key: &str) -> Option<&crate::model::Remembered> {
        self.idempotency.get(&(tenant.clone(), key.into()))
    }

    /// One page of the sandboxes that match. Costs a look at each sandbox on the host, or in the phase, or at all,
    /// whichever of these the filter names first.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Page {
        let from = filter.after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from, Bound::Unbounded);
        let one_phase = filter.phases.first().filter(|_| filter.phases.len() == 1);
        if let Some(host) = filter.host {
            let ids = self.index.by_host.get(&host).into_iter().flat_map(|ids| ids.range(range));
            self.page(filter, ids.filter_map(|id| self.sandboxes.get(id)))
        } else if let Some(phase) = one_phase {
            let ids = self.index.by_phase.get(phase).into_iter().flat_map(|ids| ids.range(range));
            self.page(filter, ids.filter_map(|id| self.sandboxes.get(id)))
        } else {
            self.page(filter, self.sandboxes.range(range).map(|(_, sandbox)| sandbox))
        }
    }

    fn page<'a>(&self, filter: &Filter, candidates: impl Iterator<Item = &'a Arc<Sandbox>>) -> Page {
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_LIMIT) };
        let matching = candidates.filter(|sandbox| filter.matches(sandbox));
        let mut sandboxes: Vec<_> = matching.take(limit + 1).cloned().collect();
        let more = sandboxes.len() > limit;
        sandboxes.truncate(limit);
        let next = sandboxes.last().filter(|_| more).map(|last| last.id);
        Page { sandboxes, next }
    }

    /// The sandboxes in a phase, in the order of their creation; for `Pending` that is the queue, first in first out.
    pub fn in_phase(&self, phase: Phase) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.named(self.index.by_phase.get(&phase))
    }

    /// The same after this one: a walk through many pauses in between, so that it does not hold up apply.
    pub fn in_phase_after(&self, phase: Phase, after: Option<SandboxId>) -> impl Iterator<Item = &Arc<Sandbox>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.index.by_phase.get(&phase).into_iter().flat_map(move |ids| ids.range((from, Bound::Unbounded)));
        ids.filter_map(|id| self.sandboxes.get(id))
    }

    /// The sandboxes that wait for room, first come first.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.in_phase(Phase::Pending)
    }

    /// How many sandboxes wait for room.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.index.pending()
    }

    /// The sandboxes that hold a reservation on a host.
    pub fn on_host(&self, host: HostId) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.named(self.index.by_host.get(&host))
    }

    /// The sandboxes on a host that have ended and still have their names there: those that failed, and those being taken down. Costs a
    /// look at each of these phases in the cluster, or nothing where the host has none.
    pub fn ending_on(&self, host: HostId) -> impl Iterator<Item = &Arc<Sandbox>> {
        let here = move |phase: &Phase| self.index.counts.contains_key(&(Some(host), *phase));
        let ending = [Phase::Failed, Phase::Terminating].into_iter().filter(here);
        ending
            .flat_map(|phase| self.in_phase(phase))
            .filter(move |sandbox| sandbox.assignment.is_some_and(|assignment| assignment.host == host))
    }

    /// Who holds a reservation on a host, counted by what placements ask of them; `None` if nobody does.
    #[must_use]
    pub fn crowd_on(&self, host: HostId) -> Option<&Crowd> {
        self.index.crowds.get(&host)
    }

    /// The hosts whose records changed, or went, after this raft index; `None` if that is too long ago to say.
    #[must_use]
    pub fn hosts_changed_after(&self, seen: u64) -> Option<BTreeSet<HostId>> {
        self.index.touched.after(seen)
    }

    fn named<'a>(&'a self, ids: Option<&'a BTreeSet<SandboxId>>) -> impl Iterator<Item = &'a Arc<Sandbox>> {
        ids.into_iter().flatten().filter_map(|id| self.sandboxes.get(id))
    }

    /// The sandboxes that should be running and whose deadline has come, the longest overdue first.
    pub fn expired(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.timed(&self.index.deadlines, now)
    }

    /// The pending sandboxes that waited as long as they may, the longest overdue first.
    pub fn queue_expired(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.timed(&self.index.queue, now)
    }

    /// The terminated sandboxes whose records were kept for the policy's retention, the oldest first.
    pub fn forgettable(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Sandbox>> {
        let retention = self.policy.retention;
        let ended = self.index.terminated.iter().take_while(move |(at, _)| at.plus(retention) <= now);
        ended.filter_map(|(_, id)| self.sandboxes.get(id))
    }

    /// The time before which idempotency keys were remembered long enough, if there are such keys.
    #[must_use]
    pub fn idempotency_overdue(&self, now: Timestamp) -> Option<Timestamp> {
        let before = Timestamp(now.0.checked_sub(self.policy.idempotency_ttl.0)?);
        self.index.remembered.first().filter(|(at, _, _)| *at < before).map(|_| before)
    }

    fn timed<'a>(
        &'a self,
        set: &'a BTreeSet<(Timestamp, SandboxId)>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Sandbox>> {
        set.iter().take_while(move |(at, _)| *at <= now).filter_map(|(_, id)| self.sandboxes.get(id))
    }

    /// The first deadline or queue timeout to come (or overdue): when the expiry loop must wake.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, SandboxId)>| set.first().map(|(at, _)| *at);
        first(&self.index.deadlines).into_iter().chain(first(&self.index.queue)).min()
    }

    /// The sandboxes with an operation under way.
    pub fn working(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.named(Some(&self.index.working))
    }

    /// A snapshot, if it is this tenant's: another tenant's is as good as unknown.
    #[must_use]
    pub fn snapshot_of(&self, tenant: &TenantId, id: SnapshotId) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(&id).filter(|snapshot| snapshot.tenant == *tenant)
    }

    /// A snapshot by its name, unless it is being deleted.
    #[must_use]
    pub fn snapshot_named(&self, tenant: &TenantId, name: &SnapshotName) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(self.index.snapshot_names.get(&(tenant.clone(), name.clone()))?)
    }

    /// The snapshots taken of a sandbox, oldest first.
    pub fn snapshots_of(&self, sandbox: SandboxId) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        self.index.taken_of.get(&sandbox).into_iter().flatten().filter_map(|id| self.snapshots.get(id))
    }

    /// What a sandbox would be restored from: the newest of its snapshots that is available.
    #[must_use]
    pub fn newest_snapshot(&self, sandbox: SandboxId) -> Option<&Arc<Snapshot>> {
        let taken_at =
            |snapshot: &&Arc<Snapshot>| snapshot.stored.as_ref().map(|stored| (stored.taken_at, snapshot.id));
        let available = |snapshot: &&Arc<Snapshot>| snapshot.phase == SnapshotPhase::Available;
        self.snapshots_of(sandbox).filter(available).max_by_key(taken_at)
    }

    /// A sandbox that needs this snapshot to come back, or whose operation takes it, if there is one.
    #[must_use]
    pub fn user_of(&self, snapshot: SnapshotId) -> Option<SandboxId> {
        self.index.needed_by.get(&snapshot).and_then(|users| users.first().copied())
    }

    /// The snapshots being deleted.
    pub fn deleting(&self) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.index.deleting.iter().filter_map(|id| self.snapshots.get(id))
    }

    /// A host by its name.
    #[must_use]
    pub fn host_named(&self, name: &HostName) -> Option<&Arc<Host>> {
        self.hosts.get(self.index.host_names.get(name)?)
    }

    /// The API key whose secret has this SHA-256.
    #[must_use]
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Option<&Arc<ApiKey>> {
        self.keys.get(self.index.key_hashes.get(hash)?)
    }

    /// How many sandboxes there are on each host (`None`: on no host) in each phase; pairs without any are left out.
    pub fn counts(&self) -> impl Iterator<Item = (Option<HostId>, Phase, u64)> {
        self.index.counts.iter().map(|((host, phase), count)| (*host, *phase, *count))
    }

    /// At most `limit` events after (index, sequence number); from the oldest kept if `None`.
    #[must_use]
    pub fn events_after(&self, after: Option<(u64, u32)>, limit: usize) -> EventPage {
        let position = |event: &Arc<Event>| (event.index, event.seq);
        let start = after.map_or(0, |after| VecDeque::partition_point(&self.events, |event| position(event) <= after));
        let events = self.events.range(start..).take(limit).cloned().collect();
        // `None` is before every position, so that a reader from the start learns that older events are gone.
        EventPage { events, gap: self.events_dropped > after }
    }

    /// The position of the newest event: where a reader starts who wants only what happens from now on.
    #[must_use]
    pub fn last_event(&self) -> Option<(u64, u32)> {
        self.events.back().map(|event| (event.index, event.seq)).or(self.events_dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, command::Place, testing::*};
    use std::collections::BTreeMap;

    fn ids(page: &Page) -> Vec<SandboxId> {
        page.sandboxes.iter().map(|sandbox| sandbox.id).collect()
    }

    fn fleet() -> State {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        run(&mut state, 2, 1);
        check_place(&mut state, queue(3), PlaceOutcome::Created(id(3)));
        let mut labelled = spec();
        labelled.labels.insert("team".into(), "a".into());
        let other = TenantId::new("other").unwrap();
        let fourth = Place { tenant: other, spec: Arc::new(labelled), ..place(4, 1) };
        check_place(&mut state, fourth, PlaceOutcome::Created(id(4)));
        state
    }

    #[test]
    fn lists_filter_by_everything() {
        let state = fleet();
        let all = Filter::default();
        assert_eq!(ids(&state.list(&all)), [id(1), id(2), id(3), id(4)]);
        assert_eq!(ids(&state.list(&Filter { tenant: Some(tenant()), ..all.clone() })), [id(1), id(2), id(3)]);
        assert_eq!(ids(&state.list(&Filter { session: Some(session(2)), ..all.clone() })), [id(2)]);
        assert_eq!(ids(&state.list(&Filter { host: Some(HostId(1)), ..all.clone() })), [id(2), id(4)]);
        let running = Filter { phases: BTreeSet::from([Phase::Running]), ..all.clone() };
        assert_eq!(ids(&state.list(&running)), [id(1), id(2)]);
        let two = Filter { phases: BTreeSet::from([Phase::Running, Phase::Pending]), ..all.clone() };
        assert_eq!(ids(&state.list(&two)), [id(1), id(2), id(3)]);
        let labels = BTreeMap::from([("team".into(), "a".into())]);
        assert_eq!(ids(&state.list(&Filter { labels, ..all })), [id(4)]);
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let state = fleet();
        for limit in 1..=5 {
            let mut seen = Vec::new();
            let mut filter = Filter { limit, ..Filter::default() };
            loop {
                let page = state.list(&filter);
                assert!(page.sandboxes.len() <= limit);
                seen.extend(ids(&page));
                match page.next {
                    Some(next) => filter.after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, [id(1), id(2), id(3), id(4)], "{limit} a page");
        }
    }

    #[test]
    fn a_walk_goes_on_after_one_that_has_left_its_phase() {
        let mut state = fleet();
        let after = |state: &State, last| {
            state.in_phase_after(Phase::Running, last).map(|sandbox| sandbox.id).collect::<Vec<_>>()
        };
        assert_eq!(after(&state, None), [id(1), id(2)]);
        assert_eq!(after(&state, Some(id(1))), [id(2)]);
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        assert_eq!(after(&state, Some(id(1))), [id(2)]);
        assert_eq!(after(&state, Some(id(2))), []);
    }

    #[test]
    fn a_sandbox_is_its_tenants() {
        let state = fleet();
        let other = TenantId::new("other").unwrap();
        assert!(state.sandbox_of(&tenant(), id(4)).is_none() && state.sandbox_of(&other, id(4)).is_some());
        assert!(state.live_sandbox(&tenant(), &session(4)).is_none());
        assert_eq!(state.host_named(&HostName::new("h1").unwrap()).map(|host| host.id), Some(HostId(1)));
    }

    #[test]
    fn the_queue_is_first_come_first_served_and_times_out() {
        let mut state = fleet();
        check_place(&mut state, Place { queue_until: Some(at(50)), ..queue(5) }, PlaceOutcome::Created(id(5)));
        assert_eq!(state.pending().map(|sandbox| sandbox.id).collect::<Vec<_>>(), [id(3), id(5)]);
        assert_eq!(state.next_expiry(), Some(at(50)));
        assert_eq!(state.queue_expired(at(70)).map(|sandbox| sandbox.id).collect::<Vec<_>>(), [id(5), id(3)]);
        check_one(&mut state, &assign(5, 0, 1), Ok(()));
        assert_eq!(state.queue_expired(at(60)).count(), 0);
    }

    #[test]
    fn counts_are_by_host_and_phase() {
        let state = fleet();
        let counts: Vec<_> = state.counts().collect();
        let expected = [
            (None, Phase::Pending, 1),
            (Some(HostId(0)), Phase::Running, 1),
            (Some(HostId(1)), Phase::Assigned, 1),
            (Some(HostId(1)), Phase::Running, 1),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn who_ended_and_is_still_there_is_found_by_host() {
        let mut state = fleet();
        let ending = |state: &State, host| state.ending_on(HostId(host)).map(|it| it.id).collect::<Vec<_>>();
        assert_eq!((ending(&state, 0), ending(&state, 1)), (vec![], vec![]));
        check_one(&mut state, &Command::Terminate(vec![terminate(2)]), Ok(()));
        assert_eq!((ending(&state, 0), ending(&state, 1)), (vec![], vec![id(2)]));
    }

    #[test]
    fn a_reader_of_events_learns_when_some_are_gone() {
        let mut state = cluster_with(2);
        state.policy.events_kept = 3;
        let batch = Command::Place(vec![place(1, 0), place(2, 1)]);
        state.apply(10, &batch);
        let positions = |page: &EventPage| page.events.iter().map(|event| (event.index, event.seq)).collect::<Vec<_>>();
        assert_eq!(state.events_dropped, Some((2, 0)));
        let whole = state.events_after(Some((2, 0)), 10);
        assert_eq!((positions(&whole), whole.gap), (vec![(3, 0), (10, 0), (10, 1)], false));
        assert!(state.events_after(Some((1, 0)), 10).gap && state.events_after(None, 10).gap);
        let rest = state.events_after(Some((10, 0)), 10);
        assert_eq!((positions(&rest), rest.gap), (vec![(10, 1)], false));
        assert_eq!(positions(&state.events_after(None, 1)), [(3, 0)]);
        assert_eq!(state.last_event(), Some((10, 1)));
        assert!(!cluster().events_after(None, 10).gap);
    }
}
