//! One driver per host, dialled when first needed and kept. Every node has its own cache; nothing here is replicated.

use plimsoll_lifecycle::ports::{Dial, DialTarget, HostDriver};
use plimsoll_state::{Host, State};
use plimsoll_types::HostId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The drivers dialled so far. Bounded by the number of hosts: those removed are dropped.
pub(crate) struct Drivers {
    dial: Arc<dyn Dial>,
    cache: Mutex<BTreeMap<HostId, Dialled>>,
}

/// A driver and what it was dialled with.
type Dialled = (DialTarget, Arc<dyn HostDriver>);

impl Drivers {
    pub(crate) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, cache: Mutex::default() }
    }

    /// The dialler itself, for hosts that are not added yet.
    pub(crate) fn dialler(&self) -> &dyn Dial {
        self.dial.as_ref()
    }

    /// The driver of a host; dialled again where its address, identity or pinned key changed.
    pub(crate) fn of(&self, host: &Host) -> Arc<dyn HostDriver> {
        let target = target(host);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, driver)) = cache.get(&host.id)
            && *known == target
        {
            return Arc::clone(driver);
        }
        let driver = self.dial.dial(&target);
        cache.insert(host.id, (target, Arc::clone(&driver)));
        driver
    }

    /// Drops the drivers of hosts that were removed.
    pub(crate) fn prune(&self, state: &State) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|id, _| state.hosts.contains_key(id));
    }
}

fn target(host: &Host) -> DialTarget {
    DialTarget {
        name: host.name.to_string(),
        address: host.address.clone(),
        identity: host.identity.clone(),
        host_key: host.host_key.clone(),
    }
}
