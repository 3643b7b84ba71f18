//! Makes drivers for hosts.

use crate::{
    access::Access,
    driver::Driver,
    ssh::{self, Login, SshHost, keys::Keys},
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{Dial, DialTarget, HostDriver, HostError};
use plimsoll_types::HostAddress;
use std::sync::Arc;

/// What a node configures once for all hosts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node's default SSH key.
    pub keys: Keys,
}

/// Dials hosts over SSH, and this machine through its socket. Must be used inside a tokio runtime.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    options: Options,
}

impl Dialer {
    /// Makes one; nothing is opened until a driver is used.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        Self { options }
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
        Arc::new(Driver::new(target.name.clone(), access))
    }

    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError> {
        match address {
            HostAddress::Unix { .. } => Ok(None),
            HostAddress::Ssh { addr, port, .. } => ssh::host_key(addr, *port).await.map(Some),
        }
    }
}
