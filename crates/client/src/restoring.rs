//! Calls about backups, the hold and drift, for operators.

use crate::{
    call::Call,
    client::{ByteStream, Client},
    error::Error,
    wire::{Drift, HoldCluster, ResumeCluster, SettleDrift},
};

impl Client {
    /// A copy of the cluster's state, for `plimsoll cluster restore`. Its end is a checksum: compare it before you rely on the copy.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backup(&self) -> Result<ByteStream, Error> {
        self.stream(Call::get(&["v1", "cluster", "backup"])).await
    }

    /// Puts the cluster on hold: nothing is started, moved or removed until it is resumed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hold_cluster(&self, reason: &str) -> Result<(), Error> {
        let body = HoldCluster { reason: reason.to_owned() };
        self.nothing(&Call::post(&["v1", "cluster", "hold"]).repeatable(true).json(&body)).await
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// See [`Error`]; `conflict` while something is not settled, unless forced.
    pub async fn resume_cluster(&self, force: bool) -> Result<(), Error> {
        self.nothing(&Call::post(&["v1", "cluster", "resume"]).json(&ResumeCluster { force })).await
    }

    /// What all hosts hold, compared with what state says.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drift(&self) -> Result<Drift, Error> {
        self.json(&Call::get(&["v1", "cluster", "drift"])).await
    }

    /// Settles what is named, on hold only, and compares again.
    ///
    /// # Errors
    /// See [`Error`]; `conflict` unless the cluster is on hold.
    pub async fn settle_drift(&self, what: SettleDrift) -> Result<Drift, Error> {
        self.json(&Call::post(&["v1", "cluster", "drift"]).repeatable(true).json(&what)).await
    }
}
