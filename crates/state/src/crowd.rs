//! Who is on a host, in short: what a placement asks of its sandboxes, kept in step so that nobody has to look at each of them.

use crate::model::Sandbox;
use plimsoll_types::{ImageRef, TenantId};
use std::collections::BTreeMap;

/// The sandboxes that hold a reservation on one host, counted by what tells hosts apart for a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    images: BTreeMap<ImageRef, u32>,
    tenants: BTreeMap<TenantId, u32>,
    groups: BTreeMap<(TenantId, Box<str>), u32>,
}

impl Crowd {
    /// Their images.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        self.images.keys()
    }

    /// How many each tenant has.
    #[must_use]
    pub const fn tenants(&self) -> &BTreeMap<TenantId, u32> {
        &self.tenants
    }

    /// Anti-affinity groups that have one here.
    pub fn groups(&self) -> impl Iterator<Item = &(TenantId, Box<str>)> {
        self.groups.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    pub(crate) fn enter(&mut self, sandbox: &Sandbox) {
        add(&mut self.images, &sandbox.spec.image);
        add(&mut self.tenants, &sandbox.tenant);
        if let Some(group) = &sandbox.spec.anti_affinity {
            add(&mut self.groups, &(sandbox.tenant.clone(), group.clone()));
        }
    }

    pub(crate) fn leave(&mut self, sandbox: &Sandbox) {
        take(&mut self.images, &sandbox.spec.image);
        take(&mut self.tenants, &sandbox.tenant);
        if let Some(group) = &sandbox.spec.anti_affinity {
            take(&mut self.groups, &(sandbox.tenant.clone(), group.clone()));
        }
    }
}

fn add<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K) {
    match counts.get_mut(key) {
        Some(count) => *count = count.saturating_add(1),
        None => drop(counts.insert(key.clone(), 1)),
    }
}

/// Counts of nothing go, so that counts kept in step equal rebuilt ones.
fn take<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
