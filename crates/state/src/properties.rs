//! Random sequences of commands: after each step every invariant holds, and replicas that took different ways (replay,
//! snapshot in the middle, retried proposals) end with equal digests.

use crate::{
    Assignment, Command, Drain, PlaceOutcome, Policy, State, WorkKind,
    command::{
        Advance, Assign, Begin, CordonHost, DeleteSnapshot, DrainHost, ForgetIdempotency, ForgetSnapshots, Found,
        Freeze, GiveUp, Place, QuarantineHost, RemoveHost, ReportHost, RestoreFrom, SetHold, SetPolicy, SpendJoinToken,
        Switch, TakeOver, Taken, WriteOff,
    },
    testing::*,
};
use crate::{Outcome, invariants};
use plimsoll_types::{
    Bytes, Generation, Health, HostId, LoadLine, Millis, NodeId, OperationId, Phase, Resources, TenantId, Timestamp,
};
use proptest::{prelude::*, sample::select};
use std::{collections::BTreeMap, sync::Arc};

/// What to do, in small numbers; what the state must tell (generations, containers) is filled in when it is done.
#[derive(Clone, Debug)]
enum Step {
    AddHost(u32),
    RemoveHost(u32),
    Report { host: u32, health: Health, scale: u64 },
    Cordon { host: u32, on: bool },
    Quarantine { host: u32, until: Option<u64> },
    Policy { events: u32, permille: u32 },
    Place(Vec<Item>),
    Assign { n: u64, host: u32, stale: bool },
    Advance { n: u64, to: Phase, stale: bool, release: bool, container: Option<u8> },
    Terminate { n: u64, guarded: bool },
    Begin { n: u64, kind: WorkKind, to: u32, snapshot: u64 },
    Taken(u64),
    Switch(u64),
    GiveUp(u64),
    Freeze(u64, bool),
    Restore { n: u64, host: u32, snapshot: u64 },
    DeleteSnapshot(u64),
    ForgetSnapshots(Vec<u64>),
    Drain(u32, bool),
    Deadline { n: u64, seconds: u64 },
    Forget(Vec<u64>),
    ForgetKeys(u64),
    SpendToken { nonce: u8, node: u64 },
    Hold(bool),
    TakeOver { n: u64, host: u32, later: u64, frozen: bool },
    WriteOff(u64),
}

#[derive(Clone, Debug)]
struct Item {
    n: u64,
    session: u64,
    host: Option<u32>,
    key: Option<u8>,
    cpus: u64,
    apart: bool,
}

const KINDS: [WorkKind; 4] = [WorkKind::Snapshot, WorkKind::Checkpoint, WorkKind::Pause, WorkKind::Migrate];
const SANDBOXES: u64 = 8;
const HOSTS: u32 = 3;

fn item() -> impl Strategy<Value = Item> {
    let key = proptest::option::weighted(0.3, 0..3u8);
    (0..SANDBOXES, 0..4u64, proptest::option::weighted(0.8, 0..HOSTS), key, 1..3u64, any::<bool>())
        .prop_map(|(n, session, host, key, cpus, apart)| Item { n, session, host, key, cpus, apart })
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..SANDBOXES;
    let health = select(vec![Health::Ready, Health::Ready, Health::Unreachable, Health::Lost]);
    let rarely = || proptest::bool::weighted(0.1);
    let news = (n.clone(), select(Phase::ALL.to_vec()), rarely(), rarely(), proptest::option::of(0..2u8));
    prop_oneof![
        2 => (0..HOSTS).prop_map(Step::AddHost),
        1 => (0..HOSTS).prop_map(Step::RemoveHost),
        2 => (0..HOSTS, health, 1..4u64).prop_map(|(host, health, scale)| Step::Report { host, health, scale }),
        1 => (0..HOSTS, rarely()).prop_map(|(host, on)| Step::Cordon { host, on }),
        1 => (0..HOSTS, proptest::option::of(0..200u64)).prop_map(|(host, until)| Step::Quarantine { host, until }),
        1 => (0..20u32, 500..2000u32).prop_map(|(events, permille)| Step::Policy { events, permille }),
        8 => proptest::collection::vec(item(), 1..4).prop_map(Step::Place),
        4 => (n.clone(), 0..HOSTS, rarely()).prop_map(|(n, host, stale)| Step::Assign { n, host, stale }),
        16 => news.prop_map(|(n, to, stale, release, container)| Step::Advance { n, to, stale, release, container }),
        3 => (n.clone(), rarely()).prop_map(|(n, guarded)| Step::Terminate { n, guarded }),
        6 => (n.clone(), select(KINDS.to_vec()), 0..HOSTS, 0..12u64)
            .prop_map(|(n, kind, to, snapshot)| Step::Begin { n, kind, to, snapshot }),
        6 => n.clone().prop_map(Step::Taken),
        3 => n.clone().prop_map(Step::Switch),
        1 => n.clone().prop_map(Step::GiveUp),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, frozen)| Step::Freeze(n, frozen)),
        3 => (n.clone(), 0..HOSTS, 0..12u64).prop_map(|(n, host, snapshot)| Step::Restore { n, host, snapshot }),
        1 => (0..12u64).prop_map(Step::DeleteSnapshot),
        1 => proptest::collection::vec(0..12u64, 0..4).prop_map(Step::ForgetSnapshots),
        1 => (0..HOSTS, rarely()).prop_map(|(host, on)| Step::Drain(host, on)),
        2 => (n.clone(), 0..300u64).prop_map(|(n, seconds)| Step::Deadline { n, seconds }),
        2 => proptest::bool::weighted(0.3).prop_map(Step::Hold),
        4 => (n.clone(), 0..HOSTS, 0..2u64, any::<bool>())
            .prop_map(|(n, host, later, frozen)| Step::TakeOver { n, host, later, frozen }),
        1 => n.clone().prop_map(Step::WriteOff),
        1 => proptest::collection::vec(n, 0..3).prop_map(Step::Forget),
        1 => (0..300u64).prop_map(Step::ForgetKeys),
        1 => (0..4u8, 2..9u64).prop_map(|(nonce, node)| Step::SpendToken { nonce, node }),
    ]
}

fn command(state: &State, step: &Step, seconds: u64) -> Command {
    let at = at(seconds);
    let generation = |n: u64| state.sandboxes.get(&id(n)).map_or(Generation::ZERO, |sandbox| sandbox.generation);
    let work = |n: u64| {
        let work = state.sandboxes.get(&id(n)).and_then(|sandbox| sandbox.work.as_ref());
        work.map_or(operation(n), |work| work.operation)
    };
    match step {
        Step::AddHost(n) => Command::AddHost(Box::new(crate::command::AddHost { at, ..add_host(*n) })),
        Step::RemoveHost(n) => Command::RemoveHost(RemoveHost { host: HostId(*n), at }),
        Step::Report { host, health, scale } => {
            let mut facts = facts(*host);
            facts.totals.cpu.0 = 2000 * scale;
            Command::ReportHost(Box::new(ReportHost { facts: Some(facts), at, ..report(*host, *health, 0) }))
        }
        Step::Cordon { host, on } => {
            Command::CordonHost(CordonHost { host: HostId(*host), cordoned: *on, reason: "".into(), at })
        }
        Step::Quarantine { host, until } => {
            let until = until.map(crate::testing::at);
            Command::QuarantineHost(QuarantineHost { host: HostId(*host), until, reason: "".into(), at })
        }
        Step::Policy { events, permille } => {
            let load_line = LoadLine { cpu_overcommit_permille: *permille, ..LoadLine::default() };
            let policy = Policy { events_kept: *events, load_line, queue_limit: 3, ..Policy::default() };
            Command::SetPolicy(SetPolicy { policy, expected: None, at })
        }
        Step::Place(items) => Command::Place(items.iter().map(|item| proposal(item, at)).collect()),
        Step::Assign { n, host, stale } => {
            let generation = if *stale { generation(*n) } else { generation(*n).next() };
            let assignment = Assignment { host: HostId(*host), generation };
            Command::Assign(vec![Assign { sandbox: id(*n), assignment, deadline: None, restore: None, at }])
        }
        Step::Advance { n, to, stale, release, container } => {
            let now = generation(*n);
            let generation = if *stale { now.next() } else { now };
            let container = container.map(|c| format!("c{n}-{now}-{c}").into());
            Command::Advance(vec![Advance { generation, release: *release, container, at, ..news(*n, *to) }])
        }
        Step::Terminate { n, guarded } => {
            let if_deadline = guarded.then_some(Timestamp(7));
            Command::Terminate(vec![crate::command::Terminate { if_deadline, at, ..terminate(*n) }])
        }
        Step::Begin { n, kind, to, snapshot } => Command::Begin(Box::new(Begin {
            generation: generation(*n),
            operation: OperationId::from_parts(seconds, u128::from(*n)),
            snapshot: crate::testing::snapshot(*snapshot),
            at,
            ..begin(*n, *kind, (*kind == WorkKind::Migrate).then_some(*to))
        })),
        Step::Taken(n) => Command::Taken(Box::new(Taken { operation: work(*n), at, ..taken(*n) })),
        Step::Switch(n) => Command::Switch(Box::new(Switch {
            sandbox: id(*n),
            operation: work(*n),
            container: format!("c{n}-moved").into(),
            endpoints: Vec::new(),
            downtime: Millis(1),
            bytes: Bytes::ZERO,
            at,
        })),
        Step::GiveUp(n) => {
            Command::GiveUp(GiveUp { sandbox: id(*n), operation: work(*n), reason: "given up".into(), at })
        }
        Step::Freeze(n, frozen) => {
            Command::Freeze(Freeze { sandbox: id(*n), generation: generation(*n), frozen: *frozen, at })
        }
        Step::Restore { n, host, snapshot } => Command::Assign(vec![Assign {
            sandbox: id(*n),
            assignment: Assignment { host: HostId(*host), generation: generation(*n).next() },
            deadline: None,
            restore: Some(RestoreFrom { snapshot: crate::testing::snapshot(*snapshot), last_seen: at }),
            at,
        }]),
        Step::DeleteSnapshot(n) => {
            Command::DeleteSnapshots(vec![DeleteSnapshot { snapshot: crate::testing::snapshot(*n), at }])
        }
        Step::ForgetSnapshots(ids) => {
            let snapshots = ids.iter().map(|n| crate::testing::snapshot(*n)).collect();
            Command::ForgetSnapshots(ForgetSnapshots { snapshots, at })
        }
        Step::Drain(host, on) => {
            let drain = on.then(|| Drain { at, deadline: None, parallel: 1, reason: "".into() });
            Command::DrainHost(DrainHost { host: HostId(*host), drain, at })
        }
        Step::Deadline { n, seconds } => set_deadline(*n, *seconds),
        Step::Forget(ids) => Command::Forget(ids.iter().map(|n| id(*n)).collect()),
        Step::ForgetKeys(seconds) => {
            Command::ForgetIdempotency(ForgetIdempotency { before: crate::testing::at(*seconds) })
        }
        Step::SpendToken { nonce, node } => {
            let expires_at = at.plus(plimsoll_types::Millis::secs(3600));
            Command::SpendJoinToken(SpendJoinToken { nonce: [*nonce; 16], node: NodeId(*node), expires_at, at })
        }
        Step::Hold(on) => Command::SetHold(SetHold { reason: on.then(|| "we look".into()), at }),
        Step::TakeOver { n, host, later, frozen } => {
            let generation = Generation(generation(*n).0 + later);
            let made = (*n % 2 == 0).then(|| Found {
                tenant: TenantId::default_tenant(),
                session: session(*n % 4),
                spec: Arc::new(spec()),
                operation: operation(*n),
                created_at: at,
            });
            Command::TakeOver(Box::new(TakeOver {
                sandbox: id(*n),
                assignment: Assignment { host: HostId(*host), generation },
                container: format!("c{n}-{generation}-found").into(),
                endpoints: Vec::new(),
                frozen: *frozen,
                made,
                at,
            }))
        }
        Step::WriteOff(n) => {
            let reason = "nowhere".into();
            Command::WriteOff(vec![WriteOff { sandbox: id(*n), generation: generation(*n), reason, at }])
        }
    }
}

fn proposal(item: &Item, at: Timestamp) -> Place {
    let mut spec = spec();
    spec.resources = Resources { cpu: plimsoll_types::MilliCpu(1000 * item.cpus), ..spec.resources };
    spec.anti_affinity = item.apart.then(|| "group".into());
    Place {
        session: session(item.session),
        spec: Arc::new(spec),
        host: item.host.map(HostId),
        queue_until: item.host.is_none().then(|| at.plus(plimsoll_types::Millis::secs(60))),
        idempotency: item.key.and_then(|k| key(&format!("k{k}"), 1)),
        at,
        ..place(item.n, 0)
    }
}

/// Applies the steps to a cluster with hosts and answers the commands with their outcomes.
fn play(state: &mut State, steps: &[Step], mut after: impl FnMut(&mut State, &Command, &Outcome)) {
    for (n, step) in steps.iter().enumerate() {
        let command = command(state, step, 10 + n as u64);
        let outcome = state.apply(state.applied + 1, &command);
        after(state, &command, &outcome);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_invariant_holds_after_every_command(steps in proptest::collection::vec(step(), 1..80)) {
        let mut state = cluster_with(2);
        let mut generations = BTreeMap::new();
        let mut failed = None;
        play(&mut state, &steps, |state, command, _| {
            if let (None, Some(violation)) = (&failed, invariants::check(state).first()) {
                failed = Some(format!("{violation} after {command:?}"));
            }
            for (id, sandbox) in &state.sandboxes {
                let seen = generations.insert(*id, sandbox.generation).unwrap_or_default();
                // A forgotten sandbox's id may come again here, from its first generation.
                let fresh = sandbox.created_at == sandbox.phase_since;
                if seen > sandbox.generation && !fresh && failed.is_none() {
                    failed = Some(format!("{id} went from generation {seen} to {}", sandbox.generation));
                }
            }
        });
        prop_assert_eq!(failed, None);
    }

    #[test]
    fn replicas_agree_whichever_way_they_came(
        steps in proptest::collection::vec(step(), 1..60),
        cut in 0..60usize,
    ) {
        let mut state = cluster_with(2);
        let mut follower = state.clone();
        let mut log = Vec::new();
        play(&mut state, &steps, |state, command, outcome| log.push((state.applied, command.clone(), outcome.clone())));
        for (n, (index, command, outcome)) in log.iter().enumerate() {
            if n == cut {
                let mut bytes = Vec::new();
                follower.write_snapshot(&mut bytes).unwrap();
                follower = State::read_snapshot(bytes.as_slice()).unwrap();
            }
            prop_assert_eq!(&follower.apply(*index, command), outcome);
        }
        prop_assert_eq!(follower.digest(), state.digest());
        prop_assert_eq!(follower, state);
    }

    #[test]
    fn a_proposal_applied_twice_changes_nothing_more(steps in proptest::collection::vec(step(), 1..60)) {
        let mut state = cluster_with(2);
        let mut failed = None;
        play(&mut state, &steps, |state, command, first| {
            let mut before = state.clone();
            let second = state.apply(state.applied, command);
            // Commands that pass things over or count items may find less to do; none may do more.
            before.events.clone_from(&state.events);
            before.events_dropped = state.events_dropped;
            let placed_again = matches!((first, &second), (Outcome::Placed(a), Outcome::Placed(b))
                if a.iter().zip(b).any(|(a, b)| matches!(a, PlaceOutcome::Created(_)) && a != b));
            if failed.is_none() && (*state != before || placed_again) {
                failed = Some(format!("{command:?}: {first:?}, then {second:?}"));
            }
        });
        prop_assert_eq!(failed, None);
    }
}
