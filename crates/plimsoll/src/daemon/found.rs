//! `plimsoll init` and `plimsoll join`: what turns an empty folder into a node.

use super::configured;
use crate::{
    cli::{
        args::{JoinArgs, NodeArgs, Output},
        context::{self, Saved},
        print,
    },
    config::Config,
};
use anyhow::{Context as _, Result, bail};
use plimsoll_engine::{ClusterOperations as _, ClusterSecret, Engine, EngineOptions};
use plimsoll_host::Dialer;
use plimsoll_lifecycle::ports::{Clock as _, Ledger, LedgerError};
use plimsoll_raft::{Node, Options};
use plimsoll_state::{Command, Outcome, Role, command::InitCluster};
use plimsoll_types::{ClusterId, NodeId, TenantId};
use serde::Serialize;
use std::{io::Read as _, sync::Arc, time::Duration};

/// A cluster of one elects itself at once; a disk that is very slow still gets there within this.
const FIRST_ELECTION: Duration = Duration::from_secs(30);

/// What `plimsoll init` tells.
#[derive(Serialize)]
pub(super) struct Founded {
    cluster: ClusterId,
    node: NodeId,
    url: String,
    /// The first key; shown once.
    key: String,
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

/// Makes a cluster with its first node, policy and operator key, and stops it again.
pub(super) async fn found(config: &Config) -> Result<Founded> {
    let policy = config.policy()?;
    let node = Arc::new(Node::init(raft_options(config)).await?);
    let founded = async {
        let at = super::node::SystemClock.now();
        let init = InitCluster { cluster: node.cluster(), policy, at };
        propose(&node, Command::InitCluster(init)).await?;
        // The façade makes keys; nothing is dialled for that.
        let options = EngineOptions::new(ClusterSecret::new(*node.cluster_secret().expose()));
        let ledger = Arc::clone(&node) as Arc<dyn Ledger>;
        let (_, provider) =
            Engine::new(options, ledger, Arc::new(Dialer::default()), Arc::new(super::node::SystemClock));
        let (_, secret) = provider.create_key("first operator", Role::Operator, TenantId::default_tenant()).await?;
        // Before anything else can fail: a cluster whose only key nobody has could not be used.
        context::write_private(&config.data_dir().join("operator.key"), &secret)?;
        Ok(Founded { cluster: node.cluster(), node: node.node(), url: config.api_url(), key: secret })
    };
    let founded = founded.await;
    node.shutdown().await;
    founded
}

/// Proposes until the node has elected itself.
async fn propose(node: &Node, command: Command) -> Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match node.propose(command.clone()).await {
            Ok(applied) => match applied.outcome {
                Outcome::Refused(refusal) => bail!("the new cluster refused its own start: {refusal:?}"),
                _ => return Ok(()),
            },
            Err(LedgerError::NoQuorum(_)) if begun.elapsed() < FIRST_ELECTION => {
                let view = node.leader();
                if !view.is_self {
                    let _ = tokio::time::timeout(Duration::from_secs(1), node.leader_changed(view)).await;
                }
            }
            Err(error) => return Err(error).context("the new node does not take its first entry"),
        }
    }
}

/// `plimsoll init`
///
/// # Errors
/// When the folder holds a node already or cannot be written.
pub async fn init(args: &NodeArgs, output: Output) -> Result<()> {
    let config = configured(args)?;
    let spinner = print::spinner("making a cluster".into());
    let founded = found(&config).await;
    spinner.finish_and_clear();
    let founded = founded?;
    let saved = context::save(&founded.access()).map(|path| format!("saved for this user in {}", path.display()));
    print::result(output, &founded, |founded| {
        format!(
            "cluster {} begins with node {}\noperator key  {}\n              shown once; {}\n\nnext: plimsoll server{}",
            founded.cluster,
            founded.node,
            founded.key,
            saved.unwrap_or_else(|error| format!("not saved: {error:#}")),
            args.config.as_ref().map(|path| format!(" --config {}", path.display())).unwrap_or_default(),
        )
    })
}

/// `plimsoll join`
///
/// # Errors
/// When the token is refused, no member answers, or the folder holds a node already.
pub async fn join(args: &JoinArgs, output: Output) -> Result<()> {
    let config = configured(&args.node)?;
    let mut token = args.token.clone();
    if token == "-" {
        token.clear();
        std::io::stdin().take(64 << 10).read_to_string(&mut token).context("cannot read the token")?;
    }
    let options = raft_options(&config);
    let spinner = print::spinner("joining".into());
    let joined = Node::enroll(&options, token.trim()).await;
    spinner.finish_and_clear();
    joined?;
    let (cluster, node) = Node::peek(&options.data_dir)?;
    print::result(output, &serde_json::json!({ "cluster": cluster, "node": node }), |_| {
        format!("this machine is node {node} of {cluster}\nnext: plimsoll server")
    })
}
