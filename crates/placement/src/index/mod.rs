//! The index: answers what [`crate::naive`] would, without asking every host.
//!
//! What no request can change (health, cordon, quarantine, pressure) keeps a host out of the grid. What a request selects
//! by (runtime, constraints, anti-affinity) is a bitmap over hosts. The grid finds all groups of hosts with the lowest load;
//! among those the tie-breakers decide host by host.

mod bits;
mod grid;
mod images;
mod names;
mod selection;
mod slot;
mod tenants;

use crate::{
    host::HostView,
    request::Request,
    score::Score,
    tickets::{Held, Tickets},
};
use grid::{Grid, NONE, Triple};
use images::Images;
use plimsoll_types::{Resources, TenantId};
use selection::{FEW, Selections};
use slot::Slot;
use tenants::Tenants;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) slot: u32,
    pub(crate) score: Score,
    /// The tenant's number, if it has a sandbox anywhere.
    tenant: Option<u32>,
}

impl Found {
    /// A host that was named instead of found.
    pub(crate) const fn named(slot: u32, score: Score, tenant: Option<u32>) -> Self {
        Self { slot, score, tenant }
    }
}

/// A request's tenant and group on one host, as its view has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    count: u32,
    grouped: bool,
}

impl Presence {
    pub(crate) fn of(view: &HostView, request: &Request) -> Self {
        let candidate = crate::candidate::Candidate::of(view, request);
        Self { count: candidate.same_tenant, grouped: candidate.group_present }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    slots: Vec<Slot>,
    grid: Grid,
    tenants: Tenants,
    images: Images,
    selections: Selections,
}

impl Index {
    /// Makes everything anew. Slots are the views' positions.
    pub(crate) fn rebuild(&mut self, views: &[HostView], tickets: &mut Tickets) {
        let old_tenants = std::mem::replace(&mut self.tenants, Tenants::new(views.len()));
        self.grid = Grid::default();
        self.slots = vec![Slot::default(); views.len()];
        self.images = Images::default();
        self.selections = Selections::new(views.iter());
        for (view, slot) in views.iter().zip(0..) {
            for image in &view.images {
                self.images.add(image, slot);
            }
            self.enter_tenants(slot, view);
        }
        for held in tickets.outstanding_mut() {
            if let Some(name) = old_tenants.name(held.tenant) {
                held.tenant = self.tenants.add(name, held.slot, 1);
            }
            if let Some(group) = &held.group {
                self.tenants.enter_group(held.tenant, group, held.slot);
            }
            self.slots[held.slot as usize].take(triple(held.resources));
        }
        for (view, slot) in views.iter().zip(0..) {
            self.refresh(slot, view);
        }
    }

    /// Puts a new view in an old one's place; labels, runtimes and price are the same.
    pub(crate) fn replace(&mut self, slot: u32, old: &HostView, new: &HostView) {
        old.images.difference(&new.images).for_each(|gone| self.images.remove(gone, slot));
        new.images.difference(&old.images).for_each(|come| self.images.add(come, slot));
        if old.tenants != new.tenants || old.groups != new.groups {
            // The new ones first, so that a tenant that stays is not forgotten in between.
            self.enter_tenants(slot, new);
            self.leave_tenants(slot, old);
        }
        self.refresh(slot, new);
    }

    /// Reads a view's numbers and health, and files the slot accordingly.
    pub(crate) fn refresh(&mut self, slot: u32, view: &HostView) {
        let shape = self.grid.shape(self.selections.kind(slot), triple(view.totals));
        self.slots[slot as usize].read(view, shape);
        self.file(slot);
    }

    /// Whether hosts whose totals changed have left so much behind that a rebuild pays.
    pub(crate) fn cluttered(&self) -> bool {
        self.grid.shapes() > 2 * self.slots.len() + 64
    }

    /// Follows a change of one view's tenants and groups.
    pub(crate) fn shift(&mut self, slot: u32, request: &Request, before: Presence, after: Presence) {
        let number = self.tenants.add(&request.tenant, slot, after.count.saturating_sub(before.count));
        if let Some(group) = &request.anti_affinity {
            if after.grouped && !before.grouped {
                self.tenants.enter_group(number, group, slot);
            } else if before.grouped && !after.grouped {
                self.tenants.leave_group(number, group, slot);
            }
        }
        self.tenants.subtract(number, slot, before.count.saturating_sub(after.count));
    }

    /// Counts a decision as in flight; answers with the tenant's number.
    pub(crate) fn take(&mut self, found: Found, request: &Request) -> u32 {
        let number = match found.tenant {
            Some(number) => {
                self.tenants.add_numbered(number, found.slot, 1);
                number
            }
            None => self.tenants.add(&request.tenant, found.slot, 1),
        };
        if let Some(group) = &request.anti_affinity {
            self.tenants.enter_group(number, group, found.slot);
        }
        self.slots[found.slot as usize].take(triple(request.resources));
        self.file(found.slot);
        number
    }

    /// Stops counting what a ticket held.
    pub(crate) fn give_back(&mut self, held: &Held) {
        if let Some(group) = &held.group {
            self.tenants.leave_group(held.tenant, group, held.slot);
        }
        self.tenants.subtract(held.tenant, held.slot, 1);
        self.slots[held.slot as usize].give_back(triple(held.resources));
        self.file(held.slot);
    }

    /// The tenant's number, if it has a sandbox anywhere.
    pub(crate) fn tenant(&self, name: &TenantId) -> Option<u32> {
        self.tenants.find(name)
    }

    /// The best host for the request, exactly as [`crate::naive::place`] would choose.
    pub(crate) fn find(&mut self, request: &Request) -> Option<Found> {
        if self.selections.learn(request) {
            self.file_anew();
        }
        let asked = triple(request.resources);
        let tenant = self.tenants.number(&request.tenant);
        let taken = match (&request.anti_affinity, tenant) {
            (Some(group), Some(tenant)) => self.tenants.group(tenant, group),
            (Some(_), None) | (None, _) => None,
        };
        let selection = self.selections.select(request, taken);
        let load_ppm = match selection.hosts {
            None => self.grid.lowest(asked, selection.needs, None::<fn(&grid::Group) -> bool>),
            Some(few) if few.len() <= FEW => {
                let groups = few.iter().map(|slot| self.slots[slot as usize].group).filter(|group| *group != NONE);
                self.grid.lowest_among(groups, asked)
            }
            Some(many) => {
                let open = |group: &grid::Group| group.slots.iter().any(|slot| many.contains(*slot));
                self.grid.lowest(asked, selection.needs, Some(open))
            }
        };
        let selected = |slot: u32| selection.hosts.is_none_or(|hosts| hosts.contains(slot));
        let image = self.images.hosts(&request.image);
        let counts = tenant.and_then(|tenant| self.tenants.counts(tenant));
        // The tie-breakers as one number, so that comparing takes no branches. Slots are in the order of (price, id).
        let rank = |slot: u32| {
            let image_missing = image.is_none_or(|hosts| !hosts.contains(slot));
            let same_tenant = counts.map_or(0, |counts| counts.at(slot));
            u128::from(image_missing) << 64 | u128::from(same_tenant) << 32 | u128::from(slot)
        };
        // No host of a group can beat the first one whose rank is this but for the slot.
        let unbeatable = u128::from(image.is_none()) << 32;
        let mut best = u128::MAX;
        for group in &self.grid.ties {
            for slot in self.grid.group(*group).slots.iter().rev().copied().filter(|slot| selected(*slot)) {
                let rank = rank(slot);
                best = best.min(rank);
                if rank >> 32 == unbeatable {
                    break;
                }
            }
        }
        if best == u128::MAX {
            return None;
        }
        let (image_missing, same_tenant, slot) = (best >> 64 == 1, (best >> 32) as u32, best as u32);
        let Slot { host, price_milli_per_hour, .. } = self.slots[slot as usize];
        let load_ppm = u64::from(load_ppm);
        Some(Found { slot, score: Score { load_ppm, image_missing, same_tenant, price_milli_per_hour, host }, tenant })
    }

    /// Moves the slot to the group its numbers belong to.
    fn file(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if entry.group != NONE {
            self.grid.remove(slot, entry.group);
        }
        entry.group = entry.key().map_or(NONE, |key| self.grid.insert(slot, key));
    }

    /// Moves every slot to the grid of its kind, after kinds have changed.
    fn file_anew(&mut self) {
        self.grid = Grid::default();
        for slot in 0..self.slots.len() as u32 {
            let entry = &mut self.slots[slot as usize];
            entry.shape = self.grid.shape(self.selections.kind(slot), entry.totals);
            entry.group = NONE;
            self.file(slot);
        }
    }

    fn enter_tenants(&mut self, slot: u32, view: &HostView) {
        for (tenant, count) in view.tenants.iter().filter(|(_, count)| **count > 0) {
            self.tenants.add(tenant, slot, *count);
        }
        for (tenant, group) in &view.groups {
            let number = self.tenants.add(tenant, slot, 0);
            self.tenants.enter_group(number, group, slot);
        }
    }

    fn leave_tenants(&mut self, slot: u32, view: &HostView) {
        for (tenant, group) in &view.groups {
            if let Some(number) = self.tenants.number(tenant) {
                self.tenants.leave_group(number, group, slot);
                self.tenants.subtract(number, slot, 0);
            }
        }
        for (tenant, count) in view.tenants.iter().filter(|(_, count)| **count > 0) {
            if let Some(number) = self.tenants.number(tenant) {
                self.tenants.subtract(number, slot, *count);
            }
        }
    }
}

fn triple(resources: Resources) -> Triple {
    [resources.cpu.0, resources.memory.0, resources.disk.0]
}
