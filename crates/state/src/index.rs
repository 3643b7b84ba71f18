//! Indexes derived from the state, so that no command and no loop has to scan it. They hold nothing that the records do
//! not say: a snapshot leaves them out, reading one rebuilds them, and an invariant compares them with rebuilt ones.

use crate::{
    crowd::Crowd,
    model::{Host, Sandbox, Snapshot, SnapshotPhase, State},
    touched::Touched,
};
use plimsoll_types::{
    Desired, HostAddress, HostId, HostName, KeyId, Phase, SandboxId, SessionId, SnapshotId, SnapshotName, TenantId,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// Every derived index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Sandboxes in each phase. Ids are time-ordered, so the pending ones stand in the order of their arrival.
    pub(crate) by_phase: BTreeMap<Phase, BTreeSet<SandboxId>>,
    /// The live sandbox of each session.
    pub(crate) sessions: BTreeMap<(TenantId, SessionId), SandboxId>,
    /// Sandboxes that hold a reservation on each host.
    pub(crate) by_host: BTreeMap<HostId, BTreeSet<SandboxId>>,
    /// The same sandboxes, counted by what placements ask of them.
    pub(crate) crowds: BTreeMap<HostId, Crowd>,
    /// How many sandboxes there are by host and phase.
    pub(crate) counts: BTreeMap<(Option<HostId>, Phase), u64>,
    /// Deadlines of sandboxes that should be running.
    pub(crate) deadlines: BTreeSet<(Timestamp, SandboxId)>,
    /// Until when pending sandboxes may wait.
    pub(crate) queue: BTreeSet<(Timestamp, SandboxId)>,
    /// When sandboxes whose record is still kept were terminated.
    pub(crate) terminated: BTreeSet<(Timestamp, SandboxId)>,
    /// Idempotency keys by age.
    pub(crate) remembered: BTreeSet<(Timestamp, TenantId, Box<str>)>,
    /// Sandboxes with an operation under way.
    pub(crate) working: BTreeSet<SandboxId>,
    /// Sandboxes that need each snapshot: to start anew from it, or because their operation takes it.
    pub(crate) needed_by: BTreeMap<SnapshotId, BTreeSet<SandboxId>>,
    /// Snapshots of each sandbox.
    pub(crate) taken_of: BTreeMap<SandboxId, BTreeSet<SnapshotId>>,
    /// Snapshots by name, those being deleted left out.
    pub(crate) snapshot_names: BTreeMap<(TenantId, SnapshotName), SnapshotId>,
    /// Snapshots being deleted.
    pub(crate) deleting: BTreeSet<SnapshotId>,
    /// Hosts by name.
    pub(crate) host_names: BTreeMap<HostName, HostId>,
    /// Hosts by address.
    pub(crate) host_addresses: BTreeMap<HostAddress, HostId>,
    /// Hosts by machine id, where one is known.
    pub(crate) machines: BTreeMap<String, HostId>,
    /// API keys by the hash of their secret.
    pub(crate) key_hashes: BTreeMap<[u8; 32], KeyId>,
    /// Which hosts changed lately.
    pub(crate) touched: Touched,
}

/// What of a sandbox is indexed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facets {
    pub(crate) phase: Phase,
    pub(crate) host: Option<HostId>,
    target: Option<HostId>,
    needs: [Option<SnapshotId>; 2],
    working: bool,
    deadline: Option<Timestamp>,
    queue: Option<Timestamp>,
    terminated: Option<Timestamp>,
}

impl Facets {
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        Self {
            phase: sandbox.phase,
            host: sandbox.assignment.map(|assignment| assignment.host),
            target: sandbox.work.as_ref().and_then(|work| work.target).map(|target| target.host),
            needs: [
                sandbox.base.filter(|_| sandbox.phase != Phase::Terminated),
                sandbox.work.as_ref().map(|work| work.snapshot),
            ],
            working: sandbox.work.is_some(),
            deadline: sandbox.deadline.filter(|_| sandbox.desired == Desired::Running),
            queue: sandbox.queue_until.filter(|_| sandbox.phase == Phase::Pending),
            terminated: (sandbox.phase == Phase::Terminated).then_some(sandbox.phase_since),
        }
    }
}

impl Facets {
    /// The hosts that capacity is reserved on.
    pub(crate) const fn hosts(self) -> [Option<HostId>; 2] {
        [self.host, self.target]
    }
}

impl Index {
    /// The indexes of this state, made afresh.
    #[must_use]
    pub fn rebuild(state: &State) -> Self {
        let mut index = Self { touched: Touched::since(state.applied), ..Self::default() };
        for sandbox in state.sandboxes.values() {
            index.refile(sandbox, None, Some(Facets::of(sandbox)));
        }
        for host in state.hosts.values() {
            index.add_host(host);
        }
        for snapshot in state.snapshots.values() {
            index.file_snapshot(snapshot);
        }
        for ((tenant, key), remembered) in &state.idempotency {
            index.remembered.insert((remembered.at, tenant.clone(), key.clone()));
        }
        for (id, key) in &state.keys {
            index.key_hashes.insert(key.hash, *id);
        }
        index
    }

    /// Moves a sandbox from where its old facets had it to where its new ones belong.
    pub(crate) fn refile(&mut self, sandbox: &Sandbox, old: Option<Facets>, new: Option<Facets>) {
        if old == new {
            return;
        }
        let id = sandbox.id;
        let of = |facets: Option<Facets>, read: fn(Facets) -> Option<Timestamp>| facets.and_then(read);
        move_time(&mut self.deadlines, id, of(old, |f| f.deadline), of(new, |f| f.deadline));
        move_time(&mut self.queue, id, of(old, |f| f.queue), of(new, |f| f.queue));
        move_time(&mut self.terminated, id, of(old, |f| f.terminated), of(new, |f| f.terminated));
        move_member(&mut self.by_phase, id, old.map(|f| f.phase), new.map(|f| f.phase));
        let live = |facets: Option<Facets>| facets.is_some_and(|f| f.phase.is_live());
        if live(old) != live(new) {
            let key = (sandbox.tenant.clone(), sandbox.session.clone());
            if live(new) {
                self.sessions.insert(key, id);
            } else {
                self.sessions.remove(&key);
            }
        }
        let needs = |facets: Option<Facets>| facets.map(|f| f.needs).unwrap_or_default();
        move_pair(&mut self.needed_by, id, needs(old), needs(new));
        let hosts = |facets: Option<Facets>| facets.map(Facets::hosts).unwrap_or_default();
        move_pair(&mut self.by_host, id, hosts(old), hosts(new));
        self.move_among_crowds(sandbox, hosts(old), hosts(new));
        if new.is_some_and(|f| f.working) {
            self.working.insert(id);
        } else {
            self.working.remove(&id);
        }
        let cell = |facets: Facets| (facets.host, facets.phase);
        let (from, to) = (old.map(cell), new.map(cell));
        if from == to {
            return;
        }
        if let Some(from) = from
            && let Some(count) = self.counts.get_mut(&from)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&from);
            }
        }
        if let Some(to) = to {
            *self.counts.entry(to).or_default() += 1;
        }
    }

    fn move_among_crowds(&mut self, sandbox: &Sandbox, from: [Option<HostId>; 2], to: [Option<HostId>; 2]) {
        for host in from.into_iter().flatten().filter(|host| !to.contains(&Some(*host))) {
            if let Some(crowd) = self.crowds.get_mut(&host) {
                crowd.leave(sandbox);
                if crowd.is_empty() {
                    self.crowds.remove(&host);
                }
            }
        }
        for host in to.into_iter().flatten().filter(|host| !from.contains(&Some(*host))) {
            self.crowds.entry(host).or_default().enter(sandbox);
        }
    }

    /// Enters a snapshot.
    pub(crate) fn file_snapshot(&mut self, snapshot: &Snapshot) {
        self.taken_of.entry(snapshot.sandbox).or_default().insert(snapshot.id);
        if snapshot.phase == SnapshotPhase::Deleting {
            self.deleting.insert(snapshot.id);
        } else if let Some(name) = &snapshot.name {
            self.snapshot_names.insert((snapshot.tenant.clone(), name.clone()), snapshot.id);
        }
    }

    /// Takes a snapshot out, as it was entered.
    pub(crate) fn unfile_snapshot(&mut self, snapshot: &Snapshot) {
        move_member(&mut self.taken_of, snapshot.id, Some(snapshot.sandbox), None);
        if snapshot.phase == SnapshotPhase::Deleting {
            self.deleting.remove(&snapshot.id);
        } else if let Some(name) = &snapshot.name {
            self.snapshot_names.remove(&(snapshot.tenant.clone(), name.clone()));
        }
    }

    /// Enters a host's unique properties.
    pub(crate) fn add_host(&mut self, host: &Host) {
        self.host_names.insert(host.name.clone(), host.id);
        self.host_addresses.insert(host.address.clone(), host.id);
        if !host.facts.machine_id.is_empty() {
            self.machines.insert(host.facts.machine_id.clone(), host.id);
        }
    }

    /// Takes a host's unique properties out.
    pub(crate) fn remove_host(&mut self, host: &Host) {
        self.host_names.remove(&host.name);
        self.host_addresses.remove(&host.address);
        self.machines.remove(&host.facts.machine_id);
    }

    /// How many sandboxes wait for room.
    pub(crate) fn pending(&self) -> usize {
        self.by_phase.get(&Phase::Pending).map_or(0, BTreeSet::len)
    }
}

fn move_time(
    set: &mut BTreeSet<(Timestamp, SandboxId)>,
    id: SandboxId,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) {
    if from == to {
        return;
    }
    if let Some(from) = from {
        set.remove(&(from, id));
    }
    if let Some(to) = to {
        set.insert((to, id));
    }
}

/// As [`move_member`] for two keys at once: one may take the other's place, as a migration's target becomes the host.
fn move_pair<K: Ord + Copy, V: Ord + Copy>(
    sets: &mut BTreeMap<K, BTreeSet<V>>,
    id: V,
    from: [Option<K>; 2],
    to: [Option<K>; 2],
) {
    for key in from.into_iter().filter(|key| key.is_some() && !to.contains(key)) {
        move_member(sets, id, key, None);
    }
    for key in to.into_iter().filter(|key| key.is_some() && !from.contains(key)) {
        move_member(sets, id, None, key);
    }
}

/// Empty sets go, so that an index kept in step equals a rebuilt one.
fn move_member<K: Ord + Copy, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, id: V, from: Option<K>, to: Option<K>) {
    if from == to {
        return;
    }
    if let Some(from) = from
        && let Some(set) = sets.get_mut(&from)
    {
        set.remove(&id);
        if set.is_empty() {
            sets.remove(&from);
        }
    }
    if let Some(to) = to {
        sets.entry(to).or_default().insert(id);
    }
}
