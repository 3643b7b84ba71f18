//! `plimsoll cluster restore`: founds a cluster's first node again from a backup, when every node is lost.

use super::{
    configured,
    found::{key_file, raft_options},
    node::SystemClock,
};
use crate::{
    cli::{
        args::{Output, RestoreArgs},
        backup, context, print,
    },
    config::Config,
};
use anyhow::{Context as _, Result, bail, ensure};
use plimsoll_client::wire::Time;
use plimsoll_engine::{ClusterSecret, VpsClusterProvider};
use plimsoll_lifecycle::ports::Clock as _;
use plimsoll_raft::Node;
use plimsoll_state::{Hold, Role, State, backup::Header};
use plimsoll_types::{ClusterId, NodeId, TenantId};
use serde::Serialize;
use std::path::Path;

/// What a restore gives.
#[derive(Serialize)]
struct Restored {
    cluster: ClusterId,
    node: NodeId,
    url: String,
    made_at: Time,
    hosts: u64,
    sandboxes: u64,
    /// A new operator key, if one was asked for; shown once.
    key: Option<String>,
}

/// Runs it.
///
/// # Errors
/// When the file is no whole backup, the folder is not empty, or secrets would be lost that nobody gave up.
pub async fn restore(args: &RestoreArgs, output: Output) -> Result<()> {
    let config = configured(&args.node)?;
    let args = args.clone();
    let restored = tokio::task::spawn_blocking(move || begin(&args, &config)).await??;
    print::result(output, &restored, |restored| {
        let mut text = format!(
            "cluster {} goes on with node {}, as of {}: {} hosts, {} sandboxes\n",
            restored.cluster, restored.node, restored.made_at, restored.hosts, restored.sandboxes
        );
        if let Some(key) = &restored.key {
            text.push_str(&format!("operator key  {key}\n              shown once\n"));
        }
        text.push_str(
            "It is on hold: nothing is started, moved or removed until you have looked.\n\nnext: plimsoll server, then \
             plimsoll cluster drift",
        );
        text
    })
}

fn begin(args: &RestoreArgs, config: &Config) -> Result<Restored> {
    let (mut file, header) = backup::open(&args.file)?;
    secrets(&header, args)?;
    let (header, mut state) =
        plimsoll_state::backup::read(&mut file).with_context(|| args.file.display().to_string())?;
    let key = args.new_key.then(|| add_key(&mut state)).transpose()?;
    let options = raft_options(config);
    let reason = format!("restored from a backup of {}", Time(header.made_at)).into();
    let hold = Hold { since: SystemClock.now(), reason };
    let node = Node::restore(&options, state, hold, args.identity.as_deref())?;
    let url = config.api_url();
    if let Some(key) = &key {
        keep(key, &url, &config.data_dir())?;
    }
    let (hosts, sandboxes, made_at) = (header.hosts, header.sandboxes, Time(header.made_at));
    Ok(Restored { cluster: header.cluster, node, url, made_at, hosts, sandboxes, key })
}

/// Sealed environments open only with the secret they were sealed with.
fn secrets(header: &Header, args: &RestoreArgs) -> Result<()> {
    match &args.identity {
        Some(identity) => {
            let secret = ClusterSecret::new(*Node::secret_in(identity)?.expose()).fingerprint();
            let theirs = identity.display();
            ensure!(
                secret == header.secret,
                "{theirs} holds another secret than the one that the backup's environments are sealed with"
            );
        }
        None if header.sealed > 0 && !args.forget_secrets => bail!(
            "{} sandboxes have secret environments, sealed with the cluster's secret, which is not in the backup: name a copy of \
             any old node's `identity` file with --identity, or give them up with --forget-secrets",
            header.sealed
        ),
        None => {}
    }
    Ok(())
}

fn add_key(state: &mut State) -> Result<String> {
    let now = SystemClock.now();
    let secret = VpsClusterProvider::new_secret(now)?;
    let key = VpsClusterProvider::key_for(&secret, "restored", Role::Operator, TenantId::default_tenant(), now)?;
    state.add_key(key);
    Ok(secret)
}

fn keep(key: &str, url: &str, folder: &Path) -> Result<()> {
    context::write_private(&key_file(folder), key)?;
    if let Err(error) = context::save(&context::Saved { url: url.to_owned(), key: key.to_owned() }) {
        print::note(&format!("the new key was not saved for this user: {error:#}"));
    }
    Ok(())
}
