//! The running node: opens its store, joins every adapter to its port, serves, and ends in order.

use super::{
    env_hosts,
    found::{self, raft_options},
    policy_check,
};
use crate::{config::Config, telemetry};
use anyhow::{Context as _, Result};
use plimsoll_api::SshGateway;
use plimsoll_engine::{ClusterSecret, Engine, EngineOptions, VpsClusterProvider};
use plimsoll_host::{Dialer, Keys, RegistryOptions, SecretText};
use plimsoll_lifecycle::ports::{Clock, Ledger, Membership};
use plimsoll_raft::Node;
use plimsoll_types::{HostAddress, Timestamp};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time for the loops and the store to end once requests have drained.
const GRACE: Duration = Duration::from_secs(20);

/// How a node stops. Leadership goes over before the first stage, so that nothing waits for a leader that is leaving.
#[derive(Default)]
struct Stages {
    /// The surfaces take nothing new and finish what is under way. The loops go on: requests may wait for them.
    drain: CancellationToken,
    /// Everything else ends.
    end: CancellationToken,
}

/// The machine's clock.
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What a command adds to a plain node.
#[derive(Default)]
pub(super) struct Extras {
    /// Hosts that the environment names, to be added once.
    pub(super) hosts: Vec<HostAddress>,
    /// Called once the API answers.
    pub(super) ready: Option<Box<dyn FnOnce() + Send>>,
}

/// Runs the node in the configured folder until it is told to stop or cannot go on.
pub(super) async fn run(config: &Config, extras: Extras) -> Result<()> {
    let metrics = telemetry::install_metrics()?;
    plimsoll_raft::metrics::describe();
    plimsoll_host::metrics::describe();
    plimsoll_engine::metrics::describe();
    let listener = TcpListener::bind(config.api.listen)
        .await
        .with_context(|| format!("cannot listen on {} for the API (api.listen)", config.api.listen))?;
    let node = Arc::new(Node::open(raft_options(config)).await?);
    let ledger: Arc<dyn Ledger> = Arc::clone(&node) as Arc<dyn Ledger>;
    let (engine, provider) = Engine::new(
        engine_options(config, &node),
        Arc::clone(&ledger),
        Arc::new(dialer(config)?),
        Arc::new(SystemClock),
    );
    let (stages, tasks) = (Stages::default(), TaskTracker::new());
    let gateway = start_gateway(config, &node, &provider, &stages, &tasks).await?;

    let mut api = plimsoll_api::Options::new(
        Arc::clone(&provider) as Arc<_>,
        Arc::clone(&provider) as Arc<_>,
        Arc::clone(&ledger),
        Arc::clone(&node) as Arc<dyn Membership>,
        Arc::new(SystemClock),
        Arc::new(move || metrics.render()),
    );
    api.gateway = gateway;
    api.log_filter = telemetry::log_filter();
    api.continue_trace = telemetry::continue_trace();
    api.metrics_public = config.api.metrics_public;
    tracing::info!(node = %node.node(), cluster = %node.cluster(), api = %config.api_url(), "the node is up");

    tasks.spawn(engine.run(stages.end.clone()));
    tasks.spawn(check_cluster(config.clone(), Arc::clone(&node), Arc::clone(&provider), stages.drain.clone()));
    if !extras.hosts.is_empty() {
        tasks.spawn(env_hosts::add_all(Arc::clone(&provider), ledger, extras.hosts, stages.drain.clone()));
    }
    let serving = tokio::spawn(plimsoll_api::serve(api, listener, stages.drain.clone()));
    if let Some(ready) = extras.ready {
        ready();
    }
    let ended = until_told_or_broken(&node, serving, &stages).await;
    stages.end.cancel();
    tasks.close();
    let orderly = async {
        tasks.wait().await;
        node.shutdown().await;
    };
    if tokio::time::timeout(GRACE, orderly).await.is_err() {
        tracing::warn!("the node did not stop in order within {GRACE:?}");
    }
    ended
}

fn engine_options(config: &Config, node: &Node) -> EngineOptions {
    let mut options = EngineOptions::new(ClusterSecret::new(*node.cluster_secret().expose()));
    options.poll = Duration::from_millis(config.poll.interval_ms.max(100));
    options.unreachable_after = Duration::from_millis(config.poll.unreachable_after_ms);
    options.lost_after = Duration::from_millis(config.poll.lost_after_ms);
    options
}

fn dialer(config: &Config) -> Result<Dialer> {
    let text = std::env::var("VPS_SSH_KEY").ok().filter(|text| !text.trim().is_empty());
    let keys =
        Keys { default_file: config.ssh.identity_file.clone(), default_text: text.map(|text| SecretText::new(&text)) };
    Ok(Dialer::new(plimsoll_host::Options { keys, registry: registry(config)? }))
}

fn registry(config: &Config) -> Result<Option<RegistryOptions>> {
    let Some(url) = &config.registry.url else { return Ok(None) };
    let password = config.registry.password_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file);
        text.with_context(|| format!("cannot read the registry's password from {}", file.display()))
    });
    let password = password.transpose()?.map(|text| SecretText::new(text.trim_end()));
    let options = RegistryOptions { url: url.clone(), username: config.registry.username.clone(), password };
    Ok(Some(options))
}

async fn start_gateway(
    config: &Config,
    node: &Node,
    provider: &Arc<VpsClusterProvider>,
    stages: &Stages,
    tasks: &TaskTracker,
) -> Result<Option<SshGateway>> {
    let Some(listen) = config.gateway.listen else { return Ok(None) };
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for SSH (gateway.listen)"))?;
    let bound = listener.local_addr().context("the SSH gateway has no address")?;
    tracing::info!("the SSH gateway listens on {bound}");
    // One host key on every node, so that a client meets one gateway: derived, never stored.
    let root = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, node.cluster_secret().expose());
    let tag = ring::hmac::sign(&root, b"plimsoll gateway host key v1");
    let mut host_key_seed = [0; 32];
    host_key_seed.copy_from_slice(tag.as_ref());
    let options = plimsoll_gateway::Options { host_key_seed, provider: Arc::clone(provider) as Arc<_> };
    let (stop, told) = (stages.drain.clone(), stages.drain.clone());
    tasks.spawn(async move {
        if let Err(error) = plimsoll_gateway::serve(options, listener, told).await {
            tracing::error!(%error, "the SSH gateway ended; the node ends too");
            stop.cancel();
        }
    });
    let host = config.gateway.address.clone().unwrap_or_else(|| bound.ip().to_string());
    Ok(Some(SshGateway { host, port: bound.port() }))
}

/// Once at start: a cluster that lacks its identity or every key gets them, and settings that nobody obeys are said.
async fn check_cluster(
    config: Config,
    node: Arc<Node>,
    provider: Arc<VpsClusterProvider>,
    stop: CancellationToken,
) -> Result<()> {
    let checks = async {
        let policy = config.cluster.policy()?;
        found::mend(Arc::clone(&node), provider, policy, config.data_dir()).await;
        policy_check::warn(&config, node.as_ref()).await
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        checked = checks => checked.inspect_err(|error| tracing::warn!("the configuration was not compared with the cluster's policy: {error:#}")),
    }
}

/// Waits for SIGINT or SIGTERM, a fatal storage error, or the end of the API.
async fn until_told_or_broken(
    node: &Node,
    mut serving: tokio::task::JoinHandle<Result<(), plimsoll_api::Error>>,
    stages: &Stages,
) -> Result<()> {
    let mut fatal = node.fatal();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = stages.drain.cancelled() => Err(anyhow::anyhow!("a part of the node ended by itself; the log has more")),
        failed = fatal.wait_for(Option::is_some) => match failed.ok().and_then(|error| error.clone()) {
            Some(error) => Err(anyhow::Error::new(error).context("the node cannot go on")),
            None => Ok(()),
        },
        served = &mut serving => return match served {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(anyhow::Error::new(error)),
            Err(error) => Err(anyhow::Error::new(error).context("the API ended")),
        },
    };
    if ended.is_ok() {
        tracing::info!("stopping: leadership goes over, then requests under way may finish");
        node.hand_over().await;
        tracing::info!("draining: what is under way may finish, and what it writes goes to the leader");
    }
    stages.drain.cancel();
    if let Ok(Err(error)) = serving.await {
        tracing::warn!(%error, "the API did not end well");
    }
    ended
}
