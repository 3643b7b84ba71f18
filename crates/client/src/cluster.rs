//! Calls about the control plane and its keys, for operators.

use crate::{
    call::Call,
    client::{ByteStream, Client},
    error::Error,
    wire::{
        ClusterStatus, CreateKey, Healthy, JoinToken, Key, KeyCreated, LogLevel, Policy, Secret, SetLogLevel,
        TransferLeadership,
    },
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

    /// The rules in force for the whole cluster.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster_policy(&self) -> Result<Policy, Error> {
        self.json(&Call::get(&["v1", "cluster", "policy"])).await
    }

    /// Replaces the rules, and answers with those in force then. Change what [`Client::cluster_policy`] answered: its revision keeps
    /// another operator's change from being undone.
    ///
    /// # Errors
    /// See [`Error`]; `conflict` if the rules were changed since that revision.
    pub async fn set_cluster_policy(&self, policy: &Policy) -> Result<Policy, Error> {
        self.json(&Call::put(&["v1", "cluster", "policy"]).json(policy)).await
    }

    /// What the asked node logs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_level(&self) -> Result<LogLevel, Error> {
        self.json(&Call::get(&["v1", "log-level"])).await
    }

    /// Changes what the asked node logs, until it is started again.
    ///
    /// # Errors
    /// See [`Error`]; `invalid_request` if that is no filter.
    pub async fn set_log_level(&self, filter: &str) -> Result<LogLevel, Error> {
        // Another node is another log: what broke off here is not repeated there.
        let call = Call::put(&["v1", "log-level"]).repeatable(false);
        self.json(&call.json(&SetLogLevel { filter: filter.to_owned() })).await
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
        Ok(self.health_report().await?.healthy)
    }

    /// The same, with the reason if not.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn health_report(&self) -> Result<Healthy, Error> {
        self.json(&Call::get(&["v1", "health"])).await
    }

    /// The asked node's metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<ByteStream, Error> {
        self.stream(Call::get(&["metrics"])).await
    }
}
