//! Founding: what turns an empty folder into a cluster's first node with a key that its operator has.
//!
//! Every step can be repeated. The first key's secret is on disk before anything else happens and is renamed last, so a
//! crash anywhere leaves a folder that says that it is unfinished, and founding again goes on with the secret it holds.

use crate::{
    cli::context::{self, Saved},
    config::Config,
};
use anyhow::{Context as _, Result, bail};
use plimsoll_engine::{ClusterSecret, Engine, EngineOptions, VpsClusterProvider};
use plimsoll_host::Dialer;
use plimsoll_lifecycle::ports::{Clock as _, Ledger, LedgerError, ledger};
use plimsoll_raft::{Node, Options};
use plimsoll_state::{Command, Outcome, Policy, Role, command::InitCluster};
use plimsoll_types::{ClusterId, NodeId, TenantId};
use serde::Serialize;
use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A cluster of one elects itself at once; a disk that is very slow still gets there within this.
const FIRST_ELECTION: Duration = Duration::from_secs(30);
/// Holds the first key's secret while founding is under way.
const PENDING: &str = "founding.key";
/// Holds it afterwards.
const KEPT: &str = "operator.key";

/// What founding gives.
#[derive(Serialize)]
pub(super) struct Founded {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    url: String,
    /// The first key; shown once.
    pub(super) key: String,
}

impl Founded {
    /// What the command line needs to talk to it.
    pub(super) fn access(&self) -> Saved {
        Saved { url: self.url.clone(), key: self.key.clone() }
    }
}

/// The raft half of a configuration.
pub(super) fn raft_options(config: &Config) -> Options {
    Options::new(config.data_dir(), config.raft.listen, config.raft_address(), config.api_url())
}

/// Whether founding was begun in the folder and not finished.
pub(super) fn is_unfinished(folder: &Path) -> bool {
    folder.join(PENDING).exists()
}

/// Whether nothing is in the folder, but for what the first moment of a founding may leave.
pub(super) fn is_empty(folder: &Path) -> bool {
    let leftover = context::beside(&folder.join(PENDING));
    let entries = || folder.read_dir().map(|entries| entries.flatten().all(|entry| entry.path() == leftover));
    !folder.exists() || entries().unwrap_or(false)
}

/// Where the operator's key stands once founding is finished.
pub(super) fn key_file(folder: &Path) -> PathBuf {
    folder.join(KEPT)
}

/// Makes a cluster with its first node, policy and operator key, or finishes what was begun, and stops the node again.
pub(super) async fn found(config: &Config) -> Result<Founded> {
    let (folder, policy) = (config.data_dir(), config.cluster.policy()?);
    if !is_unfinished(&folder) {
        Node::vacant(&folder)?;
        make_folder(&folder)?;
    }
    keep_secret(&folder)?;
    if matches!(Node::vacant(&folder), Ok(())) {
        Node::create(&raft_options(config))?;
    }
    let node = Arc::new(Node::open(raft_options(config)).await?);
    let finished = finish(&node, &provider(&node), policy, &folder).await;
    node.shutdown().await;
    Ok(Founded { cluster: node.cluster(), node: node.node(), url: config.api_url(), key: finished? })
}

/// At start: gives a lone first node whose cluster has no identity or no key what is missing. Nobody could use it otherwise.
pub(super) async fn mend(node: Arc<Node>, provider: Arc<VpsClusterProvider>, policy: Policy, folder: PathBuf) {
    if !node.is_lone_founder() {
        return;
    }
    let mended = async {
        elected(&node).await?;
        let whole = ledger::read(node.as_ref(), |state| state.cluster.is_some() && !state.keys.is_empty());
        if !whole {
            finish(&node, &provider, policy, &folder).await?;
            tracing::warn!(file = %key_file(&folder).display(), "the cluster had no key: a new operator key was made");
        }
        anyhow::Ok(())
    };
    if let Err(error) = mended.await {
        tracing::error!("whether the cluster has all it needs could not be checked: {error:#}");
    }
}

/// The steps that need the running node. Answers the operator's secret.
async fn finish(node: &Arc<Node>, provider: &VpsClusterProvider, policy: Policy, folder: &Path) -> Result<String> {
    let secret = keep_secret(folder)?;
    elected(node).await?;
    initialise(node, policy).await?;
    provider.accept_key(&secret, "first operator", Role::Operator, TenantId::default_tenant()).await?;
    publish(folder)?;
    Ok(secret)
}

fn make_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))
}

/// The secret in the folder; a fresh one is made and on disk when this returns.
fn keep_secret(folder: &Path) -> Result<String> {
    let path = folder.join(PENDING);
    match fs::read_to_string(&path) {
        Ok(secret) => Ok(secret.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = VpsClusterProvider::new_secret(super::node::SystemClock.now())?;
            context::write_private(&path, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The façade makes keys; nothing is dialled for that.
fn provider(node: &Arc<Node>) -> Arc<VpsClusterProvider> {
    let options = EngineOptions::new(ClusterSecret::new(*node.cluster_secret().expose()));
    let ledger = Arc::clone(node) as Arc<dyn Ledger>;
    Engine::new(options, ledger, Arc::new(Dialer::default()), Arc::new(super::node::SystemClock)).1
}

/// Waits until the node has elected itself and has applied all that was committed.
async fn elected(node: &Node) -> Result<()> {
    let begun = Instant::now();
    loop {
        match node.barrier().await {
            Ok(()) => return Ok(()),
            Err(LedgerError::NoQuorum(_)) if begun.elapsed() < FIRST_ELECTION => {}
            Err(error) => return Err(error).context("the node does not lead itself"),
        }
    }
}

/// Gives the cluster its identity and policy; changes nothing where it has them.
async fn initialise(node: &Node, policy: Policy) -> Result<()> {
    let init = InitCluster { cluster: node.cluster(), policy, at: super::node::SystemClock.now() };
    let applied =
        node.propose(Command::InitCluster(init)).await.context("the new node does not take its first entry")?;
    match applied.outcome {
        Outcome::Refused(refusal) => bail!("the new cluster refused its own start: {refusal:?}"),
        Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
            Ok(())
        }
    }
}

/// The last step: from here on the folder is a finished node's.
fn publish(folder: &Path) -> Result<()> {
    let kept = key_file(folder);
    fs::rename(folder.join(PENDING), &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    context::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_engine::ClusterOperations as _;
    use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _};

    fn config(folder: &Path) -> Config {
        let mut config = Config { data_dir: Some(folder.to_path_buf()), ..Config::default() };
        config.raft.listen = SocketAddr::from(([127, 0, 0, 1], plimsoll_testkit::ports::free().expect("a port")));
        config
    }

    /// Does the first steps of founding and stops there, as a crash would.
    async fn begin(config: &Config, steps: usize) {
        let folder = config.data_dir();
        if steps >= 1 {
            make_folder(&folder).expect("made");
            fs::write(context::beside(&folder.join(PENDING)), "half a sec").expect("written");
        }
        if steps >= 2 {
            keep_secret(&folder).expect("kept");
        }
        if steps >= 3 {
            Node::create(&raft_options(config)).expect("created");
        }
        if steps == 3 {
            // The guard is written before the identity.
            fs::remove_file(folder.join("identity")).expect("removed");
        }
        if steps < 5 {
            return;
        }
        let node = Arc::new(Node::open(raft_options(config)).await.expect("opens"));
        elected(&node).await.expect("elected");
        if steps >= 6 {
            initialise(&node, Policy::default()).await.expect("initialised");
        }
        if steps >= 7 {
            let secret = keep_secret(&folder).expect("kept");
            let made =
                provider(&node).accept_key(&secret, "first operator", Role::Operator, TenantId::default_tenant()).await;
            made.expect("a key");
        }
        node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn founding_goes_on_wherever_it_was_cut_short() {
        for steps in 0..=7 {
            let parent = tempfile::tempdir().expect("a folder");
            let folder = parent.path().join("data");
            let config = config(&folder);
            begin(&config, steps).await;
            assert!(is_empty(&folder) || is_unfinished(&folder), "after {steps} steps nobody would go on");
            let promised = fs::read_to_string(folder.join(PENDING)).ok();

            let founded = found(&config).await.unwrap_or_else(|error| panic!("after {steps} steps: {error:#}"));
            assert!(promised.is_none_or(|secret| secret == founded.key), "the secret of step 2 was lost");
            let kept = key_file(&folder);
            assert_eq!(fs::read_to_string(&kept).expect("kept"), founded.key);
            assert_eq!(fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
            assert!(!is_unfinished(&folder) && !is_empty(&folder));

            let node = Arc::new(Node::open(raft_options(&config)).await.expect("opens"));
            elected(&node).await.expect("elected");
            let key = provider(&node).authenticate(&founded.key).await.expect("answers").expect("the key works");
            assert_eq!(key.role, Role::Operator);
            assert_eq!(
                ledger::read(node.as_ref(), |state| (state.cluster, state.keys.len())),
                (Some(founded.cluster), 1)
            );
            node.shutdown().await;

            let again = found(&config).await.map(|_| ()).expect_err("it is finished");
            assert!(format!("{again:#}").contains("holds a node already"), "{again:#}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lone_node_without_a_key_gets_one_at_start() {
        let parent = tempfile::tempdir().expect("a folder");
        let config = config(&parent.path().join("data"));
        begin(&config, 6).await;
        fs::remove_file(config.data_dir().join(PENDING)).expect("removed");
        let node = Arc::new(Node::open(raft_options(&config)).await.expect("opens"));
        let provider = provider(&node);
        mend(Arc::clone(&node), Arc::clone(&provider), Policy::default(), config.data_dir()).await;
        let kept = fs::read_to_string(key_file(&config.data_dir())).expect("kept");
        assert!(provider.authenticate(&kept).await.expect("answers").is_some(), "the key works");
        // What is whole is left alone.
        mend(Arc::clone(&node), Arc::clone(&provider), Policy::default(), config.data_dir()).await;
        assert_eq!(fs::read_to_string(key_file(&config.data_dir())).expect("kept"), kept);
        assert_eq!(ledger::read(node.as_ref(), |state| state.keys.len()), 1);
        node.shutdown().await;
    }
}
