//! What the hosts' labels say, compared with state, as people read it.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is the report")]
#![allow(missing_docs, unreachable_pub, reason = "tests say what they are by their names")]

use plimsoll_lifecycle::{
    planner::{Sighting, drift},
    ports::{ContainerSeen, ContainerState},
};
use plimsoll_state::{
    Command, Policy, State, WorkKind,
    command::{AddHost, Advance, Begin, InitCluster, Place, SetHold, TakeOver, Terminate},
};
use plimsoll_types::{
    Bytes, ClusterId, Generation, HostFacts, HostId, HostName, Identity, ImageRef, Labels, MilliCpu, OperationId,
    Phase, PublishAddress, Resources, SandboxId, SandboxSpec, SessionId, SnapshotId, TenantId, Timestamp,
};
use std::sync::Arc;

const RUNNING: ContainerState = ContainerState::Running;

fn id(n: u128) -> SandboxId {
    SandboxId::from_parts(1, n)
}

fn apply(state: &mut State, command: &Command) {
    let outcome = state.apply(state.applied + 1, command);
    assert!(!format!("{outcome:?}").contains("Refused") && !format!("{outcome:?}").contains("Err"), "{outcome:?}");
}

/// Two hosts, and so many sandboxes running on the first, each in a container with its number as its id.
fn cluster(sandboxes: u128) -> State {
    let mut state = State::default();
    let cluster = ClusterId::from_parts(1, 1);
    apply(&mut state, &Command::InitCluster(InitCluster { cluster, policy: Policy::default(), at: Timestamp(1) }));
    for name in ["alpha", "beta"] {
        let totals = Resources { cpu: MilliCpu(64_000), memory: Bytes::gib(256), disk: Bytes::gib(1000) };
        let runtimes = vec!["runc".to_owned()];
        let facts = HostFacts { machine_id: name.to_owned(), runtimes, totals, ..HostFacts::default() };
        let add = AddHost {
            name: HostName::new(name).expect("a name"),
            address: format!("ssh://root@{name}").parse().expect("an address"),
            identity: Identity::NodeDefault,
            host_key: None,
            labels: Labels::new(),
            price_milli_per_hour: 0,
            publish: PublishAddress::default(),
            advertise: None,
            facts,
            at: Timestamp(1),
        };
        apply(&mut state, &Command::AddHost(Box::new(add)));
    }
    for n in 1..=sandboxes {
        let place = Place {
            sandbox: id(n),
            tenant: TenantId::default_tenant(),
            session: SessionId::new(&format!("s{n}")).expect("a session"),
            spec: Arc::new(SandboxSpec::new(ImageRef::new("base:1").expect("an image"))),
            host: Some(HostId(0)),
            queue_until: None,
            lifetime: None,
            deadline: None,
            idempotency: None,
            operation: OperationId::from_parts(1, n),
            at: Timestamp(2),
        };
        apply(&mut state, &Command::Place(vec![place]));
        apply(&mut state, &news(n, Phase::Starting));
        apply(&mut state, &news(n, Phase::Running));
    }
    state
}

fn news(n: u128, to: Phase) -> Command {
    Command::Advance(vec![Advance {
        sandbox: id(n),
        generation: Generation::FIRST,
        to,
        container: Some(n.to_string().into()),
        endpoints: Vec::new(),
        release: false,
        reason: "".into(),
        at: Timestamp(3),
    }])
}

fn seen(n: u128, generation: u64, state: ContainerState) -> ContainerSeen {
    ContainerSeen {
        id: if generation == 1 { n.to_string() } else { format!("{n}-{generation}") },
        name: format!("shadow-session-s{n}"),
        state,
        cluster: Some(ClusterId::from_parts(1, 1)),
        sandbox: Some(id(n)),
        generation: Some(Generation(generation)),
        operation: Some(OperationId::from_parts(1, n)),
        session: SessionId::new(&format!("s{n}")).ok(),
        tenant: Some(TenantId::default_tenant()),
        ports: Vec::new(),
        created_at: Timestamp(2),
    }
}

/// `verdict sandbox generation host: why`, a line each; `None` for a host that does not answer.
#[track_caller]
fn check(state: &State, hosts: [Option<&[ContainerSeen]>; 2], expected: &[&str]) {
    let mut sighting = Sighting::default();
    for (host, list) in (0..).map(HostId).zip(hosts) {
        match list {
            Some(list) => drop(sighting.seen.insert(host, list.to_vec())),
            None => drop(sighting.silent.insert(host)),
        }
    }
    let name = |host: Option<HostId>| host.map_or("-", |host| ["alpha", "beta"][host.0 as usize]);
    let lines: Vec<String> = drift(state, &sighting)
        .iter()
        .map(|it| {
            let number = (1..9).find(|n| id(*n) == it.sandbox).expect("a number");
            format!("{} {number} g{} {}: {}", it.verdict, it.generation, name(it.host), it.why)
        })
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn what_is_as_state_says_is_the_same() {
    let ended = "same 2 g1 alpha: its container has ended, with exit code 137";
    let here = [seen(1, 1, RUNNING), seen(2, 1, ContainerState::Exited(137))];
    check(&cluster(2), [Some(&here), Some(&[])], &["same 1 g1 alpha: ", ended]);
}

#[test]
fn what_came_moved_ended_and_vanished_since_is_told_apart() {
    let mut state = cluster(4);
    let ends = Terminate { sandbox: id(4), reason: "".into(), if_deadline: None, if_phase: None, at: Timestamp(4) };
    apply(&mut state, &Command::Terminate(vec![ends]));
    let alpha = [seen(1, 1, RUNNING), seen(4, 1, RUNNING)];
    let fenced = ContainerSeen { name: "shadow-session-s2.fenced-g1".into(), ..seen(2, 1, ContainerState::Exited(0)) };
    let beta = [seen(2, 2, RUNNING), seen(5, 1, RUNNING), seen(6, 1, ContainerState::Created), fenced];
    check(
        &state,
        [Some(&alpha), Some(&beta)],
        &[
            "adopt 2 g2 beta: later than what state knows, generation 1",
            "adopt 5 g1 beta: state does not know it: made after the backup",
            "orphan 4 g1 alpha: state has it as terminating",
            "orphan 6 g1 beta: state does not know it, and it never ran or its labels name no session",
            "lost 3 g1 alpha: state has it as running, and no host has a container of it",
            "same 1 g1 alpha: ",
            "same 2 g1 beta: a replaced copy, kept for its time",
        ],
    );
}

#[test]
fn while_a_host_is_silent_nothing_is_called_lost() {
    let state = cluster(2);
    let lines = ["unknown 2 g1 alpha: not on its host; 1 hosts do not answer and may have it", "same 1 g1 alpha: "];
    check(&state, [Some(&[seen(1, 1, RUNNING)]), None], &lines);
    let away = "its host does not answer";
    check(&state, [None, Some(&[])], &[&format!("unknown 1 g1 alpha: {away}"), &format!("unknown 2 g1 alpha: {away}")]);
}

#[test]
fn an_earlier_copy_is_an_orphan_only_once_the_later_one_is_taken_over() {
    let mut state = cluster(1);
    let (old, new) = ([seen(1, 1, RUNNING)], [seen(1, 2, RUNNING)]);
    check(
        &state,
        [Some(&old), Some(&new)],
        &[
            "adopt 1 g2 beta: later than what state knows, generation 1",
            "same 1 g1 alpha: until generation 2 is taken over; it is removed after that",
        ],
    );
    apply(&mut state, &Command::SetHold(SetHold { reason: Some("".into()), at: Timestamp(5) }));
    let assignment = plimsoll_state::Assignment { host: HostId(1), generation: Generation(2) };
    let container = new[0].id.as_str().into();
    let (endpoints, at) = (Vec::new(), Timestamp(5));
    let take = TakeOver { sandbox: id(1), assignment, container, endpoints, frozen: false, made: None, at };
    apply(&mut state, &Command::TakeOver(Box::new(take)));
    let after = ["orphan 1 g1 alpha: state has it at generation 2, running", "same 1 g2 beta: "];
    check(&state, [Some(&old), Some(&new)], &after);
}

#[test]
fn a_migration_under_way_goes_on_and_one_that_was_finished_is_followed() {
    let mut state = cluster(1);
    let begin = Begin {
        sandbox: id(1),
        generation: Generation::FIRST,
        operation: OperationId::from_parts(2, 2),
        kind: WorkKind::Migrate,
        snapshot: SnapshotId::from_parts(1, 1),
        name: None,
        to: Some(HostId(1)),
        if_deadline: None,
        deadline: Timestamp(900),
        at: Timestamp(4),
    };
    apply(&mut state, &Command::Begin(Box::new(begin)));
    let target = [seen(1, 2, RUNNING)];
    let both = ["same 1 g1 alpha: ", "same 1 g2 beta: the target of its migration"];
    check(&state, [Some(&[seen(1, 1, ContainerState::Paused)]), Some(&target)], &both);
    let finished = ["adopt 1 g2 beta: later than what state knows, generation 1"];
    check(&state, [Some(&[]), Some(&target)], &finished);
}
