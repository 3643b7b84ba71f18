//! Plans as people read them: what the CLI prints is what is asserted here.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is the report")]
#![allow(missing_docs, unreachable_pub, reason = "tests say what they are by their names")]

use plimsoll_lifecycle::{
    naming,
    planner::{self, Before, Facts, Listed, Room, WorkFacts},
    ports::{ContainerSeen, ContainerState, ImageSeen, Mount},
};
use plimsoll_state::{
    Assignment, Command, Host, Policy, Sandbox, State, Stored, WorkKind,
    command::{AddHost, Advance, Assign, Begin, InitCluster, Place, RestoreFrom, Taken, Terminate},
};
use plimsoll_types::{
    Bytes, ClusterId, Digest, Generation, HostFacts, HostId, HostName, Identity, ImageRef, Labels, MilliCpu,
    OperationId, Phase, PublishAddress, Resources, SandboxId, SandboxSpec, SessionId, SnapshotId, TenantId, Timestamp,
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
        lifetime: None,
        deadline: None,
        idempotency: None,
        operation: OperationId::from_parts(1, n),
        at: Timestamp(2),
    }])
}

fn add_host(name: &str) -> Command {
    let facts = HostFacts {
        machine_id: name.to_owned(),
        runtimes: vec!["runc".to_owned()],
        totals: Resources { cpu: MilliCpu(64_000), memory: Bytes::gib(256), disk: Bytes::gib(1000) },
        ..HostFacts::default()
    };
    Command::AddHost(Box::new(AddHost {
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
    }))
}

fn state(commands: &[Command]) -> State {
    let init = InitCluster { cluster: cluster(), policy: Policy::default(), at: Timestamp(1) };
    let mut state = State::default();
    let first = [Command::InitCluster(init), add_host("alpha")];
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
        operation: Some(OPERATION),
        session: SessionId::new("s1").ok(),
        tenant: Some(TenantId::default_tenant()),
        ports: Vec::new(),
        created_at: Timestamp(2),
    }
}

fn check(state: &State, n: u128, seen: &[ContainerSeen], predecessor: Option<SandboxId>, expected: &str) {
    let sandbox: &Sandbox = &state.sandboxes[&id(n)];
    let host: Option<&Host> = sandbox.assignment.map(|Assignment { host, .. }| &*state.hosts[&host]);
    let base = sandbox.base.map(|base| &*state.snapshots[&base]);
    let facts = Facts { cluster: cluster(), policy: &state.policy, sandbox, host, base, seen, predecessor };
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
6. wait until it runs with ports 4096, 20000 (callers are told where its ports are)
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
3. wait until it runs with ports 4096, 20000 (callers are told where its ports are)
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
    assert_eq!(planner::reconcile(state, HOST, &before, listed, Timestamp(9)).to_string(), expected);
}

fn workspace(name: &str) -> Mount {
    let session = SessionId::new(name).expect("a session");
    naming::workspace(&Policy::default(), &TenantId::default_tenant(), &session, Generation::FIRST)
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
    let again = format!(
        "1. start {} generation 1 again: its container was stopped from outside, with exit code 3 (it should run on host-0)",
        id(1)
    );
    compare(&state, &[1], std::slice::from_ref(&exited), &again);
    let mut own = state.clone();
    let spec = Arc::make_mut(&mut Arc::make_mut(own.sandboxes.get_mut(&id(1)).expect("it is there")).spec);
    spec.command = Some(vec!["server".to_owned()]);
    compare(&own, &[1], &[exited], &fail("its main process ended with exit code 3"));
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
fn what_copies_a_workspace_goes_with_its_operation() {
    let helper = |name: String| ContainerSeen { name, generation: None, ..seen(1, 1, ContainerState::Exited(1), "cd") };
    let own = seen(1, 1, ContainerState::Paused, "ab");
    let carrier = helper(naming::carrier(SNAPSHOT));
    compare(&working(WorkKind::Snapshot), &[1], &[own.clone(), carrier.clone()], "nothing to do");
    let other = helper(naming::carrier(SnapshotId::from_parts(6, 6)));
    let gone = "1. remove container cdcdcdcdcdcd (its snapshot was given up)";
    compare(&working(WorkKind::Snapshot), &[1], &[own, other], gone);
    let steps =
        [place(1, "s1", false), advance(1, Phase::Starting, None), advance(1, Phase::Running, Some(&"ab".repeat(32)))];
    let own = seen(1, 1, ContainerState::Running, "ab");
    compare(&state(&steps), &[1], &[own.clone(), carrier], gone);
    compare(&state(&steps), &[1], &[own, helper("plimsoll-helper".to_owned())], "nothing to do");
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

const OPERATION: OperationId = OperationId::from_parts(5, 5);
const SNAPSHOT: SnapshotId = SnapshotId::from_parts(5, 5);

/// A sandbox that runs on alpha, with an operation begun; a migration goes to beta.
fn working(kind: WorkKind) -> State {
    let container = "ab".repeat(32);
    let mut commands = vec![place(1, "s1", false), advance(1, Phase::Starting, None)];
    commands.push(advance(1, Phase::Running, Some(&container)));
    commands.push(add_host("beta"));
    commands.push(Command::Begin(Box::new(Begin {
        sandbox: id(1),
        generation: Generation::FIRST,
        operation: OPERATION,
        kind,
        snapshot: SNAPSHOT,
        name: None,
        to: (kind == WorkKind::Migrate).then_some(HostId(1)),
        if_deadline: None,
        deadline: Timestamp(900),
        at: Timestamp(5),
    })));
    state(&commands)
}

fn taken(state: &mut State) {
    let stored = Stored {
        repository: naming::repository(cluster(), &TenantId::default_tenant(), id(1)).into(),
        digest: Digest([1; 32]),
        size: Bytes::mib(1),
        sent: Bytes::mib(1),
        layers: 2,
        architecture: "".into(),
        taken_at: Timestamp(6),
        host: HOST,
    };
    let taken = Taken { sandbox: id(1), operation: OPERATION, stored, at: Timestamp(7) };
    assert_eq!(state.apply(state.applied + 1, &Command::Taken(Box::new(taken))), plimsoll_state::Outcome::Done);
}

fn work_facts<'a>(state: &'a State, here: &'a [ContainerSeen], there: &'a [ContainerSeen]) -> WorkFacts<'a> {
    WorkFacts {
        cluster: cluster(),
        policy: &state.policy,
        sandbox: &state.sandboxes[&id(1)],
        snapshot: &state.snapshots[&SNAPSHOT],
        target: state.hosts.get(&HostId(1)).map(|host| &**host),
        here,
        there,
    }
}

#[test]
fn a_snapshot_holds_the_sandbox_still_only_while_it_is_read() {
    let state = working(WorkKind::Snapshot);
    let repository = naming::repository(cluster(), &TenantId::default_tenant(), id(1));
    let expected = format!(
        "\
1. freeze container abababababab (files and workspace must be of one moment)
2. commit container abababababab as {SNAPSHOT} ({SNAPSHOT} is made of both)
3. thaw container abababababab (the sandbox goes on)
4. push {SNAPSHOT} to {repository} (it must outlive this host)
5. commit the snapshot (from here on it is what the sandbox can come back from)"
    );
    assert_eq!(planner::work(work_facts(&state, &[], &[])).to_string(), expected);
}

#[test]
fn a_pause_removes_nothing_before_its_snapshot_is_safe() {
    let mut state = working(WorkKind::Pause);
    let here = [seen(1, 1, ContainerState::Paused, "ab"), seen(2, 1, ContainerState::Running, "cd")];
    let before = planner::work(work_facts(&state, &here, &[])).to_string();
    assert!(!before.contains("remove") && !before.contains("thaw"), "{before}");
    taken(&mut state);
    assert_eq!(
        planner::work(work_facts(&state, &here, &[])).to_string(),
        "\
1. remove container abababababab (its snapshot is safe)
2. remove workspace /var/shadow/sandboxes/s1 (it is in the snapshot)
3. commit paused (it holds no room any more)"
    );
}

#[test]
fn a_migration_starts_there_only_while_it_stands_still_here() {
    let mut state = working(WorkKind::Migrate);
    taken(&mut state);
    let expected = format!(
        "\
1. there: pull {SNAPSHOT} by {} (the sandbox starts from it on beta)
2. there: create container shadow-session-s1 with workspace /var/shadow/sandboxes/s1..default..g2 (generation 2)
3. freeze container abababababab (never do two copies run)
4. there: start container shadow-session-s1 (the source stands still)
5. there: wait until it runs with ports 4096, 20000 (callers are told where its ports are)
6. commit the move (from here on it is there)
7. remove container abababababab (it is not here any more)
8. remove workspace /var/shadow/sandboxes/s1 (it is not here any more)",
        Digest([1; 32])
    );
    assert_eq!(planner::work(work_facts(&state, &[], &[])).to_string(), expected);
}

#[test]
fn what_is_given_up_is_gone_there_before_it_goes_on_here() {
    let state = working(WorkKind::Migrate);
    let there = [seen(1, 2, ContainerState::Running, "ef")];
    assert_eq!(
        planner::undo(work_facts(&state, &[], &there), "registry_full: no room").to_string(),
        "\
1. there: remove container efefefefefef (it must not run beside the source)
2. there: remove workspace /var/shadow/sandboxes/s1..default..g2 (it goes with its container)
3. thaw container abababababab (the sandbox goes on as it was)
4. commit that it is given up: registry_full: no room (it runs again)"
    );
}

#[test]
fn a_lost_sandbox_goes_on_with_its_own_container_or_not_at_all() {
    let container = "ab".repeat(32);
    let steps = [
        place(1, "s1", false),
        advance(1, Phase::Starting, None),
        advance(1, Phase::Running, Some(&container)),
        advance(1, Phase::Lost, None),
    ];
    let state = state(&steps);
    let gone = format!(
        "1. fail {} generation 1: its host alpha came back without its container (there is nothing to go on with)",
        id(1)
    );
    check(&state, 1, &[], None, &gone);
    check(
        &state,
        1,
        &[seen(1, 1, ContainerState::Exited(255), "ab")],
        None,
        "\
1. create container shadow-session-s1 with workspace /var/shadow/sandboxes/s1 (its host is back)
2. start container shadow-session-s1 (it does not run yet)
3. wait until it runs with ports 4096, 20000 (callers are told where its ports are)
4. commit running (it serves)",
    );
}

#[test]
fn a_replaced_copy_is_stopped_kept_and_then_removed() {
    let mut state = working(WorkKind::Checkpoint);
    taken(&mut state);
    let restore = Assign {
        sandbox: id(1),
        assignment: Assignment { host: HostId(1), generation: Generation(2) },
        deadline: None,
        restore: Some(RestoreFrom { snapshot: SNAPSHOT, last_seen: Timestamp(8) }),
        at: Timestamp(8),
    };
    for command in [advance(1, Phase::Lost, None), Command::Assign(vec![restore])] {
        assert_eq!(state.apply(state.applied + 1, &command), plimsoll_state::Outcome::Each(vec![Ok(())]));
    }
    let old = seen(1, 1, ContainerState::Running, "ab");
    let name = naming::fenced("shadow-session-s1", Generation::FIRST);
    let expected = format!(
        "1. stop container abababababab and keep it as {name} ({} is at generation 2 elsewhere, this is 1)",
        id(1)
    );
    // Its workspace stays with it.
    compare_all(&state, &[], std::slice::from_ref(&old), &["s1"], &expected);
    let fenced = ContainerSeen { name, state: ContainerState::Exited(137), ..old };
    compare_all(&state, &[], std::slice::from_ref(&fenced), &["s1"], "nothing to do");
    let later = Timestamp(8).plus(state.policy.superseded_kept);
    let listed = Listed { containers: std::slice::from_ref(&fenced), workspaces: &[] };
    let plan = planner::reconcile(&state, HOST, &Before::new(), listed, later).to_string();
    assert!(plan.starts_with("1. remove container abababababab"), "{plan}");
}

#[test]
fn images_go_when_nothing_needs_them_and_sooner_on_a_full_disk() {
    let state = working(WorkKind::Snapshot);
    let image = |snapshot: SnapshotId, at| ImageSeen {
        name: naming::snapshot_image(cluster(), snapshot),
        snapshot: Some(snapshot),
        size: Bytes::mib(1),
        created_at: Timestamp(at),
    };
    let stranger = SnapshotId::from_parts(9, 9);
    let images = [image(SNAPSHOT, 5), image(stranger, 6)];
    let collect = |state: &State, room, now| planner::collect(state, HOST, &images, room, Timestamp(now)).to_string();
    let gone = format!("1. remove image {} (there is no {stranger})", naming::snapshot_image(cluster(), stranger));
    assert_eq!(collect(&state, Room::Tight, 7), gone, "one that is being taken stays");
    let mut state = state;
    taken(&mut state);
    assert_eq!(collect(&state, Room::Enough, 7), gone);
    for (room, now) in [(Room::Tight, 7), (Room::Enough, 4_000_000)] {
        assert!(collect(&state, room, now).starts_with(&format!("1. remove image plimsoll-snapshot/{}", cluster())));
        assert!(collect(&state, room, now).contains("\n2. "));
    }
}
