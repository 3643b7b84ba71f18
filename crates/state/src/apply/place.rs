//! `Place`: records new sandboxes with the hosts chosen for them. Each item is judged by itself, after those before it.

use super::{entry::Entry, fit};
use crate::{
    PlaceOutcome, Refusal, State,
    command::Place,
    model::{Assignment, Remembered, Sandbox, SnapshotPhase},
};
use plimsoll_types::{Desired, Generation, Label, Phase, SnapshotId};

/// Most sandbox records, terminated ones included: at about a kibibyte each, more would not fit a small node's memory.
pub const SANDBOXES_LIMIT: usize = 1_000_000;
/// Most idempotency keys remembered at once: eleven a second for the usual 24 hours.
pub const IDEMPOTENCY_LIMIT: usize = 1_000_000;

pub(super) fn one(state: &mut State, entry: &mut Entry, item: &Place) -> PlaceOutcome {
    if let Some(earlier) = earlier(state, item) {
        return earlier;
    }
    match admit(state, item) {
        Ok(()) => {
            record(state, item);
            entry.sandbox(state, item.sandbox, item.at);
            PlaceOutcome::Created(item.sandbox)
        }
        Err(refusal) => PlaceOutcome::Refused(refusal),
    }
}

/// What an earlier placement already answered. The very same proposal comes first: a proposal whose answer was lost is
/// proposed again, and must read as created, not as somebody else's.
fn earlier(state: &State, item: &Place) -> Option<PlaceOutcome> {
    if let Some(known) = state.sandboxes.get(&item.sandbox) {
        let same = known.operation == item.operation && known.tenant == item.tenant && known.session == item.session;
        let outcome = PlaceOutcome::Created(item.sandbox);
        return Some(if same { outcome } else { PlaceOutcome::Refused(Refusal::Conflict) });
    }
    if let Some(idempotency) = &item.idempotency
        && let Some(known) = state.idempotency.get(&(item.tenant.clone(), idempotency.key.clone()))
    {
        let same = known.request.request_hash == idempotency.request_hash;
        let outcome = PlaceOutcome::Replayed(known.sandbox);
        return Some(if same { outcome } else { PlaceOutcome::Refused(Refusal::IdempotencyMismatch) });
    }
    state.index.sessions.get(&(item.tenant.clone(), item.session.clone())).map(|live| PlaceOutcome::SessionLive(*live))
}

fn admit(state: &State, item: &Place) -> Result<(), Refusal> {
    let full = state.sandboxes.len() >= SANDBOXES_LIMIT
        || (item.idempotency.is_some() && state.idempotency.len() >= IDEMPOTENCY_LIMIT)
        || item.spec.labels.len() > Label::MAX_COUNT;
    if full {
        return Err(Refusal::LimitReached);
    }
    if let Some(snapshot) = item.spec.snapshot {
        usable(state, &item.tenant, snapshot)?;
    }
    match item.host {
        Some(host) => fit::check(state, host, &item.tenant, &item.spec, item.spec.snapshot, item.at),
        // Neither a host nor leave to wait: there is no room for it.
        None if item.queue_until.is_none() => Err(Refusal::HostChanged),
        None => {
            let limit = usize::try_from(state.policy.queue_limit).unwrap_or(usize::MAX);
            if state.index.pending() < limit { Ok(()) } else { Err(Refusal::QueueFull) }
        }
    }
}

/// Another tenant's snapshot is as good as unknown.
fn usable(state: &State, tenant: &plimsoll_types::TenantId, id: SnapshotId) -> Result<(), Refusal> {
    let snapshot = state.snapshots.get(&id).filter(|snapshot| snapshot.tenant == *tenant);
    match snapshot.ok_or(Refusal::SnapshotUnknown)?.phase {
        SnapshotPhase::Available => Ok(()),
        SnapshotPhase::Taking | SnapshotPhase::Deleting => Err(Refusal::SnapshotUnusable),
    }
}

fn record(state: &mut State, item: &Place) {
    if let Some(request) = &item.idempotency {
        let remembered = Remembered { sandbox: item.sandbox, request: request.clone(), at: item.at };
        state.idempotency.insert((item.tenant.clone(), request.key.clone()), remembered);
        state.index.remembered.insert((item.at, item.tenant.clone(), request.key.clone()));
    }
    let assignment = item.host.map(|host| Assignment { host, generation: Generation::FIRST });
    state.insert_sandbox(Sandbox {
        id: item.sandbox,
        tenant: item.tenant.clone(),
        session: item.session.clone(),
        spec: item.spec.clone(),
        desired: Desired::Running,
        phase: if assignment.is_some() { Phase::Assigned } else { Phase::Pending },
        reason: "".into(),
        generation: assignment.map_or(Generation::ZERO, |assignment| assignment.generation),
        assignment,
        container: None,
        endpoints: Vec::new(),
        queue_until: item.queue_until.filter(|_| assignment.is_none()),
        deadline: item.deadline,
        operation: item.operation,
        created_at: item.at,
        started_at: None,
        ended_at: None,
        phase_since: item.at,
        lifetime: item.lifetime,
        base: item.spec.snapshot,
        work: None,
        frozen_since: None,
        trouble: None,
        moved: None,
        restored: None,
        superseded: Vec::new(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Outcome, command::CordonHost, command::QuarantineHost, testing::*};
    use plimsoll_types::{Constraint, Health, HostId, Runtime, TenantId};
    use std::sync::Arc;

    #[test]
    fn a_placement_reserves_and_says_so() {
        let mut state = cluster_with(1);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        assert_eq!(sandbox(&state, 1).phase, Phase::Assigned);
        assert_eq!(sandbox(&state, 1).generation, Generation::FIRST);
        assert_eq!((host(&state, 0).reserved, host(&state, 0).sandboxes), (spec().resources, 1));
        let last = state.events.back().unwrap();
        assert_eq!((last.index, last.seq), (state.applied, 0));
    }

    #[test]
    fn a_host_takes_no_more_than_its_line_even_within_a_batch() {
        let mut state = cluster_with(1);
        let batch = Command::Place((1..=3).map(|n| place(n, 0)).collect());
        let full = PlaceOutcome::Refused(Refusal::HostChanged);
        let expected = vec![PlaceOutcome::Created(id(1)), PlaceOutcome::Created(id(2)), full];
        check(&mut state, &batch, &Outcome::Placed(expected));
    }

    #[test]
    fn a_session_has_one_live_sandbox_whoever_asks() {
        let mut state = cluster_with(2);
        check_place(&mut state, place(1, 0), PlaceOutcome::Created(id(1)));
        let again = Place { session: session(1), ..place(2, 1) };
        check_place(&mut state, again.clone(), PlaceOutcome::SessionLive(id(1)));
        let other = Place { tenant: TenantId::new("other").unwrap(), ..again };
        check_place(&mut state, other, PlaceOutcome::Created(id(2)));
    }

    #[test]
    fn the_same_proposal_twice_is_one_sandbox() {
        let mut state = cluster_with(1);
        let item = Place { idempotency: key("k", 1), ..place(1, 0) };
        check_place(&mut state, item.clone(), PlaceOutcome::Created(id(1)));
        check_place(&mut state, item, PlaceOutcome::Created(id(1)));
        assert_eq!(host(&state, 0).sandboxes, 1);
        let foreign = Place { session: session(9), ..place(1, 0) };
        check_place(&mut state, foreign, PlaceOutcome::Refused(Refusal::Conflict));
    }

    #[test]
    fn an_idempotency_key_is_one_request_of_one_tenant() {
        let mut state = cluster_with(2);
        check_place(&mut state, Place { idempotency: key("k", 1), ..place(1, 0) }, PlaceOutcome::Created(id(1)));
        let replay = Place { idempotency: key("k", 1), ..place(2, 0) };
        check_place(&mut state, replay, PlaceOutcome::Replayed(id(1)));
        let mismatch = Place { idempotency: key("k", 2), ..place(2, 0) };
        check_place(&mut state, mismatch.clone(), PlaceOutcome::Refused(Refusal::IdempotencyMismatch));
        let other = Place { tenant: TenantId::new("other").unwrap(), ..mismatch };
        check_place(&mut state, other, PlaceOutcome::Created(id(2)));
    }

    #[test]
    fn the_host_is_checked_again() {
        let mut state = cluster_with(4);
        let refused = |refusal| PlaceOutcome::Refused(refusal);
        check_place(&mut state, place(1, 9), refused(Refusal::HostUnknown));
        check(&mut state, &Command::ReportHost(Box::new(report(0, Health::Unreachable, 5))), &Outcome::Done);
        check_place(&mut state, place(1, 0), refused(Refusal::HostChanged));
        let cordon = CordonHost { host: HostId(1), cordoned: true, reason: "disk".into(), at: at(5) };
        check(&mut state, &Command::CordonHost(cordon), &Outcome::Done);
        check_place(&mut state, place(1, 1), refused(Refusal::HostChanged));
        let quarantine = QuarantineHost { host: HostId(2), until: Some(at(60)), reason: "".into(), at: at(5) };
        check(&mut state, &Command::QuarantineHost(quarantine), &Outcome::Done);
        check_place(&mut state, place(1, 2), refused(Refusal::HostChanged));
        check_place(&mut state, Place { at: at(60), ..place(1, 2) }, PlaceOutcome::Created(id(1)));
    }

    #[test]
    fn constraints_runtime_and_anti_affinity_hold() {
        let mut state = cluster_with(2);
        let with = |n, host, change: fn(&mut plimsoll_types::SandboxSpec)| {
            let mut spec = spec();
            change(&mut spec);
            Place { spec: Arc::new(spec), ..place(n, host) }
        };
        let zone = |spec: &mut plimsoll_types::SandboxSpec| {
            spec.constraints = vec![Constraint::Equals { key: "zone".into(), value: "z1".into() }];
        };
        check_place(&mut state, with(1, 0, zone), PlaceOutcome::Refused(Refusal::HostChanged));
        check_place(&mut state, with(1, 1, zone), PlaceOutcome::Created(id(1)));
        let runsc = with(2, 0, |spec| spec.runtime = Runtime::Runsc);
        check_place(&mut state, runsc, PlaceOutcome::Refused(Refusal::HostChanged));
        let apart = |spec: &mut plimsoll_types::SandboxSpec| spec.anti_affinity = Some("db".into());
        check_place(&mut state, with(3, 0, apart), PlaceOutcome::Created(id(3)));
        check_place(&mut state, with(4, 0, apart), PlaceOutcome::Refused(Refusal::HostChanged));
        check_place(&mut state, with(4, 1, apart), PlaceOutcome::Created(id(4)));
    }

    #[test]
    fn the_queue_is_asked_for_and_bounded() {
        let mut state = cluster();
        state.policy.queue_limit = 1;
        let unasked = Place { queue_until: None, ..queue(1) };
        check_place(&mut state, unasked, PlaceOutcome::Refused(Refusal::HostChanged));
        check_place(&mut state, queue(1), PlaceOutcome::Created(id(1)));
        assert_eq!((sandbox(&state, 1).phase, sandbox(&state, 1).generation), (Phase::Pending, Generation::ZERO));
        check_place(&mut state, queue(2), PlaceOutcome::Refused(Refusal::QueueFull));
    }

    #[test]
    fn many_placements_on_many_hosts_take_no_scan() {
        let mut state = cluster();
        for n in 0..2000 {
            state.apply(u64::from(n) + 2, &Command::AddHost(Box::new(add_host(n))));
        }
        let batch: Vec<Place> = (0..4000).map(|n| place(n, u32::try_from(n / 2).unwrap())).collect();
        let outcome = state.apply(9000, &Command::Place(batch));
        let Outcome::Placed(each) = outcome else { panic!("{outcome:?}") };
        assert!(each.iter().all(|one| matches!(one, PlaceOutcome::Created(_))));
        sound(&state);
    }
}
