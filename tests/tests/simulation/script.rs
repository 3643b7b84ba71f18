//! One seed's life: a random script of requests and mishaps, then peace, then every invariant.

use super::world::{BUDGET, World, keyed, queued, sandbox};
use plimsoll_engine::{ClusterOperations, DrainWish, NewSandbox, Wait};
use plimsoll_lifecycle::ports::HostFailure;
use plimsoll_testkit::sim::{HostOp, HostSize, LedgerFaults, Mishap, SimHost, When};
use plimsoll_types::{ExpiryAction, HostLossPolicy, Millis, Phase, SandboxId};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::time::Duration;
use tokio::{task::JoinSet, time};

const SIZES: [HostSize; 3] = [HostSize::Cpx31, HostSize::Cpx41, HostSize::Cpx51];
const FAILURES: [HostFailure; 3] = [HostFailure::Transient, HostFailure::ThisHost, HostFailure::Unreachable];
const OPERATIONS: [HostOp; 18] = [
    HostOp::EnsureImage,
    HostOp::CreateContainer,
    HostOp::StartContainer,
    HostOp::RemoveContainer,
    HostOp::RemoveWorkspace,
    HostOp::RemoveIdleNetworks,
    HostOp::Inspect,
    HostOp::ListContainers,
    HostOp::Measure,
    HostOp::Freeze,
    HostOp::Thaw,
    HostOp::Commit,
    HostOp::Push,
    HostOp::Pull,
    HostOp::Fence,
    HostOp::ListSnapshots,
    HostOp::RemoveSnapshot,
    HostOp::Files,
];
/// How long callers may go on after everything has healed: their tries together.
const CALLERS: Duration = Duration::from_secs(3600);

/// A script under way.
pub(crate) struct Script {
    world: World,
    rng: StdRng,
    callers: JoinSet<()>,
    sessions: usize,
}

impl Script {
    /// A world of three nodes and three to six hosts.
    pub(crate) async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(3..=6);
        let sizes: Vec<_> = (0..count).map(|_| SIZES[rng.random_range(0..SIZES.len())]).collect();
        let world = World::new(seed, 3, &sizes).await;
        Self { world, rng, callers: JoinSet::new(), sessions: 0 }
    }

    /// Its world.
    pub(crate) fn world(&self) -> World {
        self.world.clone()
    }

    /// Plays it.
    pub(crate) async fn run(mut self) {
        let rng = &mut self.rng;
        let faults = LedgerFaults {
            lost_permille: rng.random_range(0..30),
            answer_lost_permille: rng.random_range(0..30),
            late_permille: rng.random_range(0..30),
            question_lost_permille: rng.random_range(0..50),
            lag_ms: rng.random_range(0..300),
        };
        self.world.cluster.set_faults(faults);
        for _ in 0..self.rng.random_range(20..40) {
            time::sleep(Duration::from_millis(self.rng.random_range(0..3000))).await;
            self.act();
            self.world.oracle.assert_now();
        }
        self.world.settle().await;
        let callers = std::mem::take(&mut self.callers);
        time::timeout(CALLERS, callers.join_all()).await.expect("every caller gets an answer");
        self.world.settle().await;
    }

    fn act(&mut self) {
        match self.rng.random_range(0..100u32) {
            0..18 => self.create(),
            18..25 => self.storm(),
            25..31 => self.terminate(),
            31..58 => self.operate(),
            58..68 => self.write(),
            68..78 => self.trip_host(),
            78..84 => self.lose_host(),
            84..86 => self.hurt_container(),
            86..89 => self.trip_registry(),
            89..97 => self.trip_node(),
            97..98 => self.drain(),
            98.. => self.squat(),
        }
    }

    /// A request with some of the things that requests may ask for.
    fn request(&mut self, session: usize) -> NewSandbox {
        let name = format!("s{session}");
        let mut request = match self.rng.random_range(0..3u32) {
            0 => keyed(&name, &format!("k{session}")),
            1 => queued(&name, self.rng.random_range(1..60)),
            2.. => sandbox(&name),
        };
        if self.rng.random_range(0..8) == 0 {
            request.lifetime = Some(Millis::secs(self.rng.random_range(5..90)));
        }
        if self.rng.random_range(0..8) == 0 {
            request.secret_env.0.insert("TOKEN".into(), "secret".into());
        }
        if self.rng.random_bool(0.5) {
            request.spec.on_host_loss = HostLossPolicy::Restore;
        }
        if self.rng.random_range(0..3) == 0 {
            request.spec.checkpoint_every = Some(Millis::secs(self.rng.random_range(60..90)));
        }
        if self.rng.random_bool(0.5) {
            request.spec.on_expiry = ExpiryAction::Pause;
        }
        request
    }

    fn any_sandbox(&mut self) -> Option<SandboxId> {
        let all: Vec<_> = self.world.cluster.committed().sandboxes.keys().copied().collect();
        all.choose(&mut self.rng).copied()
    }

    /// One that runs, mostly; the others have to be refused well.
    fn some_sandbox(&mut self) -> Option<SandboxId> {
        let running: Vec<_> = self.world.in_phase(Phase::Running).into_iter().collect();
        let paused: Vec<_> = self.world.in_phase(Phase::Paused).into_iter().collect();
        match self.rng.random_range(0..10u32) {
            0 => self.any_sandbox(),
            1..4 => paused.choose(&mut self.rng).or_else(|| running.first()).copied(),
            4.. => running.choose(&mut self.rng).or_else(|| paused.first()).copied(),
        }
    }

    /// Something that is done to a sandbox that is there.
    fn operate(&mut self) {
        let Some(id) = self.some_sandbox() else { return };
        let (world, first, what) = (self.world.clone(), self.rng.random_range(0..3), self.rng.random_range(0..12u32));
        let name = self.any_host().name().to_owned();
        let to = self.rng.random_bool(0.3).then_some(name);
        let frozen = self.rng.random_bool(0.5);
        world.note(format!("operation {what} on {id}, to {to:?}"));
        self.callers.spawn(async move {
            match what {
                0..3 => drop(world.pause(first, id).await),
                3..6 => drop(world.resume(first, id, to.as_deref()).await),
                6..9 => drop(world.migrate(first, id, to.as_deref()).await),
                9..10 => drop(world.freeze(first, id, frozen).await),
                10..11 => drop(world.snapshot(first, id, None).await),
                11.. => world.delete_one_of(first, id).await,
            }
        });
    }

    fn write(&mut self) {
        let Some(id) = self.some_sandbox() else { return };
        let folder = if self.rng.random_bool(0.5) { "/workspace" } else { "/opt" };
        let (world, first) = (self.world.clone(), self.rng.random_range(0..3));
        self.callers.spawn(async move { drop(world.write(first, id, folder).await) });
    }

    /// The registry is away, full or slow for a while, or pushes break off.
    fn trip_registry(&mut self) {
        let registry = self.world.fleet.registry();
        let what = self.rng.random_range(0..4u32);
        match what {
            0 => registry.set_down(true),
            1 => registry.set_full(true),
            2 => registry.set_slow(Duration::from_millis(self.rng.random_range(0..30_000))),
            3.. => registry.break_pushes(self.rng.random_range(1..4)),
        }
        let length = Duration::from_millis(self.rng.random_range(0..60_000));
        let world = self.world.clone();
        world.note(format!("the registry fails in way {what} for {length:?}"));
        tokio::spawn(async move {
            time::sleep(length).await;
            world.note("the registry heals".into());
            world.fleet.registry().heal();
        });
    }

    /// A host is to be emptied, and some time later no more.
    fn drain(&mut self) {
        let (world, host) = (self.world.clone(), self.any_host());
        let length = Duration::from_millis(self.rng.random_range(0..90_000));
        world.note(format!("{} is drained for {length:?}", host.name()));
        self.callers.spawn(async move {
            let state = world.cluster.committed();
            let Some(id) = state.hosts.values().find(|it| it.address == *host.address()).map(|it| it.id) else {
                return;
            };
            let wish = DrainWish { parallel: None, deadline: None, reason: "maintenance".into() };
            let drained = world.call(0, async |it| it.drain_host(id, wish.clone()).await).await;
            time::sleep(length).await;
            let undrained = world.call(0, async |it| it.undrain_host(id).await).await;
            world.note(format!("{}: {drained:?} {undrained:?}", host.name()));
        });
    }

    fn create(&mut self) {
        self.sessions += 1;
        let request = self.request(self.sessions);
        let (world, first) = (self.world.clone(), self.rng.random_range(0..3));
        world.note(format!("create {:?}", request.session));
        let wait = if self.rng.random_bool(0.5) { Wait::No } else { Wait::Upto(BUDGET) };
        // A second attempt without a key may find the first one's sandbox, so a create that matters has one.
        self.callers.spawn(async move { drop(world.create(first, request, wait).await) });
    }

    /// Several callers want the same session at once; sometimes one that exists.
    fn storm(&mut self) {
        if self.sessions == 0 || self.rng.random_bool(0.5) {
            self.sessions += 1;
        }
        let session = self.rng.random_range(1..=self.sessions);
        let request = NewSandbox { idempotency: None, ..self.request(session) };
        let count = self.rng.random_range(2..7);
        self.world.note(format!("{count} ensures of s{session}"));
        for nth in 0..count {
            let (world, request) = (self.world.clone(), request.clone());
            self.callers.spawn(async move { drop(world.ensure(nth, request).await) });
        }
    }

    fn terminate(&mut self) {
        let Some(id) = self.any_sandbox() else { return };
        let wait = if self.rng.random_bool(0.5) { Wait::No } else { Wait::Upto(BUDGET) };
        for nth in 0..self.rng.random_range(1..3) {
            let world = self.world.clone();
            self.callers.spawn(async move { drop(world.terminate(nth, id, wait).await) });
        }
    }

    fn any_host(&mut self) -> SimHost {
        let nth = self.rng.random_range(0..self.world.fleet.hosts().len());
        self.world.host(nth)
    }

    /// One or a few calls of an operation go wrong.
    fn trip_host(&mut self) {
        let host = self.any_host();
        let op = OPERATIONS[self.rng.random_range(0..OPERATIONS.len())];
        let mishap = match self.rng.random_range(0..6u32) {
            0 => Mishap::FailBefore(FAILURES[self.rng.random_range(0..FAILURES.len())]),
            1 => Mishap::FailAfter,
            2 => Mishap::Unreachable,
            3 => Mishap::Hang,
            4 => Mishap::Slow(Duration::from_millis(self.rng.random_range(0..60_000))),
            5.. => Mishap::Twice,
        };
        let when = When::Next(self.rng.random_range(1..4));
        self.world.note(format!("{} {op:?} {mishap:?} {when:?}", host.name()));
        host.fault(op, mishap, when);
    }

    /// A whole host goes away, freezes or fills up for a while.
    fn lose_host(&mut self) {
        let host = self.any_host();
        let what = match self.rng.random_range(0..5u32) {
            0 => {
                host.power_off();
                "is switched off"
            }
            1 => {
                host.fault(None, Mishap::Hang, When::Always);
                "freezes"
            }
            2 => {
                host.set_disk_full(true);
                "has a full disk"
            }
            3 => {
                host.set_start_fails(Some(HostFailure::ThisHost));
                "starts nothing"
            }
            4.. => {
                host.disconnect();
                "is cut off"
            }
        };
        let length = Duration::from_millis(self.rng.random_range(0..90_000));
        let world = self.world.clone();
        world.note(format!("{} {what} for {length:?}", host.name()));
        tokio::spawn(async move {
            time::sleep(length).await;
            world.note(format!("{} heals", host.name()));
            host.heal();
        });
    }

    fn hurt_container(&mut self) {
        let running: Vec<_> = self.world.in_phase(Phase::Running).into_iter().collect();
        let Some(id) = running.choose(&mut self.rng).map(|id| self.world.record(*id)) else { return };
        let Some(container) = id.container.clone() else { return };
        self.world.note(format!("the container of {} is hurt", id.id));
        for host in self.world.fleet.hosts() {
            if self.rng.random_bool(0.5) { host.crash_container(&container) } else { host.lose_container(&container) }
        }
    }

    /// A node dies, is cut off, or loses leadership.
    fn trip_node(&mut self) {
        let nodes = self.world.cluster.nodes();
        let leader = self.world.cluster.leader();
        let node = match leader.filter(|_| self.rng.random_bool(0.6)) {
            Some(leader) => leader,
            None => nodes[self.rng.random_range(0..nodes.len())],
        };
        let world = self.world.clone();
        let length = Duration::from_millis(self.rng.random_range(0..20_000));
        match self.rng.random_range(0..4u32) {
            0 => {
                world.note("the leader steps down".into());
                world.cluster.depose();
            }
            1 => {
                world.note(format!("node {node} is cut off for {length:?}"));
                world.cluster.isolate(node);
                tokio::spawn(async move {
                    time::sleep(length).await;
                    world.cluster.rejoin(node);
                });
            }
            2 => {
                let host = self.any_host();
                world.note(format!("node {node} does not reach {}", host.name()));
                host.cut(node);
            }
            3.. => {
                world.kill(node);
                tokio::spawn(async move {
                    time::sleep(length).await;
                    world.revive(node);
                });
            }
        }
    }

    /// A stranger takes a name that a later session would have.
    fn squat(&mut self) {
        let host = self.any_host();
        let name = format!("shadow-session-s{}", self.sessions + 1);
        if host.containers().iter().any(|found| found.seen.name == name) {
            return;
        }
        self.world.note(format!("a stranger's {name} on {}", host.name()));
        self.world.oracle.foreign(&host, &host.add_foreign(&name, None));
    }
}
