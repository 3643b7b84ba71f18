//! One host's numbers, close together: what the grid's key is made from.

use super::grid::{Key, NONE, Triple};
use crate::{filters, host::HostView, score::share_ppm};
use plimsoll_types::HostId;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) host: HostId,
    pub(super) price_milli_per_hour: u64,
    pub(super) totals: Triple,
    /// The load line.
    line: Triple,
    reserved: Triple,
    /// The sum of its tickets. It cannot overflow: each was taken when this sum and its own stayed under a line.
    in_flight: Triple,
    /// Measured load; zero where unmeasured, and memory in use then counts as reserved.
    measured: Triple,
    usable_memory: u64,
    is_measured: bool,
    /// Whether any request may use it.
    open: bool,
    /// Number of its totals in the grid.
    pub(super) shape: u32,
    /// The group it is filed in, or [`NONE`].
    pub(super) group: u32,
}

impl Default for Slot {
    fn default() -> Self {
        let zero = [0; 3];
        Self {
            host: HostId(0),
            price_milli_per_hour: 0,
            totals: zero,
            line: zero,
            reserved: zero,
            in_flight: zero,
            measured: zero,
            usable_memory: 0,
            is_measured: false,
            open: false,
            shape: 0,
            group: NONE,
        }
    }
}

impl Slot {
    /// Takes over everything but what is in flight.
    pub(super) fn read(&mut self, view: &HostView, shape: u32) {
        self.host = view.id;
        self.price_milli_per_hour = view.price_milli_per_hour;
        self.totals = super::triple(view.totals);
        self.line = super::triple(view.line);
        self.reserved = super::triple(view.reserved);
        let measured = view.measured.unwrap_or_default();
        self.measured = [measured.cpu.0, measured.memory.0, measured.disk.0];
        self.usable_memory = view.usable_memory.0;
        self.is_measured = view.measured.is_some();
        self.open = filters::open_to_any(view);
        self.shape = shape;
    }

    /// Adds to what is in flight.
    pub(super) fn take(&mut self, asked: Triple) {
        for (in_flight, asked) in self.in_flight.iter_mut().zip(asked) {
            *in_flight += asked;
        }
    }

    /// Takes from what is in flight.
    pub(super) fn give_back(&mut self, asked: Triple) {
        for (in_flight, asked) in self.in_flight.iter_mut().zip(asked) {
            *in_flight -= asked;
        }
    }

    /// Where it belongs in the grid; `None` if no request whatever fits, not even an empty one.
    #[inline]
    pub(super) fn key(&self) -> Option<Key> {
        if !self.open {
            return None;
        }
        let mut used = [0; 3];
        let mut room = [0; 3];
        for d in 0..3 {
            let reserved = self.reserved[d].saturating_add(self.in_flight[d]);
            room[d] = self.line[d].checked_sub(reserved)?;
            used[d] = share_ppm(reserved.max(self.measured[d]), self.totals[d]);
            if d == 1 {
                let in_use = if self.is_measured { self.measured[d] } else { reserved };
                room[d] = room[d].min(self.usable_memory.checked_sub(in_use)?);
            }
        }
        Some(Key { shape: self.shape, used, room })
    }
}
