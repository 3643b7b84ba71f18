//! All simulated hosts, and the dialer that each node reaches them with.

use super::{
    Lifeline, SimClock, SimLedger, SimRegistry,
    host::{HostSize, Journal, Line, SimDriver, SimHost},
    lock,
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{Dial, DialTarget, HostDriver, HostError, HostFailure, Ledger, Registry};
use plimsoll_types::{Code, HostAddress, NodeId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Hosts by address. Clones are the same fleet.
#[derive(Clone)]
pub struct SimFleet {
    inner: Arc<Fleet>,
}

struct Fleet {
    seed: u64,
    clock: SimClock,
    journal: Arc<Mutex<Journal>>,
    registry: SimRegistry,
    hosts: Mutex<BTreeMap<HostAddress, SimHost>>,
}

impl Fleet {
    fn machine(&self, named: (&str, HostSize), seed: u64) -> SimHost {
        SimHost::new(named, seed, self.clock, Arc::clone(&self.journal), self.registry.clone())
    }
}

impl SimFleet {
    /// A fleet without hosts. All chance comes from the seed.
    #[must_use]
    pub fn new(seed: u64, clock: SimClock) -> Self {
        let journal = Arc::new(Mutex::new(Journal::default()));
        Self {
            inner: Arc::new(Fleet {
                seed,
                clock,
                journal,
                registry: SimRegistry::default(),
                hosts: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// Adds a machine; it is reached at `ssh://sim@<name>:22`.
    pub fn add(&self, name: &str, size: HostSize) -> SimHost {
        let mut hosts = lock(&self.inner.hosts);
        let nth = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
        let seed = self.inner.seed.wrapping_mul(1000).wrapping_add(nth);
        let host = self.inner.machine((name, size), seed);
        hosts.insert(host.address().clone(), host.clone());
        host
    }

    /// Every machine, by address.
    #[must_use]
    pub fn hosts(&self) -> Vec<SimHost> {
        lock(&self.inner.hosts).values().cloned().collect()
    }

    /// The machine at an address.
    #[must_use]
    pub fn at(&self, address: &HostAddress) -> Option<SimHost> {
        lock(&self.inner.hosts).get(address).cloned()
    }

    /// The registry that all of them use.
    #[must_use]
    pub fn registry(&self) -> SimRegistry {
        self.inner.registry.clone()
    }

    /// Ends every mishap on every host and of the registry.
    pub fn heal(&self) {
        self.inner.registry.heal();
        self.hosts().iter().for_each(SimHost::heal);
    }

    /// Reads the record of everything that was ever started.
    pub fn journal<T>(&self, reader: impl FnOnce(&Journal) -> T) -> T {
        reader(&lock(&self.inner.journal))
    }

    /// The dialer of a node's present incarnation: it falls silent when the node is killed.
    #[must_use]
    pub fn dialer(&self, ledger: &SimLedger) -> Arc<SimDial> {
        Arc::new(SimDial { fleet: self.clone(), node: Some(ledger.node()), life: ledger.lifeline() })
    }

    /// A dialer that belongs to no node and never dies.
    #[must_use]
    pub fn any_dialer(&self) -> Arc<SimDial> {
        Arc::new(SimDial { fleet: self.clone(), node: None, life: Lifeline::default() })
    }
}

/// The dial port of one node.
pub struct SimDial {
    fleet: SimFleet,
    node: Option<NodeId>,
    life: Lifeline,
}

#[async_trait]
impl Dial for SimDial {
    /// An address without a machine gets a driver too; it never answers.
    fn dial(&self, target: &DialTarget) -> Arc<dyn HostDriver> {
        let host = self.fleet.at(&target.address).unwrap_or_else(|| {
            let inner = &self.fleet.inner;
            let nobody = inner.machine((&target.address.to_string(), HostSize::Cpx31), 0);
            nobody.disconnect();
            nobody
        });
        let line = Line { host, node: self.node, life: self.life.clone(), key: target.host_key.clone() };
        Arc::new(SimDriver::new(line))
    }

    fn registry(&self) -> Option<Arc<dyn Registry>> {
        Some(self.fleet.inner.registry.line(self.life.clone()))
    }

    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError> {
        let look = async {
            match (address, self.fleet.at(address)) {
                (HostAddress::Unix { .. }, _) => Ok(None),
                (HostAddress::Ssh { .. }, Some(host)) => Ok(Some((host.key(), format!("SHA256:sim-{}", host.name())))),
                (HostAddress::Ssh { .. }, None) => {
                    let message = format!("{address} does not answer");
                    Err(HostError::new(HostFailure::Unreachable, Code::SshUnreachable, message))
                }
            }
        };
        self.life.guard(look).await
    }
}
