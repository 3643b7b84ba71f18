//! Who this node is: the file `<data>/identity`, readable by its owner only.
//!
//! Every member holds the cluster CA's key and the cluster secret, because any of them may have to admit the next one.
//! Nothing in here is ever printed.

use crate::{
    certs,
    error::{Error, Result},
    store::{files, guard::Guard},
};
use plimsoll_types::{ClusterId, NodeId};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Whose a data folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// 32 random bytes that every member of a cluster shares; what is sealed with it can be opened on any node.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; 32]);

impl ClusterSecret {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// The bytes, for deriving keys from. Never log or store them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one purpose, so that no two purposes share one.
    pub(crate) fn derive(&self, purpose: &str) -> ring::hmac::Key {
        let root = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0);
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, ring::hmac::sign(&root, purpose.as_bytes()).as_ref())
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// Bytes that stand as base64 in the file and are never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// How the node came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// It made the cluster.
    Founder,
    /// It was let in; until it is a member it asks this address to be admitted, with this token.
    Joined {
        /// A member's raft address.
        via: String,
        /// The token it was let in with.
        token: Secret,
    },
}

/// The cluster's CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authority {
    pub(crate) cert: Secret,
    pub(crate) key: Secret,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) version: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) origin: Origin,
    pub(crate) authority: Authority,
    pub(crate) cert: Secret,
    pub(crate) key: Secret,
    pub(crate) cluster_secret: Secret,
}

impl Identity {
    /// A new cluster's first node.
    pub(crate) fn found(cluster: ClusterId) -> Result<Self> {
        Self::found_again(cluster, NodeId(1), None)
    }

    /// The only node of a cluster whose nodes were lost: with a new CA, and with the old secret if somebody kept it.
    pub(crate) fn found_again(cluster: ClusterId, node: NodeId, secret: Option<Secret>) -> Result<Self> {
        let authority = certs::new_authority(cluster)?;
        let (key, request) = certs::request()?;
        let cert = certs::issue(&authority, cluster, node, &request)?;
        let cluster_secret = secret.unwrap_or_else(|| Secret(ClusterSecret::random().0.to_vec()));
        Ok(Self { version: 1, cluster, node, origin: Origin::Founder, authority, cert, key, cluster_secret })
    }

    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("identity")
    }

    /// Stands in a folder while a backup is being restored into it.
    pub(crate) fn unfinished(data_dir: &Path) -> PathBuf {
        data_dir.join("restoring")
    }

    fn finished(data_dir: &Path) -> Result<()> {
        let unfinished = Self::unfinished(data_dir).exists();
        if unfinished { Err(Error::Unfinished(data_dir.display().to_string())) } else { Ok(()) }
    }

    /// Refuses a folder that holds a node.
    pub(crate) fn absent(data_dir: &Path) -> Result<()> {
        Self::finished(data_dir)?;
        match files::read(&Self::path(data_dir))? {
            Some(_) => Err(Error::Exists(data_dir.display().to_string())),
            // Log files without an identity are someone's remains; building on them could resurrect old votes.
            None if data_dir.join("log").exists() => Err(Error::Corrupt(format!(
                "{} has a log but no identity, so nobody knows whose it is",
                data_dir.display()
            ))),
            None => Ok(()),
        }
    }

    /// Makes the folder this node's. The identity comes last: a crash before it leaves an empty folder.
    pub(crate) fn save_new(&self, data_dir: &Path) -> Result<()> {
        files::create_dir(data_dir)?;
        Self::absent(data_dir)?;
        self.save(data_dir)
    }

    /// Writes guard and identity, the identity last.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<()> {
        Guard::create(data_dir, self.cluster, self.node)?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Stopped(error.to_string()))?;
        files::replace(&Self::path(data_dir), &text)
    }

    /// Reads the folder's identity.
    pub(crate) fn load(data_dir: &Path) -> Result<Self> {
        Self::finished(data_dir)?;
        let path = Self::path(data_dir);
        let Some(content) = files::read(&path)? else { return Err(Error::Empty(data_dir.display().to_string())) };
        let identity =
            Self::parse(&content).map_err(|error| Error::Corrupt(format!("{} is damaged: {error}", path.display())))?;
        if identity.version != 1 {
            return Err(Error::Invalid(format!(
                "{} has version {}; this release knows version 1",
                path.display(),
                identity.version
            )));
        }
        Ok(identity)
    }

    pub(crate) fn parse(content: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(content)
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { cluster: self.cluster, node: self.node }
    }

    pub(crate) fn secret(&self) -> Result<ClusterSecret> {
        let bytes = self.cluster_secret.0.as_slice().try_into();
        bytes.map(ClusterSecret).map_err(|_| Error::Corrupt("the identity's cluster secret is malformed".into()))
    }

    /// The node's certificate with the CA's, as peers and joining nodes want to see them.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.cert.0.clone().into(), self.authority.cert.0.clone().into()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.0.clone()).into()
    }
}
