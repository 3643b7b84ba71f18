//! Three nodes with their engines, a few hosts, an oracle, and a client that behaves as the platform's does.

use plimsoll_engine::{
    ClusterOperations, ClusterSecret, Engine, EngineOptions, Error, NewHost, NewSandbox, Provided, SandboxProvider,
    Scope, Secrets, VpsClusterProvider, Wait,
};
use plimsoll_lifecycle::ports::{Clock, Ledger};
use plimsoll_state::{
    Command, Policy, Sandbox,
    command::{Idempotency, InitCluster},
};
use plimsoll_testkit::sim::{HostOp, HostSize, Lifeline, Oracle, SimClock, SimCluster, SimFleet, SimHost, SimLedger};
use plimsoll_types::{
    ClusterId, Code, HostName, Identity, ImageRef, Labels, Millis, NodeId, Phase, PublishAddress, SandboxId,
    SandboxSpec, SessionId, TenantId, Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::AbortHandle,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long a client waits for an answer before it asks another node: the platform's own budget for a create.
pub(crate) const BUDGET: Duration = Duration::from_secs(180);
/// How often a client asks again.
const TRIES: usize = 12;
/// How long a cluster may take to settle once nothing goes wrong any more. A failed start is retried for the create budget of
/// three minutes on up to three hosts, and a quarantine may last a quarter of an hour.
const SETTLING: Duration = Duration::from_secs(30 * 60);

/// A simulated cluster. Clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) cluster: SimCluster,
    pub(crate) fleet: SimFleet,
    pub(crate) oracle: Oracle,
    clock: SimClock,
    nodes: Arc<Mutex<BTreeMap<NodeId, Running>>>,
    trace: Arc<Mutex<Vec<String>>>,
    began: Instant,
    /// Counts what was written, so that no two files of a world are alike.
    numbers: Arc<AtomicU64>,
}

/// The engine of one node's present incarnation.
struct Running {
    provider: Arc<VpsClusterProvider>,
    life: Lifeline,
    engine: AbortHandle,
}

impl World {
    /// So many nodes with an initialised cluster and hosts `h1`, `h2`, … of these sizes.
    pub(crate) async fn new(seed: u64, nodes: u64, sizes: &[HostSize]) -> Self {
        let clock = SimClock::new();
        let (cluster, fleet) = (SimCluster::new(nodes, seed), SimFleet::new(seed, clock));
        let oracle = Oracle::new(&cluster, &fleet);
        let (nodes, trace, numbers) = (Arc::default(), Arc::default(), Arc::default());
        let world = Self { cluster, fleet, oracle, clock, nodes, trace, began: Instant::now(), numbers };
        let ledgers = world.cluster.ledgers();
        let init = InitCluster { cluster: cluster_id(), policy: Policy::default(), at: SimClock::EPOCH };
        ledgers[0].propose(Command::InitCluster(init)).await.expect("a new cluster");
        for ledger in ledgers {
            world.start(ledger);
        }
        for (nth, size) in sizes.iter().enumerate() {
            world.add_host(&format!("h{}", nth + 1), *size).await;
        }
        // Health and load are known after two polls.
        time::sleep(Duration::from_secs(5)).await;
        world
    }

    async fn add_host(&self, name: &str, size: HostSize) {
        let machine = self.fleet.add(name, size);
        let host = NewHost {
            name: HostName::new(name).expect("a host name"),
            address: machine.address().clone(),
            identity: Identity::NodeDefault,
            fingerprint: Some(format!("SHA256:sim-{name}")),
            labels: Labels::new(),
            price_milli_per_hour: 0,
            publish: PublishAddress::default(),
            advertise: None,
        };
        self.provider(NodeId(1)).add_host(host).await.expect("a host that can be added");
    }

    fn start(&self, ledger: Arc<SimLedger>) {
        let (node, life) = (ledger.node(), ledger.lifeline());
        let options = EngineOptions::new(ClusterSecret::new([7; 32]));
        let dialer = self.fleet.dialer(&ledger);
        let (engine, provider) = Engine::new(options, ledger, dialer, Arc::new(self.clock));
        let engine = tokio::spawn(engine.run(CancellationToken::new())).abort_handle();
        self.locked().insert(node, Running { provider, life, engine });
    }

    /// Ends a node's process.
    pub(crate) fn kill(&self, node: NodeId) {
        self.note(format!("kill node {node}"));
        self.cluster.kill(node);
        if let Some(running) = self.locked().remove(&node) {
            running.engine.abort();
        }
    }

    /// Ends the leader's process, if there is one; answers with its node.
    pub(crate) fn kill_leader(&self) -> Option<NodeId> {
        let leader = self.cluster.leader()?;
        self.kill(leader);
        Some(leader)
    }

    /// Starts a dead node's process.
    pub(crate) fn revive(&self, node: NodeId) {
        if !self.cluster.is_alive(node) {
            self.note(format!("revive node {node}"));
            self.start(self.cluster.revive(node));
        }
    }

    /// The façade of a living node.
    pub(crate) fn provider(&self, node: NodeId) -> Arc<VpsClusterProvider> {
        Arc::clone(&self.locked().get(&node).expect("a living node").provider)
    }

    /// A node that does not lead.
    pub(crate) fn follower(&self) -> NodeId {
        let leader = self.cluster.leader();
        let living: Vec<_> = self.locked().keys().copied().collect();
        living.into_iter().find(|node| Some(*node) != leader).expect("a follower")
    }

    /// A machine by its place, from zero.
    pub(crate) fn host(&self, nth: usize) -> SimHost {
        self.fleet.hosts()[nth].clone()
    }

    /// Does something through one node after another until one answers, as the platform does. Only for what may be asked twice.
    pub(crate) async fn call<T, F>(&self, first: usize, ask: impl Fn(Arc<VpsClusterProvider>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut last = Error::new(Code::NoQuorum, "no node lives");
        for attempt in 0..TRIES {
            let node = {
                let nodes = self.locked();
                let living: Vec<_> = nodes.values().collect();
                let chosen = living.get((first + attempt) % living.len().max(1));
                chosen.map(|running| (Arc::clone(&running.provider), running.life.clone()))
            };
            if let Some((provider, life)) = node {
                let answer = tokio::select! {
                    answer = time::timeout(BUDGET, ask(provider)) => answer,
                    () = life.dead() => Ok(Err(Error::new(Code::NoQuorum, "the node died"))),
                };
                match answer {
                    Ok(Err(error)) if matches!(error.code, Code::NoQuorum | Code::Overloaded) => last = error,
                    Ok(answer) => return answer,
                    Err(_) => last = Error::new(Code::Timeout, "no answer"),
                }
            }
            time::sleep(Duration::from_secs(1)).await;
        }
        Err(last)
    }

    /// Ensures a session's sandbox and remembers what was promised.
    pub(crate) async fn ensure(&self, first: usize, request: NewSandbox) -> Result<Provided, Error> {
        let answer = self.call(first, async |it| it.ensure(request.clone(), Wait::Upto(BUDGET)).await).await;
        self.remember(&request, &answer);
        answer
    }

    /// Creates a sandbox and remembers what was promised.
    pub(crate) async fn create(&self, first: usize, request: NewSandbox, wait: Wait) -> Result<Provided, Error> {
        let answer = self.call(first, async |it| it.create(request.clone(), wait).await).await;
        self.remember(&request, &answer);
        answer
    }

    fn remember(&self, request: &NewSandbox, answer: &Result<Provided, Error>) {
        let key = request.idempotency.as_ref().map(|it| &*it.key);
        match answer {
            Ok(provided) => {
                let it = &provided.sandbox;
                self.note(format!("{} is {} for {:?}", it.id, it.phase, request.session));
                self.oracle.acknowledged(it.id, &it.tenant, &it.session, key);
            }
            Err(error) => self.note(format!("{:?}: {} {error}", request.session, error.code)),
        }
    }

    /// Terminates a sandbox and remembers what was promised.
    pub(crate) async fn terminate(&self, first: usize, id: SandboxId, wait: Wait) -> Result<(), Error> {
        let answer = self.call(first, async |it| it.terminate(&Scope::All, id, wait).await).await;
        self.note(format!("terminate {id}: {answer:?}"));
        if answer.is_ok() {
            self.oracle.gone(id);
        }
        answer
    }

    /// Ends everything that goes wrong, and waits until every invariant of a quiet cluster holds.
    pub(crate) async fn settle(&self) {
        self.note("heal everything".into());
        self.fleet.heal();
        self.cluster.heal();
        for node in self.cluster.nodes() {
            self.revive(node);
        }
        self.quiet().await;
        // It was no moment between two mistakes. Deadlines go on ending sandboxes meanwhile, so what those leave gets its time too.
        time::sleep(Duration::from_secs(60)).await;
        self.quiet().await;
    }

    /// Waits until every invariant of a quiet cluster holds.
    async fn quiet(&self) {
        let until = Instant::now() + SETTLING;
        let mut last = None;
        while let Some(broken) = self.oracle.judge_settled().pop()
            && Instant::now() < until
        {
            if last.as_ref() != Some(&broken) {
                self.note(format!("not quiet: {broken}"));
                last = Some(broken);
            }
            self.oracle.assert_now();
            time::sleep(Duration::from_secs(1)).await;
        }
        self.oracle.assert_settled();
    }

    /// The committed record of a sandbox.
    pub(crate) fn record(&self, id: SandboxId) -> Arc<Sandbox> {
        Arc::clone(self.cluster.committed().sandboxes.get(&id).expect("a sandbox"))
    }

    /// Ids of the sandboxes in a phase.
    pub(crate) fn in_phase(&self, phase: Phase) -> BTreeSet<SandboxId> {
        let state = self.cluster.committed();
        state.sandboxes.values().filter(|sandbox| sandbox.phase == phase).map(|sandbox| sandbox.id).collect()
    }

    /// How often an operation changed something, on all hosts.
    pub(crate) fn effects(&self, op: HostOp) -> u64 {
        self.fleet.hosts().iter().map(|host| host.effects(op)).sum()
    }

    /// How many containers were ever started.
    pub(crate) fn starts(&self) -> usize {
        self.fleet.journal(|journal| journal.starts().len())
    }

    /// Waits until something holds; at most ten minutes of virtual time.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(600);
        while !holds() {
            assert!(Instant::now() < until, "not within ten minutes: {what}");
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the cluster's clock says.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A number that was not used before.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Writes a line into the story that a failure tells.
    pub(crate) fn note(&self, line: String) {
        let at = self.began.elapsed().as_secs_f64();
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{at:>9.3} {line}"));
    }

    /// The story so far; it outlives the world.
    pub(crate) fn story(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.trace)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Running>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster's id.
pub(crate) fn cluster_id() -> ClusterId {
    ClusterId::from_parts(1, 1)
}

/// The image that sandboxes start from.
pub(crate) fn image() -> ImageRef {
    ImageRef::new("agent:1").expect("an image")
}

/// The default sandbox with the platform's ports.
pub(crate) fn sandbox(session: &str) -> NewSandbox {
    NewSandbox {
        tenant: TenantId::default_tenant(),
        session: Some(SessionId::new(session).expect("a session")),
        spec: SandboxSpec { ports: [4096, 20000].into(), ..SandboxSpec::new(image()) },
        secret_env: Secrets::default(),
        lifetime: None,
        queue_timeout: None,
        idempotency: None,
    }
}

/// The same with an idempotency key.
pub(crate) fn keyed(session: &str, key: &str) -> NewSandbox {
    let idempotency = Some(Idempotency { key: key.into(), request_hash: [1; 32] });
    NewSandbox { idempotency, ..sandbox(session) }
}

/// The same, waiting for room if there is none.
pub(crate) fn queued(session: &str, seconds: u64) -> NewSandbox {
    NewSandbox { queue_timeout: Some(Millis::secs(seconds)), ..sandbox(session) }
}
