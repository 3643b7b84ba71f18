//! What placement knows of one host. Plain data: nothing here is looked up or measured.

use crate::request::Request;
use plimsoll_types::{
    Bytes, Health, HostId, HostName, ImageRef, Labels, LoadLine, MeasuredLoad, Pressure, Resources, Runtime, TenantId,
};
use std::collections::{BTreeMap, BTreeSet};

/// One host: what state says of it and what was measured on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its id; the last tie-breaker.
    pub id: HostId,
    /// What the operator calls it; for explanations.
    pub name: HostName,
    /// The operator's labels; constraints read them.
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour; a tie-breaker.
    pub price_milli_per_hour: u64,
    /// OCI runtimes it offers.
    pub runtimes: BTreeSet<Runtime>,
    /// What it has.
    pub totals: Resources,
    /// The load line: what may be reserved on it.
    pub line: Resources,
    /// Memory that may be in use, reserved or not: total − reserve.
    pub usable_memory: Bytes,
    /// The sum of the reservations that state knows of.
    pub reserved: Resources,
    /// Its load, smoothed; `None` until it was measured, and then its load counts as its reservations.
    pub measured: Option<MeasuredLoad>,
    /// Past this pressure nothing more is placed on it.
    pub pressure_max: Pressure,
    /// Whether it answers.
    pub health: Health,
    /// Whether an operator wants nothing new there.
    pub cordoned: bool,
    /// Whether it is backed off from because its own creates keep failing.
    pub quarantined: bool,
    /// Images known to be on it; may be empty.
    pub images: BTreeSet<ImageRef>,
    /// How many sandboxes of each tenant hold a reservation on it.
    pub tenants: BTreeMap<TenantId, u32>,
    /// Anti-affinity groups that have a sandbox on it.
    pub groups: BTreeSet<(TenantId, Box<str>)>,
}

impl HostView {
    /// A ready, empty, unmeasured host with `runc`.
    #[must_use]
    pub fn new(id: HostId, name: HostName, totals: Resources, load_line: &LoadLine) -> Self {
        Self {
            id,
            name,
            labels: Labels::new(),
            price_milli_per_hour: 0,
            runtimes: BTreeSet::from([Runtime::Runc]),
            totals,
            line: load_line.of(totals),
            usable_memory: totals.memory.saturating_sub(load_line.memory_reserve),
            reserved: Resources::ZERO,
            measured: None,
            pressure_max: load_line.pressure_max,
            health: Health::Ready,
            cordoned: false,
            quarantined: false,
            images: BTreeSet::new(),
            tenants: BTreeMap::new(),
            groups: BTreeSet::new(),
        }
    }

    /// The runtimes we know among those Docker names.
    #[must_use]
    pub fn runtimes_among(names: &[String]) -> BTreeSet<Runtime> {
        let offered = |runtime: &Runtime| names.iter().any(|name| name == runtime.as_str());
        [Runtime::Runc, Runtime::Runsc].into_iter().filter(offered).collect()
    }

    /// Counts a sandbox made for this request as reserved here.
    pub fn take(&mut self, request: &Request) {
        self.reserved = self.reserved.saturating_add(request.resources);
        let count = self.tenants.entry(request.tenant.clone()).or_default();
        *count = count.saturating_add(1);
        if let Some(group) = &request.anti_affinity {
            self.groups.insert((request.tenant.clone(), group.clone()));
        }
    }

    /// The reverse of [`HostView::take`], for a sandbox that ended.
    pub fn give_back(&mut self, request: &Request) {
        self.reserved = self.reserved.saturating_sub(request.resources);
        if let Some(count) = self.tenants.get_mut(&request.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.tenants.remove(&request.tenant);
            }
        }
        if let Some(group) = &request.anti_affinity {
            self.groups.remove(&(request.tenant.clone(), group.clone()));
        }
    }
}
