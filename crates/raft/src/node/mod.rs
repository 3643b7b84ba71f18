//! The node: one handle that hides raft, its store and its network.

mod admission;
mod barrier;
mod handler;
mod leader;
mod ledger;
mod membership;
mod reconcile;
mod restoring;
mod route;
mod watch;

#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Result},
    identity::{ClusterSecret, Identity, Origin, Owner},
    machine::Machine,
    network::{client::Caller, pool::Pool, replication::Network, server, tls},
    options::Options,
    store::{kv::Kv, log::LogStore, snapshots::Snapshots},
    token,
    types::{Peer, Raft},
};
use openraft::async_runtime::WatchReceiver;
use plimsoll_lifecycle::ports::{LeaderHandler, LeaderView};
use plimsoll_types::{ClusterId, NodeId};
use std::{
    net::SocketAddr,
    sync::{Arc, RwLock, Weak},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a shutdown waits for the store to be let go of.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running control-plane node. Clones share it; it runs until [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    owner: Owner,
    identity: Identity,
    secret: ClusterSecret,
    options: Options,
    peer: Peer,
    raft: Raft,
    machine: Machine,
    pool: Arc<Pool>,
    caller: Caller,
    leader: tokio::sync::watch::Sender<LeaderView>,
    fatal: tokio::sync::watch::Sender<Option<Error>>,
    handler: RwLock<Option<Arc<dyn LeaderHandler>>>,
    proposals: Semaphore,
    rounds: barrier::Rounds,
    /// Membership changes take two log entries each; two at once would get in each other's way.
    changing: Arc<tokio::sync::Mutex<()>>,
    store: Weak<dyn Kv>,
    closing: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    /// Makes the folder a new cluster's first node, without starting it.
    ///
    /// # Errors
    /// [`Error::Exists`] when it holds a node.
    pub fn create(options: &Options) -> Result<()> {
        options.raft_config()?;
        Identity::absent(&options.data_dir)?;
        let cluster = ClusterId::from_parts(token::now_ms(), rand::random());
        Identity::found(cluster)?.save_new(&options.data_dir)
    }

    /// Whether a folder could become a node.
    ///
    /// # Errors
    /// [`Error::Exists`] when it holds a node, [`Error::Corrupt`] when it holds the remains of one.
    pub fn vacant(data_dir: &std::path::Path) -> Result<()> {
        Identity::absent(data_dir)
    }

    /// Makes a new cluster with this node in it, and starts it.
    ///
    /// # Errors
    /// As [`Node::create`] and [`Node::open`].
    pub async fn init(options: Options) -> Result<Self> {
        Self::create(&options)?;
        Self::open(options).await
    }

    /// Starts the node that the folder holds.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Corrupt`] for a damaged, foreign or forgetful folder, [`Error::InUse`], [`Error::Io`].
    pub async fn open(options: Options) -> Result<Self> {
        let config = options.raft_config()?;
        let identity = Identity::load(&options.data_dir)?;
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|error| Error::io(format!("cannot listen on {}", options.listen), error))?;
        let (data_dir, owner) = (options.data_dir.clone(), identity.owner());
        let (log, machine, pristine) = tokio::task::spawn_blocking(move || open_store(&data_dir, owner))
            .await
            .map_err(|error| Error::Corrupt(format!("opening the store failed: {error}")))??;
        let store = log.alive();

        let caller = Caller { tls: tls::client(&identity)?, own: Some((owner.cluster, owner.node)) };
        let pool = Arc::new(Pool::new(caller.clone()));
        let raft = Raft::new(owner.node.0, config, Network { pool: Arc::clone(&pool) }, log, machine.clone())
            .await
            .map_err(|error| Error::Corrupt(format!("raft cannot start from what is stored: {error}")))?;
        let peer = Peer { raft_address: options.advertise.clone(), api_url: options.api_url.clone() };
        let inner = Arc::new(Inner {
            owner,
            secret: identity.secret()?,
            identity,
            peer,
            raft,
            machine,
            pool,
            caller,
            leader: tokio::sync::watch::Sender::new(LeaderView::default()),
            fatal: tokio::sync::watch::Sender::new(None),
            handler: RwLock::new(None),
            proposals: Semaphore::new(options.max_proposals),
            rounds: barrier::Rounds::default(),
            changing: Arc::default(),
            store,
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            options,
        });
        let node = Self { inner };
        if let Err(error) = node.start(listener, pristine).await {
            node.stop().await;
            return Err(error);
        }
        Ok(node)
    }

    /// Makes the folder a node of the cluster that made the token, without starting it.
    ///
    /// # Errors
    /// [`Error::JoinDenied`], [`Error::NodeExists`], [`Error::Exists`], [`Error::Unreachable`].
    pub async fn enroll(options: &Options, token: &str) -> Result<()> {
        options.raft_config()?;
        admission::enroll(options, token).await
    }

    /// Whose the node in a folder is, without starting it.
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::Corrupt`].
    pub fn peek(data_dir: &std::path::Path) -> Result<(ClusterId, NodeId)> {
        let owner = Identity::load(data_dir)?.owner();
        Ok((owner.cluster, owner.node))
    }

    /// Joins a cluster with this node and starts it. It is a learner when this returns; the leader makes it a voter once it
    /// has caught up.
    ///
    /// # Errors
    /// As [`Node::enroll`] and [`Node::open`].
    pub async fn join(options: Options, token: &str) -> Result<Self> {
        Self::enroll(&options, token).await?;
        let node = Self::open(options).await?;
        match admission::wait(&node.inner).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.stop().await;
                Err(error)
            }
        }
    }

    /// The cluster this node belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.owner.cluster
    }

    /// What all members of the cluster share, to seal secrets with.
    #[must_use]
    pub fn cluster_secret(&self) -> &ClusterSecret {
        &self.inner.secret
    }

    /// Where this node listens for peers.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        self.inner.options.listen
    }

    /// Turns to an error once the node cannot go on (a storage error, or its removal); the process should end then.
    #[must_use]
    pub fn fatal(&self) -> tokio::sync::watch::Receiver<Option<Error>> {
        self.inner.fatal.subscribe()
    }

    /// Whether this node made its cluster and nobody has joined yet: only then can its founding be unfinished.
    #[must_use]
    pub fn is_lone_founder(&self) -> bool {
        let members = self.inner.raft.metrics().borrow_watched().membership_config.membership().nodes().count();
        matches!(self.inner.identity.origin, Origin::Founder) && members <= 1
    }

    /// Hands leadership over if this node leads, and does not stand for election any more; otherwise it goes on as before:
    /// what is proposed here goes to the new leader. For a node that is about to stop but has requests to finish.
    pub async fn hand_over(&self) {
        leader::hand_over(&self.inner).await;
        if !self.inner.leader.borrow().is_self {
            self.inner.raft.runtime_config().elect(false);
        }
    }

    /// Hands leadership over if this node leads, then stops.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        leader::hand_over(&self.inner).await;
        self.stop().await;
    }

    /// Stops at once, as if the process had been killed.
    pub(crate) async fn stop(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        inner.stop.cancel();
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        inner.pool.close();
        inner.tasks.close();
        inner.tasks.wait().await;
        // Raft's own tasks hold the store a little longer than `shutdown` waits.
        let released = async {
            while inner.store.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(RELEASE_TIMEOUT, released).await.is_err() {
            tracing::warn!("the store was not let go of within {RELEASE_TIMEOUT:?}");
        }
    }

    async fn start(&self, listener: TcpListener, pristine: bool) -> Result<()> {
        let inner = &self.inner;
        watch::publish(inner);
        inner.tasks.spawn(watch::run(Arc::clone(inner)));
        inner.tasks.spawn(reconcile::run(Arc::clone(inner)));
        let tls = tls::server(&inner.identity)?;
        let handler = Arc::new(handler::Peers { inner: Arc::clone(inner) });
        inner.tasks.spawn(server::serve(listener, tls, inner.owner, handler, inner.stop.clone()));
        admission::begin(inner, pristine).await?;
        // A cluster of one has nobody to wait for.
        let voters: Vec<u64> = inner.raft.metrics().borrow_watched().membership_config.voter_ids().collect();
        if voters == [inner.owner.node.0] {
            inner.raft.trigger().elect(false).await.map_err(|error| Error::Stopped(error.to_string()))?;
        }
        Ok(())
    }
}

/// Opens log and snapshots and checks that together they hold the whole state. Also tells whether nothing was ever written: a node that
/// was restored has a snapshot before it has a log.
fn open_store(data_dir: &std::path::Path, owner: Owner) -> Result<(LogStore, Machine, bool)> {
    let log = LogStore::open(data_dir, owner)?;
    let snapshots = Snapshots::open(data_dir)?;
    let current = snapshots.current().map_err(|error| Error::path("read the snapshots in", data_dir, error))?;
    let reached = current.and_then(|(header, _)| header.meta.last_log_id).map(|id| id.index);
    let pristine = log.is_pristine() && reached.is_none();
    if log.purged() > reached {
        return Err(Error::Corrupt(format!(
            "the log begins after entry {}, but no whole snapshot in {} reaches that far",
            log.purged().unwrap_or_default(),
            data_dir.join("snapshots").display()
        )));
    }
    Ok((log, Machine::new(Arc::new(snapshots)), pristine))
}
