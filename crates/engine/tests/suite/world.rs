//! A small world: nodes with engines, hosts, and short ways to ask for things. It judges nothing by itself.

use plimsoll_engine::{
    ClusterOperations, ClusterSecret, Engine, EngineOptions, Error, NewHost, NewSandbox, Provided, SandboxProvider,
    Scope, Secrets, VpsClusterProvider, Wait,
};
use plimsoll_lifecycle::ports::{Clock, Ledger};
use plimsoll_state::{Command, Policy, Sandbox, State, command::InitCluster};
use plimsoll_testkit::{
    sim::{HostSize, Oracle, SimClock, SimCluster, SimFleet, SimHost},
    wait::wait_for,
};
use plimsoll_types::{
    ClusterId, HostId, ImageRef, Labels, Millis, NodeId, Phase, PublishAddress, SandboxId, SandboxSpec, SessionId,
    TenantId,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Longer than any budget of the engine's; virtual, so it costs nothing.
pub const LONG: Duration = Duration::from_secs(1200);

pub struct World {
    pub cluster: SimCluster,
    pub fleet: SimFleet,
    pub clock: SimClock,
    pub providers: BTreeMap<NodeId, Arc<VpsClusterProvider>>,
    shutdown: CancellationToken,
}

impl World {
    /// One node and these hosts.
    pub async fn new(hosts: &[HostSize]) -> Self {
        Self::with_nodes(1, hosts).await
    }

    pub async fn with_nodes(nodes: u64, sizes: &[HostSize]) -> Self {
        let clock = SimClock::new();
        let cluster = SimCluster::new(nodes, 7);
        let fleet = SimFleet::new(7, clock);
        let mut world = Self { cluster, fleet, clock, providers: BTreeMap::new(), shutdown: CancellationToken::new() };
        for node in world.cluster.nodes() {
            world.start(node);
        }
        let init = InitCluster { cluster: ClusterId::from_parts(1, 1), policy: Policy::default(), at: clock.now() };
        world.ledger().propose(Command::InitCluster(init)).await.expect("a cluster");
        for (i, size) in sizes.iter().enumerate() {
            let host = world.fleet.add(&format!("h{i}"), *size);
            world.add(&host).await.expect("a host");
        }
        world
    }

    /// Starts (again) the engine of a node.
    pub fn start(&mut self, node: NodeId) {
        let ledger = self.cluster.ledger(node);
        let dialer = self.fleet.dialer(&ledger);
        let life = ledger.lifeline();
        let options = EngineOptions::new(ClusterSecret::new([42; 32]));
        let (engine, provider) = Engine::new(options, ledger, dialer, Arc::new(self.clock));
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { life.guard(engine.run(shutdown)).await });
        self.providers.insert(node, provider);
    }

    pub async fn add(&self, host: &SimHost) -> Result<HostId, Error> {
        let (status, _) = self.provider().add_host(new_host(host)).await?;
        Ok(status.host.id)
    }

    pub fn ledger(&self) -> Arc<impl Ledger> {
        let node = self.living();
        self.cluster.ledger(node)
    }

    fn living(&self) -> NodeId {
        self.cluster.nodes().into_iter().find(|node| self.cluster.is_alive(*node)).expect("a living node")
    }

    /// The façade of the first living node.
    pub fn provider(&self) -> Arc<VpsClusterProvider> {
        Arc::clone(&self.providers[&self.living()])
    }

    pub fn host(&self, name: &str) -> SimHost {
        self.fleet.hosts().into_iter().find(|host| host.name() == name).expect("a host")
    }

    pub fn state(&self) -> State {
        self.cluster.committed()
    }

    pub fn sandbox(&self, id: SandboxId) -> Arc<Sandbox> {
        Arc::clone(&self.state().sandboxes[&id])
    }

    pub async fn ensure(&self, session: &str) -> Result<Provided, Error> {
        self.provider().ensure(request(session), Wait::Upto(LONG)).await
    }

    pub async fn create(&self, request: NewSandbox) -> Result<Provided, Error> {
        self.provider().create(request, Wait::Upto(LONG)).await
    }

    pub async fn terminate(&self, id: SandboxId) {
        self.provider().terminate(&Scope::All, id, Wait::Upto(LONG)).await.expect("terminates");
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let look = || async { condition(&self.state()) };
        wait_for(what, LONG, look).await.unwrap_or_else(|error| panic!("{error}: {:#?}", self.state().sandboxes));
    }

    pub async fn until_phase(&self, id: SandboxId, phase: Phase) {
        self.until(&format!("{id} {phase}"), |state| state.sandboxes[&id].phase == phase).await;
    }

    /// Waits until nothing is left to put right, and judges everything.
    pub async fn assert_settled(&self) {
        let oracle = Oracle::new(&self.cluster, &self.fleet);
        let settled = || async {
            let found = oracle.judge_settled();
            if found.is_empty() {
                Ok(())
            } else {
                Err(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        };
        wait_for("a settled world", LONG, settled).await.expect("settles");
    }

    /// How many containers of ours run anywhere.
    pub fn running(&self) -> usize {
        let cluster = self.state().cluster.expect("a cluster");
        self.fleet.hosts().iter().map(|host| host.running(cluster).len()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn new_host(host: &SimHost) -> NewHost {
    NewHost {
        name: plimsoll_types::HostName::new(host.name()).expect("a name"),
        address: host.address().clone(),
        identity: plimsoll_types::Identity::NodeDefault,
        fingerprint: Some(format!("SHA256:sim-{}", host.name())),
        labels: Labels::new(),
        price_milli_per_hour: 0,
        publish: PublishAddress::default(),
        advertise: None,
    }
}

pub fn image() -> ImageRef {
    ImageRef::new("base:1").expect("an image")
}

/// The default sandbox with the tunnel port, for an hour.
pub fn request(session: &str) -> NewSandbox {
    let mut spec = SandboxSpec::new(image());
    spec.ports = [4096].into();
    NewSandbox {
        tenant: TenantId::default_tenant(),
        session: Some(SessionId::new(session).expect("a session")),
        spec,
        secret_env: Secrets::default(),
        lifetime: Some(Millis::secs(3600)),
        queue_timeout: None,
        idempotency: None,
    }
}

/// As [`request`], with a main process of its own, whose end is the sandbox's.
pub fn with_command(session: &str) -> NewSandbox {
    let mut request = request(session);
    request.spec.command = Some(vec!["serve".to_owned()]);
    request
}
