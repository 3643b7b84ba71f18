//! Founding a cluster's first node from a backup of its state, after every node of it was lost.
//!
//! **What stays of the old cluster**: its id (containers carry it), its state, and, where somebody kept an old node's identity file,
//! its secret. **What does not**: its members, its log, and its certificates. The new node has a number that no node had and a CA of
//! its own, so that an old node which turns up after all is a stranger: it can neither be heard nor vote.
//!
//! A marker in the folder says that it is not finished; nothing starts from such a folder, and restoring again begins afresh.

use super::Node;
use crate::{
    error::{Error, Result},
    identity::{Identity, Secret},
    options::Options,
    store::{
        files,
        snapshots::{Header, Pace, Snapshots},
    },
    types::{LeaderId, LogId, Peer, SnapshotMeta, StoredMembership},
};
use openraft::vote::RaftLeaderIdExt as _;
use plimsoll_state::{Hold, State};
use plimsoll_types::NodeId;
use std::{collections::BTreeMap, fs, path::Path};

/// What a restore writes before it is finished.
const PARTS: [&str; 3] = ["identity", "guard", "snapshots"];

impl Node {
    /// Makes the folder the only node of a cluster that goes on, on hold, from this state. `identity` is the identity file of any
    /// node that the cluster had: with it sealed secrets open again.
    ///
    /// # Errors
    /// [`Error::Exists`] when the folder holds anything, [`Error::Invalid`] when the state is no cluster's or the identity another
    /// one's, [`Error::Corrupt`] when the identity cannot be read, [`Error::Io`].
    pub fn restore(options: &Options, state: State, hold: Hold, identity: Option<&Path>) -> Result<NodeId> {
        options.raft_config()?;
        let cluster = state.cluster.ok_or_else(|| Error::Invalid("the backup holds no cluster".into()))?;
        let secret = identity.map(|path| Self::kept_secret(path, cluster)).transpose()?;
        let dir = &options.data_dir;
        clear_or_refuse(dir)?;
        files::create_dir(dir)?;
        files::replace(&Identity::unfinished(dir), b"A backup is being restored here. Restore it again to finish.\n")?;

        let node = state.unused_node();
        let new = Identity::found_again(cluster, node, secret)?;
        let state = state.begun_again(node, hold);
        let peer = Peer { raft_address: options.advertise.clone(), api_url: options.api_url.clone() };
        save(dir, node, peer, &state)?;
        new.save(dir)?;
        fs::remove_file(Identity::unfinished(dir)).map_err(|error| Error::path("finish restoring into", dir, error))?;
        files::sync_dir(dir)?;
        Ok(node)
    }

    /// The cluster's secret in a node's identity file.
    fn kept_secret(path: &Path, cluster: plimsoll_types::ClusterId) -> Result<Secret> {
        let identity = Self::read_identity(path)?;
        if identity.cluster != cluster {
            let theirs = identity.cluster;
            return Err(Error::Invalid(format!("{} is of {theirs}, the backup of {cluster}", path.display())));
        }
        Ok(identity.cluster_secret)
    }

    /// The secret of the cluster that a node's identity file belongs to.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub fn secret_in(identity: &Path) -> Result<crate::ClusterSecret> {
        Self::read_identity(identity)?.secret()
    }

    fn read_identity(path: &Path) -> Result<Identity> {
        let content = files::read(path)?;
        let content = content.ok_or_else(|| Error::Invalid(format!("there is no identity file {}", path.display())))?;
        Identity::parse(&content)
            .map_err(|why| Error::Invalid(format!("{} is no node's identity file: {why}", path.display())))
    }
}

/// A folder is either empty or holds a restore that was cut short, which then never was a node.
fn clear_or_refuse(dir: &Path) -> Result<()> {
    let failed = |error| Error::path("look into", dir, error);
    if Identity::unfinished(dir).exists() {
        for part in PARTS.map(|part| dir.join(part)) {
            let removed = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::path("remove", &part, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        return Ok(());
    }
    Identity::absent(dir)?;
    // What a crash leaves of the marker before it has its name.
    let marker = Identity::unfinished(dir).with_extension("tmp");
    let other = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        entries => entries.map_err(failed)?.flatten().any(|entry| entry.path() != marker),
    };
    if other { Err(Error::NotEmpty(dir.display().to_string())) } else { Ok(()) }
}

/// Writes the state as a snapshot that stands before an empty log.
fn save(dir: &Path, node: NodeId, peer: Peer, state: &State) -> Result<()> {
    // Term zero: whoever is elected first is elected in term one.
    let log_id = LogId::new(LeaderId::new_committed(0, node.0), state.applied);
    let membership = openraft::Membership::new(vec![[node.0].into()], BTreeMap::from([(node.0, peer)]))
        .map_err(|error| Error::Stopped(error.to_string()))?;
    let meta =
        SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::new(Some(log_id), membership) };
    let header = Header { meta, members_ever: (1..=node.0).collect() };
    let saved = Snapshots::open(dir)?.save(&header, state, Pace::Fast);
    saved.map(drop).map_err(|error| Error::path("write the state into", dir, error))
}
