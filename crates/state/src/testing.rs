//! What the tests of this crate share: small commands with sensible defaults, and the one `check` helper.

use crate::{
    Assignment, Command, Host, Outcome, PlaceOutcome, Policy, Refusal, Sandbox, State, Stored, WorkKind,
    command::{
        AddHost, Advance, Assign, Begin, Idempotency, InitCluster, Place, ReportHost, SetDeadline, SetHold, Taken,
        Terminate,
    },
    invariants,
};
use plimsoll_types::{
    Bytes, ClusterId, Digest, Endpoint, Generation, Health, HostFacts, HostId, Identity, ImageRef, Labels, MilliCpu,
    OperationId, Phase, PublishAddress, Resources, SandboxId, SandboxSpec, SessionId, SnapshotId, TenantId, Timestamp,
};
use std::sync::Arc;

/// Applies a command at the next index, compares the outcome, checks every invariant.
#[track_caller]
pub(crate) fn check(state: &mut State, command: &Command, expected: &Outcome) {
    let outcome = state.apply(state.applied + 1, command);
    assert_eq!(outcome, *expected, "{command:?}");
    sound(state);
}

/// The same for one item of a batch.
#[track_caller]
pub(crate) fn check_one(state: &mut State, command: &Command, expected: Result<(), Refusal>) {
    check(state, command, &Outcome::Each(vec![expected]));
}

/// The same for one placement.
#[track_caller]
pub(crate) fn check_place(state: &mut State, place: Place, expected: PlaceOutcome) {
    check(state, &Command::Place(vec![place]), &Outcome::Placed(vec![expected]));
}

#[track_caller]
pub(crate) fn sound(state: &State) {
    let violations: Vec<String> = invariants::check(state).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// A cluster without hosts.
pub(crate) fn cluster() -> State {
    let mut state = State::default();
    check(&mut state, &init(Policy::default()), &Outcome::Done);
    state
}

/// A cluster with so many hosts, each with room for two default sandboxes.
pub(crate) fn cluster_with(hosts: u32) -> State {
    let mut state = cluster();
    for n in 0..hosts {
        check(&mut state, &Command::AddHost(Box::new(add_host(n))), &Outcome::HostAdded(HostId(n)));
    }
    state
}

pub(crate) fn init(policy: Policy) -> Command {
    Command::InitCluster(InitCluster { cluster: ClusterId::from_parts(1, 1), policy, at: at(1) })
}

/// An operation on a running sandbox, numbered like it; a migration goes to this host.
pub(crate) fn begin(n: u64, kind: WorkKind, to: Option<u32>) -> Begin {
    Begin {
        sandbox: id(n),
        generation: Generation::FIRST,
        operation: operation(n),
        kind,
        snapshot: snapshot(n),
        name: None,
        to: to.map(HostId),
        if_deadline: None,
        deadline: at(900),
        at: at(40),
    }
}

pub(crate) fn operation(n: u64) -> OperationId {
    OperationId::from_parts(40, n.into())
}

pub(crate) fn snapshot(n: u64) -> SnapshotId {
    SnapshotId::from_parts(n, n.into())
}

/// That operation's snapshot in the registry.
pub(crate) fn taken(n: u64) -> Taken {
    let stored = Stored {
        repository: "plimsoll/test".into(),
        digest: Digest([u8::try_from(n).unwrap_or(u8::MAX); 32]),
        size: Bytes::mib(3),
        sent: Bytes::mib(1),
        layers: 3,
        architecture: facts(0).architecture.into(),
        taken_at: at(41),
        host: HostId(0),
    };
    Taken { sandbox: id(n), operation: operation(n), stored, at: at(50) }
}

#[track_caller]
pub(crate) fn check_begin(state: &mut State, item: Begin) {
    check(state, &Command::Begin(Box::new(item)), &Outcome::Done);
}

#[track_caller]
pub(crate) fn check_taken(state: &mut State, n: u64) {
    check(state, &Command::Taken(Box::new(taken(n))), &Outcome::Done);
}

/// Runs on a host and pauses.
#[track_caller]
pub(crate) fn pause(state: &mut State, n: u64, host: u32) {
    run(state, n, host);
    check_begin(state, begin(n, WorkKind::Pause, None));
    check_taken(state, n);
    check_one(state, &advance(news(n, Phase::Paused)), Ok(()));
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

pub(crate) fn add_host(n: u32) -> AddHost {
    AddHost {
        name: format!("h{n}").parse().unwrap(),
        address: format!("ssh://root@h{n}.example:22").parse().unwrap(),
        identity: Identity::NodeDefault,
        host_key: Some(format!("ssh-ed25519 key{n}")),
        labels: Labels::from([("zone".into(), format!("z{}", n % 2).into())]),
        price_milli_per_hour: 32,
        publish: PublishAddress::default(),
        advertise: None,
        facts: facts(n),
        at: at(1),
    }
}

pub(crate) fn facts(n: u32) -> HostFacts {
    HostFacts {
        machine_id: format!("machine{n}"),
        runtimes: vec!["runc".into()],
        totals: Resources { cpu: MilliCpu(4000), memory: Bytes::gib(8), disk: Bytes::gib(100) },
        ..HostFacts::default()
    }
}

pub(crate) fn report(host: u32, health: Health, seconds: u64) -> ReportHost {
    ReportHost { host: HostId(host), health, reason: "".into(), facts: None, at: at(seconds) }
}

pub(crate) fn id(n: u64) -> SandboxId {
    SandboxId::from_parts(n, u128::from(n))
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

pub(crate) fn session(n: u64) -> SessionId {
    SessionId::new(&format!("s{n}")).unwrap()
}

pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec::new(ImageRef::new("debian:12").unwrap())
}

/// Sandbox `n` of session `n` on a host.
pub(crate) fn place(n: u64, host: u32) -> Place {
    Place {
        sandbox: id(n),
        tenant: tenant(),
        session: session(n),
        spec: Arc::new(spec()),
        host: Some(HostId(host)),
        queue_until: None,
        lifetime: None,
        deadline: None,
        idempotency: None,
        operation: OperationId::from_parts(n, 7),
        at: at(10),
    }
}

/// Sandbox `n` of session `n` in the queue.
pub(crate) fn queue(n: u64) -> Place {
    Place { host: None, queue_until: Some(at(70)), ..place(n, 0) }
}

pub(crate) fn key(name: &str, hash: u8) -> Option<Idempotency> {
    Some(Idempotency { key: name.into(), request_hash: [hash; 32] })
}

pub(crate) fn assign(n: u64, host: u32, generation: u64) -> Command {
    let assignment = Assignment { host: HostId(host), generation: Generation(generation) };
    Command::Assign(vec![Assign { sandbox: id(n), assignment, deadline: None, restore: None, at: at(20) }])
}

/// News of the first generation.
pub(crate) fn news(n: u64, to: Phase) -> Advance {
    Advance {
        sandbox: id(n),
        generation: Generation::FIRST,
        to,
        container: None,
        endpoints: Vec::new(),
        release: false,
        reason: "".into(),
        at: at(30),
    }
}

pub(crate) fn advance(news: Advance) -> Command {
    Command::Advance(vec![news])
}

pub(crate) fn terminate(n: u64) -> Terminate {
    Terminate { sandbox: id(n), reason: "asked".into(), if_deadline: None, if_phase: None, at: at(40) }
}

pub(crate) fn set_deadline(n: u64, seconds: u64) -> Command {
    Command::SetDeadline(SetDeadline { sandbox: id(n), deadline: Some(at(seconds)), at: at(20) })
}

pub(crate) fn endpoint(host_port: u16) -> Endpoint {
    Endpoint { port: 4096, address: "127.0.0.1".into(), host_port }
}

/// Places sandbox `n` on a host and brings it to running in container `c<n>`.
#[track_caller]
pub(crate) fn run(state: &mut State, n: u64, host: u32) {
    check_place(state, place(n, host), PlaceOutcome::Created(id(n)));
    check_one(state, &advance(news(n, Phase::Starting)), Ok(()));
    let container = Some(format!("c{n}").into());
    let running = Advance { container, endpoints: vec![endpoint(32768)], ..news(n, Phase::Running) };
    check_one(state, &advance(running), Ok(()));
}

pub(crate) fn sandbox(state: &State, n: u64) -> &Sandbox {
    &state.sandboxes[&id(n)]
}

pub(crate) fn host(state: &State, n: u32) -> &Host {
    &state.hosts[&HostId(n)]
}

/// Puts the cluster on hold.
pub(crate) fn hold() -> Command {
    Command::SetHold(SetHold { reason: Some("restored".into()), at: at(60) })
}

/// Ends the hold.
pub(crate) fn resume(seconds: u64) -> Command {
    Command::SetHold(SetHold { reason: None, at: at(seconds) })
}
