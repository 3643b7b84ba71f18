//! Plans as people read them: what the CLI prints is what is asserted here.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is the report")]
#![allow(missing_docs, unreachable_pub, reason = "tests say what they are by their names")]

use plimsoll_lifecycle::{
    naming,
    planner::{self, Before, Facts, Listed},
    ports::{ContainerSeen, ContainerState, Mount},
};
use plimsoll_state::{
    Assignment, Command, Host, Policy, Sandbox, State,
    command::{AddHost, Advance, InitCluster, Place, Terminate},
};
use plimsoll_types::{
    Bytes, ClusterId, Generation, HostFacts, HostId, HostName, Identity, ImageRef, Labels, MilliCpu, OperationId,
    Phase, PublishAddress, Resources, SandboxId, SandboxSpec, SessionId, TenantId, Timestamp,
};
use std::sync::Arc;

const HOST: HostId = HostId(0);

fn cluster() -> ClusterId {
    ClusterId::from_parts(1, 1)
}

fn id(n: u128) -> SandboxId {
    SandboxId::from_parts(1, n)
}

fn advance(n: u128, to: Phase, container: Option<&str>) -> Command {
    Command::Advance(vec![Advance {
        sandbox: id(n),
        generation: Generation::FIRST,
        to,
        container: container.map(Into::into),
        endpoints: Vec::new(),
        release: false,
        reason: "".into(),
        at: Timestamp(3),
    }])
}

fn place(n: u128, session: &str, sealed: bool) -> Command {
    let mut spec = SandboxSpec::new(ImageRef::new("base:1").expect("an image"));
    spec.ports = [4096, 20000].into();
    spec.sealed_env = sealed.then(|| vec![1]);
    Command::Place(vec![Place {
        sandbox: id(n),
        tenant: TenantId::default_tenant(),
        session: SessionId::new(session).expect("a session"),
        spec: Arc::new(spec),
        host: Some(HOST),
        queue_until: None,
        deadline: None,
        idempotency: None,
        operation: OperationId::from_parts(1, n),
        at: Timestamp(2),
    }])
}

fn state(commands: &[Command]) -> State {
    let init = InitCluster { cluster: cluster(), policy: Policy::default(), at: Timestamp(1) };
    let facts = HostFacts {
        machine_id: "m".to_owned(),
        runtimes: vec!["runc".to_owned()],
        totals: Resources { cpu: MilliCpu(64_000), memory: Bytes::gib(256), disk: Bytes::gib(1000) },
        ..HostFacts::default()
    };
    let add = AddHost {
        name: HostName::new("alpha").expect("a name"),
        address: "ssh://root@alpha".parse().expect("an address"),
        identity: Identity::NodeDefault,
        host_key: None,
        labels: Labels::new(),
        price_milli_per_hour: 0,
        publish: PublishAddress::default(),
        advertise: None,
        facts,
        at: Timestamp(1),
    };
    let mut state = State::default();
    let first = [Command::InitCluster(init), Command::AddHost(Box::new(add))];
    for (index, command) in (1..).zip(first.iter().chain(commands)) {
        let outcome = state.apply(index, command);
        assert!(!format!("{outcome:?}").contains("Refused") && !format!("{outcome:?}").contains("Err"), "{outcome:?}");
    }
    state
}

fn seen(n: u128, generation: u64, state: ContainerState, container: &str) -> ContainerSeen {
    ContainerSeen {
        id: container.repeat(64 / container.len()),
        name: "shadow-session-s1".to_owned(),
        state,
        cluster: Some(cluster()),
        sandbox: Some(id(n)),
        generation: Some(Generation(generation)),
        ports: Vec::new(),
        created_at: Timestamp(2),
    }
}

fn check(state: &State, n: u128, seen: &[ContainerSeen], predecessor: Option<SandboxId>, expected: &str) {
    let sandbox: &Sandbox = &state.sandboxes[&id(n)];
    let host: Option<&Host> = sandbox.assignment.map(|Assignment { host, .. }| &*state.hosts[&host]);
    let facts = Facts { cluster: cluster(), policy: &state.policy, sandbox, host, seen, predecessor };
    assert_eq!(planner::plan(facts).to_string(), expected);
}

#[test]
fn a_new_sandbox_is_committed_before_anything_of_it_is_made() {
    check(
        &state(&[place(1, "s1", true)]),
        1,
        &[],
        None,
        "\
1. ensure image base:1 (the sandbox starts from it on alpha)
2. commit starting (alpha is about to be told)
3. create container shadow-session-s1 with workspace /var/shadow/sandboxes/s1 (generation 1 has none)
4. start container shadow-session-s1 (it does not run yet)
5. write secrets into shadow-session-s1 (secrets live in memory only)
6. wait until it runs with ports 4096, 20000 (callers get endpoints that answer)
7. commit running (it serves)",
    );
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let state = state(&[place(1, "s1", false), advance(1, Phase::Starting, None)]);
    check(
        &state,
        1,
        &[seen(1, 1, ContainerState::Running, "ab")],
        None,
        "\
1. create container shadow-session-s1 with workspace /var/shadow/sandboxes/s1 (an earlier try made it)
2. start container shadow-session-s1 (to read its ports)
3. wait until it runs with ports 4096, 20000 (callers get endpoints that answer)
4. commit running (it serves)",
    );
}

#[test]
fn a_sandbox_waits_for_the_one_whose_names_it_takes_over() {
    let expected = format!("1. wait for {} to be taken down (it has the same names on alpha)", id(1));
    check(&state(&[place(2, "s1", false)]), 2, &[], Some(id(1)), &expected);
}

#[test]
fn taking_down_removes_only_what_is_its_own() {
    let wish =
        Terminate { sandbox: id(1), reason: "asked for".into(), if_deadline: None, if_phase: None, at: Timestamp(4) };
    let state = state(&[place(1, "s1", false), Command::Terminate(vec![wish])]);
    let mut strangers = seen(1, 1, ContainerState::Running, "ef");
    strangers.cluster = Some(ClusterId::from_parts(9, 9));
    let all = [seen(1, 1, ContainerState::Running, "ab"), seen(2, 1, ContainerState::Running, "cd"), strangers];
    let expected = format!(
        "\
1. remove container abababababab ({} is wanted gone from alpha)
2. remove workspace /var/shadow/sandboxes/s1 (it goes with its sandbox)
3. commit terminated: asked for (nothing of it is left; the room is free)",
        id(1)
    );
    check(&state, 1, &all, None, &expected);
}

#[test]
fn a_sandbox_at_rest_needs_nothing() {
    let steps = [place(1, "s1", false), advance(1, Phase::Starting, None), advance(1, Phase::Running, Some("c"))];
    check(&state(&steps), 1, &[], None, "nothing to do");
}

fn compare(state: &State, before: &[u128], listed: &[ContainerSeen], expected: &str) {
    compare_all(state, before, listed, &[], expected);
}

fn compare_all(state: &State, before: &[u128], containers: &[ContainerSeen], workspaces: &[&str], expected: &str) {
    let before: Before = before.iter().map(|n| (id(*n), Generation::FIRST)).collect();
    let workspaces: Vec<Mount> = workspaces.iter().map(|session| workspace(session)).collect();
    let listed = Listed { containers, workspaces: &workspaces };
    assert_eq!(planner::reconcile(state, HOST, &before, listed).to_string(), expected);
}

fn workspace(name: &str) -> Mount {
    let session = SessionId::new(name).expect("a session");
    naming::workspace(&Policy::default(), &TenantId::default_tenant(), &session)
}

#[test]
fn what_has_no_owner_goes_and_what_died_is_said() {
    let container = "ab".repeat(32);
    let steps =
        [place(1, "s1", false), advance(1, Phase::Starting, None), advance(1, Phase::Running, Some(&container))];
    let state = state(&steps);
    compare(&state, &[1], &[seen(1, 1, ContainerState::Running, "ab")], "nothing to do");
    // One that was not running before the list says nothing by its absence.
    compare(&state, &[], &[], "nothing to do");
    let fail = |why: &str| format!("1. fail {} generation 1: {why} (it should run on host-0)", id(1));
    compare(&state, &[1], &[], &fail("its container vanished from the host"));
    let exited = seen(1, 1, ContainerState::Exited(3), "ab");
    compare(&state, &[1], &[exited], &fail("its main process ended with exit code 3"));
    // An orphan under the session's name: its container goes, the workspace is the live sandbox's.
    let orphan = seen(9, 1, ContainerState::Running, "cd");
    let expected = format!("1. remove container cdcdcdcdcdcd (there is no {})", id(9));
    compare(&state, &[1], &[seen(1, 1, ContainerState::Running, "ab"), orphan.clone()], &expected);
    compare_all(&state, &[1], &[seen(1, 1, ContainerState::Running, "ab"), orphan.clone()], &["s1"], &expected);
    // Without one, the workspace goes too.
    let other = ContainerSeen { name: "shadow-session-s9".to_owned(), ..orphan.clone() };
    let expected = format!("{expected}\n2. remove workspace /var/shadow/sandboxes/s9 (no sandbox on host-0 has it)");
    compare_all(&state, &[], &[other], &["s9"], &expected);
    // Another cluster's, or nobody's, is none of our business.
    compare(
        &state,
        &[],
        &[ContainerSeen { cluster: Some(ClusterId::from_parts(9, 9)), ..orphan.clone() }],
        "nothing to do",
    );
    compare(&state, &[], &[ContainerSeen { sandbox: None, ..orphan }], "nothing to do");
}

#[test]
fn a_workspace_without_a_container_goes_unless_a_sandbox_on_the_host_has_it() {
    // Assigned, and nothing else: its create may have made the workspace and not yet the container.
    let state = state(&[place(1, "s1", false), place(2, "s2", false), advance(2, Phase::Starting, None)]);
    let expected = "\
1. remove workspace /var/shadow/sandboxes/s8 (no sandbox on host-0 has it)
2. remove workspace /var/shadow/sandboxes/s9 (no sandbox on host-0 has it)";
    compare_all(&state, &[], &[], &["s9", "s1", "s8", "s2"], expected);
}
