//! Makes drivers for hosts.

use crate::{
    access::Access,
    docker,
    driver::Driver,
    registry::{Client, RegistryOptions},
    ssh::{self, Login, SshHost, keys::Keys},
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{Dial, DialTarget, HostDriver, HostError, Registry};
use plimsoll_types::HostAddress;
use std::sync::Arc;

/// What a node configures once for all hosts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node's default SSH key.
    pub keys: Keys,
    /// The registry that snapshots go through. A URL that is none is an error of whatever uses the registry;
    /// [`RegistryOptions::check`] finds it earlier.
    pub registry: Option<RegistryOptions>,
}

/// Dials hosts over SSH, and this machine through its socket. Must be used inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct Dialer {
    options: Options,
    registry: Option<Arc<Client>>,
    squash_at: usize,
}

impl Dialer {
    /// Makes one; nothing is opened until a driver is used.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let registry = options.registry.clone().map(|registry| Arc::new(Client::new(registry)));
        Self { options, registry, squash_at: docker::snapshot::SQUASH_AT }
    }

    /// The same, but snapshots are squashed into one layer from so many layers on. Only tests have a reason to.
    #[must_use]
    pub fn squash_at(self, layers: usize) -> Self {
        Self { squash_at: layers, ..self }
    }
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

#[async_trait]
impl Dial for Dialer {
    fn dial(&self, target: &DialTarget) -> Arc<dyn HostDriver> {
        let access = match &target.address {
            HostAddress::Unix { path } => Access::local(path),
            HostAddress::Ssh { user, addr, port } => Access::Ssh(Box::new(SshHost::new(Login {
                name: target.name.clone(),
                user: user.to_string(),
                addr: addr.to_string(),
                port: *port,
                identity: target.identity.clone(),
                host_key: target.host_key.clone(),
                keys: self.options.keys.clone(),
            }))),
        };
        Arc::new(Driver::new(target.name.clone(), access, self.registry.clone(), self.squash_at))
    }

    fn registry(&self) -> Option<Arc<dyn Registry>> {
        self.registry.clone().map(|client| client as Arc<dyn Registry>)
    }

    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError> {
        match address {
            HostAddress::Unix { .. } => Ok(None),
            HostAddress::Ssh { addr, port, .. } => ssh::host_key(addr, *port).await.map(Some),
        }
    }
}
