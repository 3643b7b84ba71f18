//! Tickets: reservations of decisions whose log entry is under way. A slab, so that taking and settling cost no search.

use plimsoll_types::{HostId, Resources};

/// A decision's in-flight reservation. It counts until it is settled, confirmed, or its host is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a ticket that is dropped without settling holds its reservation for ever"]
pub struct Ticket {
    index: u32,
    serial: u64,
}

impl Ticket {
    /// Where it lies in the slab.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }
}

/// What a ticket holds, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The host.
    pub(crate) host: HostId,
    /// What is reserved.
    pub(crate) resources: Resources,
    /// The tenant, by its number in the index.
    pub(crate) tenant: u32,
    /// The anti-affinity group, if it has one.
    pub(crate) group: Option<Box<str>>,
    /// The host's slot; meaningful while the index is in order.
    pub(crate) slot: u32,
}

/// Every ticket outstanding. As many as the engine's batches in flight hold, which it bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    entries: Vec<(u64, Option<Held>)>,
    free: Vec<u32>,
    issued: u64,
}

impl Tickets {
    pub(crate) fn issue(&mut self, held: Held) -> Ticket {
        self.issued += 1;
        let serial = self.issued;
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = (serial, Some(held));
                index
            }
            None => {
                self.entries.push((serial, Some(held)));
                (self.entries.len() - 1) as u32
            }
        };
        Ticket { index, serial }
    }

    /// Ends a ticket. `None` if it ended before: a serial is issued once, so a reused place is not mistaken for it.
    pub(crate) fn end(&mut self, ticket: Ticket) -> Option<Held> {
        let (serial, held) = self.entries.get_mut(ticket.index as usize)?;
        if *serial != ticket.serial {
            return None;
        }
        let held = held.take()?;
        self.free.push(ticket.index);
        Some(held)
    }

    /// Ends the ticket at this place of the slab, whichever it is.
    pub(crate) fn end_at(&mut self, index: u32) {
        if self.entries.get_mut(index as usize).is_some_and(|(_, held)| held.take().is_some()) {
            self.free.push(index);
        }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Held> {
        self.entries.get(index as usize)?.1.as_ref()
    }

    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (u32, &Held)> {
        let numbered = self.entries.iter().zip(0u32..);
        numbered.filter_map(|((_, held), index)| held.as_ref().map(|held| (index, held)))
    }

    pub(crate) fn outstanding_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.entries.iter_mut().filter_map(|(_, held)| held.as_mut())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
