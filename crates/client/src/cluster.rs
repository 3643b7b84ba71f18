//! Calls about the control plane and its keys, for operators.

use crate::{
    call::Call,
    client::{ByteStream, Client},
    error::Error,
    wire::{ClusterStatus, CreateKey, JoinToken, Key, KeyCreated, Secret, TransferLeadership},
};
use plimsoll_types::KeyId;

impl Client {
    /// The control plane as the asked node sees it. Answers without a quorum too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<ClusterStatus, Error> {
        self.json(&Call::get(&["v1", "cluster"])).await
    }

    /// Hands leadership to a voter.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), Error> {
        self.nothing(&Call::post(&["v1", "cluster", "transfer"]).json(&TransferLeadership { to })).await
    }

    /// Removes a node from the control plane.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_node(&self, node: u64) -> Result<(), Error> {
        self.nothing(&Call::delete(&["v1", "cluster", "nodes", &node.to_string()]).repeatable(false)).await
    }

    /// Makes a token that lets one more node join.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join_token(&self) -> Result<Secret, Error> {
        let answer: JoinToken = self.json(&Call::post(&["v1", "cluster", "tokens"])).await?;
        Ok(answer.token)
    }

    /// Makes an API key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_key(&self, request: &CreateKey) -> Result<KeyCreated, Error> {
        self.json(&Call::post(&["v1", "keys"]).json(request)).await
    }

    /// Every API key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keys(&self) -> Result<Vec<Key>, Error> {
        self.json(&Call::get(&["v1", "keys"])).await
    }

    /// Ends an API key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_key(&self, key: KeyId) -> Result<(), Error> {
        self.nothing(&Call::delete(&["v1", "keys", &key.to_string()])).await
    }

    /// Whether the cluster has a quorum and reaches at least one host.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn health(&self) -> Result<bool, Error> {
        let answer: crate::wire::cluster::Healthy = self.json(&Call::get(&["v1", "health"])).await?;
        Ok(answer.healthy)
    }

    /// The asked node's metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<ByteStream, Error> {
        self.stream(Call::get(&["metrics"])).await
    }
}
