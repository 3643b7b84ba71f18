//! Calls about hosts, for operators.

use crate::{
    call::Call,
    client::Client,
    error::Error,
    wire::{
        ChangeHost, CordonHost, DrainHost, DrainStatus, Host, HostCheck, HostRemoved, NewHost, Rebalance,
        RebalanceHosts,
    },
};

impl Client {
    /// Looks at a host without adding it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check_host(&self, host: &NewHost) -> Result<HostCheck, Error> {
        self.json(&Call::post(&["v1", "hosts:check"]).repeatable(true).json(host)).await
    }

    /// Checks and adds a host.
    ///
    /// # Errors
    /// See [`Error`]; `host_key_unknown` while the fingerprint is not confirmed.
    pub async fn add_host(&self, host: &NewHost) -> Result<Host, Error> {
        self.json(&Call::post(&["v1", "hosts"]).json(host)).await
    }

    /// Every host, by name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hosts(&self) -> Result<Vec<Host>, Error> {
        self.json(&Call::get(&["v1", "hosts"])).await
    }

    /// One host by name or id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn host(&self, name: &str) -> Result<Host, Error> {
        self.json(&Call::get(&["v1", "hosts", name])).await
    }

    /// Places nothing new on a host.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cordon_host(&self, name: &str, reason: &str) -> Result<Host, Error> {
        let body = CordonHost { reason: reason.to_owned() };
        self.json(&Call::post(&["v1", "hosts", name, "cordon"]).repeatable(true).json(&body)).await
    }

    /// Ends a cordon.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uncordon_host(&self, name: &str) -> Result<Host, Error> {
        self.json(&Call::post(&["v1", "hosts", name, "uncordon"]).repeatable(true)).await
    }

    /// Moves everything off a host and places nothing new there, or, as a dry run, says what would move. Answers with how far it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain_host(&self, name: &str, drain: &DrainHost) -> Result<DrainStatus, Error> {
        // Again it would count its deadline from then.
        let call = Call::post(&["v1", "hosts", name, "drain"]).repeatable(drain.dry_run || drain.deadline_s.is_none());
        self.json(&call.json(drain)).await
    }

    /// How far a drain is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain_status(&self, name: &str) -> Result<DrainStatus, Error> {
        self.json(&Call::get(&["v1", "hosts", name, "drain"])).await
    }

    /// Ends a drain; what has moved stays where it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn undrain_host(&self, name: &str) -> Result<Host, Error> {
        self.json(&Call::post(&["v1", "hosts", name, "undrain"]).repeatable(true)).await
    }

    /// Begins the fewest moves that even hosts out, or, as a dry run, says which they are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rebalance(&self, wanted: &RebalanceHosts) -> Result<Rebalance, Error> {
        self.json(&Call::post(&["v1", "rebalance"]).repeatable(wanted.dry_run).json(wanted)).await
    }

    /// Changes a host's labels or price.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_host(&self, name: &str, change: &ChangeHost) -> Result<Host, Error> {
        self.json(&Call::patch(&["v1", "hosts", name]).json(change)).await
    }

    /// Forgets a host that holds no sandboxes; the answer's warnings say what may be left on it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_host(&self, name: &str) -> Result<HostRemoved, Error> {
        self.json(&Call::delete(&["v1", "hosts", name]).repeatable(false)).await
    }
}
