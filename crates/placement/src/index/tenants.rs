//! Whose sandboxes are where: counts and anti-affinity groups by tenant and slot, reserved and in flight together.

use super::names::Names;
use plimsoll_types::TenantId;
use std::collections::BTreeMap;

/// One tenant's sandboxes.
#[derive(Clone, Debug)]
struct Tenant {
    name: TenantId,
    counts: Counts,
    /// All counts together; at zero the tenant is forgotten.
    total: u64,
    /// Slots by group, with how many there are (reserved and in flight may overlap for a moment).
    groups: BTreeMap<Box<str>, BTreeMap<u32, u32>>,
}

/// Counts by slot. A tenant with few sandboxes pays for those alone; one that is nearly everywhere is looked up directly.
#[derive(Clone, Debug)]
pub(crate) enum Counts {
    /// Sorted by slot, without zeros.
    Sparse(Vec<(u32, u32)>),
    /// By slot.
    Dense(Vec<u32>),
}

/// A sparse list longer than this share of all slots turns dense (and takes about as much memory then).
const DENSE_FROM_ONE_IN: usize = 16;

impl Counts {
    /// Sandboxes at the slot.
    pub(crate) fn at(&self, slot: u32) -> u32 {
        match self {
            Self::Sparse(list) => list.binary_search_by_key(&slot, |(at, _)| *at).map_or(0, |found| list[found].1),
            Self::Dense(table) => table.get(slot as usize).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, slot: u32, count: u32, slots: usize) {
        match self {
            Self::Sparse(list) => match list.binary_search_by_key(&slot, |(at, _)| *at) {
                Ok(found) => list[found].1 = list[found].1.saturating_add(count),
                Err(gap) => {
                    list.insert(gap, (slot, count));
                    if list.len() > slots / DENSE_FROM_ONE_IN {
                        let mut table = vec![0; slots];
                        list.iter().for_each(|(slot, count)| table[*slot as usize] = *count);
                        *self = Self::Dense(table);
                    }
                }
            },
            Self::Dense(table) => table[slot as usize] = table[slot as usize].saturating_add(count),
        }
    }

    fn subtract(&mut self, slot: u32, count: u32) {
        if count == 0 {
            return;
        }
        match self {
            Self::Sparse(list) => {
                if let Ok(found) = list.binary_search_by_key(&slot, |(at, _)| *at) {
                    list[found].1 = list[found].1.saturating_sub(count);
                    if list[found].1 == 0 {
                        list.remove(found);
                    }
                }
            }
            Self::Dense(table) => table[slot as usize] = table[slot as usize].saturating_sub(count),
        }
    }
}

/// Every tenant that has a sandbox. Tenants are numbered so that tickets need not hold names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tenants {
    numbers: Names<TenantId>,
    entries: Vec<Option<Tenant>>,
    free: Vec<u32>,
    slots: usize,
}

impl Tenants {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, ..Self::default() }
    }

    /// The tenant's number, if it has a sandbox anywhere.
    pub(crate) fn number(&mut self, tenant: &TenantId) -> Option<u32> {
        self.numbers.get(tenant)
    }

    /// As [`Tenants::number`], for those who only look.
    pub(crate) fn find(&self, tenant: &TenantId) -> Option<u32> {
        self.numbers.find(tenant)
    }

    pub(crate) fn name(&self, number: u32) -> Option<&TenantId> {
        self.entries.get(number as usize)?.as_ref().map(|tenant| &tenant.name)
    }

    pub(crate) fn counts(&self, number: u32) -> Option<&Counts> {
        self.entries.get(number as usize)?.as_ref().map(|tenant| &tenant.counts)
    }

    /// Slots where the group has a sandbox.
    pub(crate) fn group(&self, number: u32, group: &str) -> Option<&BTreeMap<u32, u32>> {
        self.entries.get(number as usize)?.as_ref()?.groups.get(group)
    }

    /// Counts so many more sandboxes of the tenant at the slot; answers with the tenant's number.
    pub(crate) fn add(&mut self, tenant: &TenantId, slot: u32, count: u32) -> u32 {
        let number = match self.number(tenant) {
            Some(number) => number,
            None => self.enter(tenant),
        };
        self.add_numbered(number, slot, count);
        number
    }

    pub(crate) fn add_numbered(&mut self, number: u32, slot: u32, count: u32) {
        if count == 0 {
            return;
        }
        if let Some(tenant) = self.entries[number as usize].as_mut() {
            tenant.total += u64::from(count);
            tenant.counts.add(slot, count, self.slots);
        }
    }

    /// The reverse of adding; a tenant without sandboxes is forgotten and its number used again.
    pub(crate) fn subtract(&mut self, number: u32, slot: u32, count: u32) {
        let Some(entry) = self.entries.get_mut(number as usize) else { return };
        let Some(tenant) = entry.as_mut() else { return };
        tenant.total = tenant.total.saturating_sub(u64::from(count));
        tenant.counts.subtract(slot, count);
        if tenant.total == 0 && tenant.groups.is_empty() {
            self.numbers.remove(&tenant.name);
            *entry = None;
            self.free.push(number);
        }
    }

    pub(crate) fn enter_group(&mut self, number: u32, group: &str, slot: u32) {
        if let Some(tenant) = self.entries[number as usize].as_mut() {
            if !tenant.groups.contains_key(group) {
                tenant.groups.insert(group.into(), BTreeMap::new());
            }
            if let Some(slots) = tenant.groups.get_mut(group) {
                *slots.entry(slot).or_default() += 1;
            }
        }
    }

    /// Before [`Tenants::subtract`], which may forget the tenant.
    pub(crate) fn leave_group(&mut self, number: u32, group: &str, slot: u32) {
        let Some(tenant) = self.entries.get_mut(number as usize).and_then(Option::as_mut) else { return };
        let Some(slots) = tenant.groups.get_mut(group) else { return };
        if let Some(count) = slots.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                slots.remove(&slot);
            }
        }
        if slots.is_empty() {
            tenant.groups.remove(group);
        }
    }

    fn enter(&mut self, name: &TenantId) -> u32 {
        let tenant =
            Tenant { name: name.clone(), counts: Counts::Sparse(Vec::new()), total: 0, groups: BTreeMap::new() };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = Some(tenant);
                number
            }
            None => {
                self.entries.push(Some(tenant));
                (self.entries.len() - 1) as u32
            }
        };
        self.numbers.insert(name.clone(), number);
        number
    }
}
