//! The placer's picture of the hosts: state and measured loads on one side, reservations in flight on the other.
//!
//! It follows state by looking again at each host that state says has changed, and at all of them when state cannot say.

use super::loads::{Loads, Measured};
use crate::{node::Node, questions::WireExplained, request::HostVerdict};
use plimsoll_placement::{Decision, HostView, Placer, Refusal, Rejection, Request, Ticket};
use plimsoll_state::{Crowd, Host, Sandbox, State};
use plimsoll_types::{
    Constraint, Generation, HostId, LoadLine, MeasuredLoad, MilliCpu, SandboxId, SandboxSpec, SnapshotId, TenantId,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the hosts and of what is under way to them.
#[derive(Default)]
pub(crate) struct Yard {
    placer: Placer,
    /// Decisions whose log entry is not known to be applied or refused. Bounded by the placer's batches.
    in_flight: BTreeMap<SandboxId, (Generation, Ticket)>,
    loads: BTreeMap<HostId, Measured>,
    /// CPU of what was placed on each host since its last reading (told by its time): it counts as used until the next one
    /// shows it. Otherwise everything that comes between two polls would go to whichever host was read as the idlest. Memory is
    /// left out: there measured use refuses hosts, and what is only expected must not.
    expected: BTreeMap<HostId, (Timestamp, MilliCpu)>,
    /// The hosts that are backed off from, by when that ends.
    quarantined: BTreeSet<(Timestamp, HostId)>,
    /// What fills the disks that are full.
    full: BTreeMap<HostId, Box<str>>,
    line: Option<LoadLine>,
    seen: Option<u64>,
}

impl Yard {
    /// Brings the picture up to state; true if anything may have changed.
    pub(crate) fn follow(&mut self, node: &Node, loads: &Loads) -> bool {
        let now = node.now();
        let news = loads.news();
        for (host, measured) in &news {
            let at = self.expected.get(host).map(|(at, _)| *at);
            if at.is_some_and(|at| measured.is_none_or(|measured| measured.raw.at != at)) {
                self.expected.remove(host);
            }
            match measured {
                Some(measured) => drop(self.loads.insert(*host, *measured)),
                None => drop(self.loads.remove(host)),
            }
        }
        let changed = node.read(|state| self.follow_state(state, now));
        for (host, _) in news {
            let measured = self.measured(host);
            self.placer.set_load(host, measured);
        }
        changed
    }

    /// The smoothed reading, and what is not in it yet.
    fn measured(&self, host: HostId) -> Option<MeasuredLoad> {
        let expected = self.expected.get(&host).map_or(MilliCpu::ZERO, |(_, expected)| *expected);
        self.loads.get(&host).map(|measured| with(measured.smooth, expected))
    }

    /// Counts what was just placed on a host as used there until its next reading.
    fn expect(&mut self, host: HostId, request: &Request) {
        if let Some(load) = self.placer.host(host).and_then(|view| view.measured) {
            let (_, expected) = self.expected.entry(host).or_insert((load.at, MilliCpu::ZERO));
            *expected = expected.saturating_add(request.resources.cpu);
            self.placer.set_load(host, Some(with(load, request.resources.cpu)));
        }
    }

    fn follow_state(&mut self, state: &State, now: Timestamp) -> bool {
        let line = state.policy.load_line;
        let mut hosts = BTreeSet::new();
        while let Some((until, host)) = self.quarantined.first().copied().filter(|(until, _)| *until <= now) {
            self.quarantined.remove(&(until, host));
            hosts.insert(host);
        }
        if self.seen == Some(state.applied) && hosts.is_empty() {
            return false;
        }
        let same_line = self.line.replace(line) == Some(line);
        let seen = self.seen.replace(state.applied).filter(|_| same_line);
        match seen.and_then(|seen| state.hosts_changed_after(seen)) {
            Some(changed) => hosts.extend(changed),
            // The first look, another line for all of them, or too much to tell one by one.
            None => {
                hosts.extend(state.hosts.keys());
                hosts.extend(self.placer.hosts().map(|view| view.id));
            }
        }
        for host in hosts {
            self.look_at(state, host, &line, now);
        }
        // After the upsert: for a moment a reservation may count twice, never not at all.
        let placer = &mut self.placer;
        self.in_flight.retain(|sandbox, (generation, ticket)| {
            let applied = state.sandboxes.get(sandbox).is_some_and(|sandbox| sandbox.generation >= *generation);
            if applied {
                placer.settle(*ticket);
            }
            !applied
        });
        true
    }

    fn look_at(&mut self, state: &State, host: HostId, line: &LoadLine, now: Timestamp) {
        let Some(record) = state.hosts.get(&host) else {
            self.placer.remove(host);
            self.full.remove(&host);
            return;
        };
        match &record.disk_full {
            Some(full) => drop(self.full.insert(host, full.reason.clone())),
            None => drop(self.full.remove(&host)),
        }
        let until = record.quarantine.as_ref().map(|quarantine| quarantine.at).filter(|until| *until > now);
        // Should it end sooner than was thought, an old time only means one look too many.
        self.quarantined.extend(until.map(|until| (until, host)));
        let view =
            HostView { measured: self.measured(host), quarantined: until.is_some(), ..view_of(state, record, line) };
        self.placer.upsert(view);
    }

    /// Chooses a host and counts the reservation as in flight.
    pub(crate) fn choose(&mut self, sandbox: SandboxId, generation: Generation, request: &Request) -> Option<HostId> {
        let Decision { host, ticket, .. } = self.placer.try_place(request)?;
        self.expect(host, request);
        if let Some((_, earlier)) = self.in_flight.insert(sandbox, (generation, ticket)) {
            self.placer.settle(earlier);
        }
        Some(host)
    }

    /// As [`Yard::choose`], for one host and no other.
    ///
    /// # Errors
    /// Why it does not fit; `None` if there is no such host.
    pub(crate) fn choose_on(
        &mut self,
        host: HostId,
        sandbox: SandboxId,
        generation: Generation,
        request: &Request,
    ) -> Result<HostId, Option<Rejection>> {
        let Decision { ticket, .. } = self.placer.try_place_on(host, request)?;
        self.expect(host, request);
        if let Some((_, earlier)) = self.in_flight.insert(sandbox, (generation, ticket)) {
            self.placer.settle(earlier);
        }
        Ok(host)
    }

    /// As [`Yard::choose`], as if these hosts were quarantined.
    ///
    /// # Errors
    /// Why none of the others fits, or `None` where there are no others.
    pub(crate) fn choose_but(
        &mut self,
        avoid: &[HostId],
        sandbox: SandboxId,
        generation: Generation,
        request: &Request,
    ) -> Result<HostId, Option<Refusal>> {
        let held: Vec<HostView> = avoid.iter().filter_map(|host| self.placer.host(*host).cloned()).collect();
        for view in &held {
            self.placer.upsert(HostView { quarantined: true, ..view.clone() });
        }
        let chosen = self.choose(sandbox, generation, request).ok_or_else(|| {
            let mut explained = self.placer.explain(request);
            explained.verdicts.retain(|verdict| !avoid.contains(&verdict.host));
            explained.refusal().filter(|refusal| !refusal.tally.is_empty())
        });
        held.into_iter().for_each(|view| self.placer.upsert(view));
        chosen
    }

    /// Ends an in-flight reservation whose log entry was answered, whatever the answer.
    pub(crate) fn landed(&mut self, sandbox: SandboxId) {
        if let Some((_, ticket)) = self.in_flight.remove(&sandbox) {
            self.placer.settle(ticket);
        }
    }

    /// Whether a decision for this sandbox is in flight.
    pub(crate) fn is_in_flight(&self, sandbox: SandboxId) -> bool {
        self.in_flight.contains_key(&sandbox)
    }

    /// Why nothing fits.
    pub(crate) fn refusal(&self, request: &Request) -> Refusal {
        self.placer.refusal(request)
    }

    /// Why a host is passed over; of a full disk also what fills it.
    fn told(&self, host: HostId, why: &Rejection) -> String {
        let full = self.full.get(&host);
        match (why, full) {
            (Rejection::DiskFull | Rejection::Inodes, Some(full)) => format!("{why}: {full}"),
            (other, _) => other.to_string(),
        }
    }

    /// A dry run among the hosts that this admits.
    pub(crate) fn explain(&self, request: &Request, admits: impl Fn(HostId) -> bool) -> WireExplained {
        let mut explanation = self.placer.explain(request);
        explanation.verdicts.retain(|verdict| admits(verdict.host));
        let hosts = explanation.verdicts.iter().map(|verdict| HostVerdict {
            host: verdict.host,
            name: verdict.name.clone(),
            score_ppm: verdict.result.as_ref().ok().map(|score| score.load_ppm),
            rejection: verdict.result.as_ref().err().map(|why| self.told(verdict.host, why)),
        });
        WireExplained {
            chosen: explanation.chosen().map(|(verdict, _)| verdict.name.clone()),
            sentence: explanation.to_string(),
            hosts: hosts.collect(),
        }
    }
}

/// The label that stands for a host's architecture in requests: a snapshot runs only where it was taken.
pub(super) const ARCHITECTURE: &str = "plimsoll.architecture";

/// What is asked for a sandbox that starts from this snapshot, or from its image.
pub(crate) fn request(state: &State, spec: &SandboxSpec, tenant: &TenantId, base: Option<SnapshotId>) -> Request {
    let mut request = Request::of(spec, tenant.clone());
    let stored = base.and_then(|base| state.snapshots.get(&base)).and_then(|snapshot| snapshot.stored.as_ref());
    if let Some(stored) = stored {
        request.constraints.push(Constraint::Equals { key: ARCHITECTURE.into(), value: stored.architecture.clone() });
    }
    request
}

/// What is asked for a running sandbox that moves: it takes its architecture along.
pub(crate) fn request_to_move(state: &State, sandbox: &Sandbox) -> Request {
    let mut request = Request::of(&sandbox.spec, sandbox.tenant.clone());
    let here = sandbox.assignment.and_then(|assignment| state.hosts.get(&assignment.host));
    if let Some(here) = here {
        let value = here.facts.architecture.as_str().into();
        request.constraints.push(Constraint::Equals { key: ARCHITECTURE.into(), value });
    }
    request
}

/// A reading, and what is not in it yet.
fn with(load: MeasuredLoad, expected: MilliCpu) -> MeasuredLoad {
    MeasuredLoad { cpu: load.cpu.saturating_add(expected), ..load }
}

fn view_of(state: &State, host: &Host, line: &LoadLine) -> HostView {
    let crowd = state.crowd_on(host.id);
    let mut labels = host.labels.clone();
    labels.insert(ARCHITECTURE.into(), host.facts.architecture.as_str().into());
    HostView {
        labels,
        price_milli_per_hour: host.price_milli_per_hour,
        runtimes: HostView::runtimes_among(&host.facts.runtimes),
        reserved: host.reserved,
        health: host.health,
        cordoned: host.cordon.is_some() || host.drain.is_some(),
        // A host that a sandbox was placed on has its image, or is getting it.
        images: crowd.into_iter().flat_map(Crowd::images).cloned().collect(),
        tenants: crowd.map(Crowd::tenants).cloned().unwrap_or_default(),
        groups: crowd.into_iter().flat_map(Crowd::groups).cloned().collect(),
        ..HostView::new(host.id, host.name.clone(), host.facts.totals, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_types::{Bytes, HostName, ImageRef, Resources, SandboxSpec, TenantId};

    /// Two busy hosts, one a little less so: what is placed between two readings must not all go there.
    #[test]
    fn what_comes_between_two_polls_is_spread() {
        let totals = Resources { cpu: MilliCpu(16_000), memory: Bytes::gib(64), disk: Bytes::gib(500) };
        let mut yard = Yard::default();
        for (id, cpu) in [(1, 8_000), (2, 8_100)] {
            let load = MeasuredLoad { at: Timestamp(7), cpu: MilliCpu(cpu), ..MeasuredLoad::default() };
            let name = HostName::new(&format!("h{id}")).unwrap();
            let view = HostView::new(HostId(id), name, totals, &LoadLine::default());
            yard.placer.upsert(HostView { measured: Some(load), ..view });
        }
        let spec = SandboxSpec::new(ImageRef::new("debian:12").unwrap());
        let request = Request::of(&spec, TenantId::default_tenant());
        let chosen: Vec<u32> =
            (0..4).map(|n| yard.choose(SandboxId::from_parts(n, 1), Generation::FIRST, &request).unwrap().0).collect();
        assert_eq!(chosen, [1, 2, 1, 2]);
    }
}
