//! A small world behind a real listener: one node, some hosts, keys, and clients that use them.

use plimsoll_api::{Options, SshGateway, serve};
use plimsoll_client::{Client, Error, Wait, wire};
use plimsoll_engine::{ClusterOperations, ClusterSecret, Engine, EngineOptions, VpsClusterProvider};
use plimsoll_lifecycle::ports::{Dial, DialTarget, HostDriver, HostError, Ledger, Membership, Registry};
use plimsoll_state::{Command, Policy, Role, command::InitCluster};
use plimsoll_testkit::sim::{HostSize, SimClock, SimCluster, SimFleet, SimHost};
use plimsoll_types::{ClusterId, Code, HostAddress, ImageRef, NodeId, TenantId};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that reaches it has failed.
pub const LONG: Duration = Duration::from_secs(30);

pub struct World {
    pub cluster: SimCluster,
    pub fleet: SimFleet,
    pub provider: Arc<VpsClusterProvider>,
    /// The façade of the node that leads; another one where the surface is a follower's.
    pub leader: Arc<VpsClusterProvider>,
    pub address: SocketAddr,
    pub operator: Client,
    pub operator_key: String,
    pub shutdown: CancellationToken,
    pub served: tokio::task::JoinHandle<Result<(), plimsoll_api::Error>>,
}

impl World {
    /// One host with room for eight sandboxes.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with other options.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::serving(1, change).await
    }

    /// So many nodes, of which the last one serves and the first one leads.
    pub async fn serving(nodes: u64, change: impl FnOnce(&mut Options)) -> Self {
        Self::build(nodes, true, change).await
    }

    /// One host and no registry.
    pub async fn without_registry() -> Self {
        Self::build(1, false, |_| {}).await
    }

    async fn build(nodes: u64, registry: bool, change: impl FnOnce(&mut Options)) -> Self {
        let clock = SimClock::new();
        let cluster = SimCluster::new(nodes, 7);
        let fleet = SimFleet::new(7, clock);
        let shutdown = CancellationToken::new();
        cluster.elect(NodeId(1));
        let mut engines = Vec::new();
        for node in 1..=nodes {
            let ledger = cluster.ledger(NodeId(node));
            let dial: Arc<dyn Dial> = fleet.dialer(&ledger);
            let dial = if registry { dial } else { Arc::new(NoRegistry(dial)) };
            let options = EngineOptions::new(ClusterSecret::new([42; 32]));
            let (engine, provider) = Engine::new(options, ledger.clone(), dial, Arc::new(clock));
            tokio::spawn(engine.run(shutdown.clone()));
            engines.push((ledger, provider));
        }
        let leader = engines[0].1.clone();
        let (ledger, provider) = engines.pop().unwrap();
        let policy =
            Policy { base_image: Some(ImageRef::new("base:1").unwrap()), events_kept: 200, ..Policy::default() };
        let init = InitCluster { cluster: ClusterId::from_parts(1, 1), policy, at: SimClock::EPOCH };
        ledger.propose(Command::InitCluster(init)).await.expect("a cluster");

        let (members, clock): (Arc<dyn Membership>, _) = (ledger.clone(), Arc::new(clock));
        let metrics: plimsoll_api::MetricsText = Arc::new(|| "plimsoll_up 1\n".to_owned());
        let mut options = Options::new(provider.clone(), provider.clone(), ledger.clone(), members, clock, metrics);
        options.gateway = Some(SshGateway { host: "gateway.example".to_owned(), port: 2222 });
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(options, listener, shutdown.clone()));

        let operator_key = key(&provider, Role::Operator, "default").await;
        let operator = client(address, Some(&operator_key));
        let world = Self { cluster, fleet, provider, leader, address, operator, operator_key, shutdown, served };
        let host = world.fleet.add("h0", HostSize::Cpx51);
        world.operator.add_host(&new_host(&world, &host).await).await.expect("a host");
        world
    }

    /// One more host with room for eight sandboxes.
    pub async fn add_host(&self, name: &str) -> SimHost {
        let host = self.fleet.add(name, HostSize::Cpx51);
        self.operator.add_host(&new_host(self, &host).await).await.expect("a host");
        host
    }

    /// A platform's client and key for a tenant.
    pub async fn platform(&self, tenant: &str) -> (Client, String) {
        let key = key(&self.provider, Role::Platform, tenant).await;
        (client(self.address, Some(&key)), key)
    }

    pub async fn ensure(&self, session: &str) -> wire::Provided {
        self.operator.ensure(&request(session), Wait::Default).await.expect("a sandbox")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A raw request with the operator's key.
    pub fn raw(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        // The client's constructor has installed the TLS provider that this one needs.
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(method, self.url(path))
            .bearer_auth(&self.operator_key)
    }
}

/// The same hosts, and no registry.
struct NoRegistry(Arc<dyn Dial>);

#[async_trait::async_trait]
impl Dial for NoRegistry {
    fn dial(&self, target: &DialTarget) -> Arc<dyn HostDriver> {
        self.0.dial(target)
    }

    fn registry(&self) -> Option<Arc<dyn Registry>> {
        None
    }

    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError> {
        self.0.host_key(address).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn key(provider: &VpsClusterProvider, role: Role, tenant: &str) -> String {
    provider.create_key("test", role, TenantId::new(tenant).unwrap()).await.expect("a key").1
}

pub fn client(address: SocketAddr, key: Option<&String>) -> Client {
    Client::new([format!("http://{address}")], key.map(String::as_str)).expect("a client")
}

/// The host with the fingerprint that its check shows.
pub async fn new_host(world: &World, host: &SimHost) -> wire::NewHost {
    let mut new: wire::NewHost = serde_json::from_value(serde_json::json!({
        "name": host.name(), "address": host.address().to_string(), "labels": {"zone": "eu"},
    }))
    .unwrap();
    new.fingerprint = world.operator.check_host(&new).await.expect("a check").fingerprint;
    new
}

pub fn request(session: &str) -> wire::CreateSandbox {
    serde_json::from_value(serde_json::json!({"session": session, "cpu": "0.5", "memory": "256M", "ports": ["tunnel"]}))
        .unwrap()
}

/// The problem of a response, which must be one.
pub async fn problem(response: reqwest::Response) -> wire::Problem {
    let status = response.status().as_u16();
    let kind =
        response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let id =
        response.headers().get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(kind, "application/problem+json", "{status}: {text}");
    let problem: wire::Problem = serde_json::from_str(&text).unwrap();
    assert_eq!((problem.status, problem.code.http_status(), &problem.instance), (status, status, &id), "{text}");
    assert!(!problem.instance.is_empty() && problem.kind.ends_with(problem.code.as_str()));
    problem
}

/// The code of a failed call.
pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.expect_err("a refusal").code()
}
