//! What requests select hosts by: runtimes, constraints and anti-affinity. Made anew when labels or runtimes change, so
//! nothing here goes stale.
//!
//! Each condition that was ever asked for has a bitmap of the hosts that meet it. Those that split the fleet in large parts
//! also get a bit in every host's *kind*, and the grid keeps hosts of different kinds apart: otherwise a search would wade
//! through all the hosts that it may not use, which stay empty and so always look best.

use super::bits::Bits;
use crate::{host::HostView, request::Request};
use plimsoll_types::{Constraint, Labels, Runtime};
use std::collections::{BTreeMap, BTreeSet};

/// Conditions remembered at once: at 10,000 hosts they take 300 KiB. A platform uses a handful; past this many, those that
/// are no part of kinds are forgotten and found again as they are asked for.
const CONDITIONS_MAX: usize = 256;
/// Kinds of hosts kept apart. Each has its own grids (16 KiB per machine class), which every search passes by: with many
/// more, passing by would cost more than wading.
const KINDS_MAX: usize = 32;
/// A selection of at most so many hosts is asked host by host; it needs no kind of its own.
pub(super) const FEW: usize = 32;

/// The conditions a host meets among those that have a bit.
pub(super) type Kind = u32;

/// A condition's hosts.
#[derive(Clone, Debug)]
struct Known {
    hosts: Bits,
    /// Its bit in kinds, zero if it has none.
    bit: Kind,
}

/// Which hosts a request may use: those of a kind that has all of `needs`, and in the bitmap if there is one.
pub(super) struct Selection<'a> {
    pub(super) needs: Kind,
    pub(super) hosts: Option<&'a Bits>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Selections {
    /// By slot.
    labels: Vec<Labels>,
    /// By slot.
    kinds: Vec<Kind>,
    bits_given: u32,
    runtimes: BTreeMap<Runtime, Known>,
    constraints: BTreeMap<Constraint, Known>,
    /// The last selection; kept for its memory.
    selected: Bits,
}

impl Selections {
    /// Of these hosts, in the order of their slots.
    pub(super) fn new<'a>(hosts: impl Iterator<Item = &'a HostView> + Clone) -> Self {
        let labels: Vec<Labels> = hosts.clone().map(|host| host.labels.clone()).collect();
        let mut selections = Self { kinds: vec![0; labels.len()], labels, ..Self::default() };
        for runtime in [Runtime::Runc, Runtime::Runsc] {
            let offering = hosts.clone().zip(0..).filter(|(host, _)| host.runtimes.contains(&runtime));
            let known = selections.know(offering.map(|(_, slot)| slot).collect());
            selections.runtimes.insert(runtime, known);
        }
        selections
    }

    /// The slot's kind.
    pub(super) fn kind(&self, slot: u32) -> Kind {
        self.kinds[slot as usize]
    }

    /// Gets to know the request's constraints; true if that has changed kinds.
    pub(super) fn learn(&mut self, request: &Request) -> bool {
        let unknown =
            request.constraints.iter().filter(|constraint| !self.constraints.contains_key(*constraint)).count();
        if unknown == 0 {
            return false;
        }
        // All room is made before the first is added: one that the request has, too, must not go again.
        if self.constraints.len() + unknown > CONDITIONS_MAX {
            self.constraints.retain(|_, known| known.bit != 0);
        }
        let bits_given = self.bits_given;
        for constraint in &request.constraints {
            if !self.constraints.contains_key(constraint) {
                let matching = self.labels.iter().zip(0..).filter(|(labels, _)| constraint.matches(labels));
                let known = self.know(matching.map(|(_, slot)| slot).collect());
                self.constraints.insert(constraint.clone(), known);
            }
        }
        bits_given != self.bits_given
    }

    /// The hosts that the request may use, `taken` by its anti-affinity group left out. The request must have been learnt.
    pub(super) fn select(&mut self, request: &Request, taken: Option<&BTreeMap<u32, u32>>) -> Selection<'_> {
        let all = self.labels.len();
        let constraints = request.constraints.iter().filter_map(|constraint| self.constraints.get(constraint));
        let conditions = self.runtimes.get(&request.runtime).into_iter().chain(constraints);
        let mut needs = 0;
        let mut bitmap = taken.is_some();
        for known in conditions.clone() {
            needs |= known.bit;
            bitmap |= known.bit == 0 && known.hosts.len() < all;
        }
        if !bitmap {
            return Selection { needs, hosts: None };
        }
        for (position, known) in conditions.enumerate() {
            if position == 0 { self.selected.copy_from(&known.hosts) } else { self.selected.intersect(&known.hosts) }
        }
        for slot in taken.into_iter().flat_map(BTreeMap::keys) {
            self.selected.remove(*slot);
        }
        Selection { needs, hosts: Some(&self.selected) }
    }

    /// Gives a condition a bit if it leaves out some hosts, leaves more than a few, and does not make too many kinds.
    fn know(&mut self, hosts: Bits) -> Known {
        let mut known = Known { hosts, bit: 0 };
        let splits = known.hosts.len() > FEW && known.hosts.len() < self.labels.len();
        if splits && self.bits_given < Kind::BITS {
            let bit = 1 << self.bits_given;
            let with = |(kind, slot): (&Kind, u32)| if known.hosts.contains(slot) { kind | bit } else { *kind };
            let kinds: Vec<Kind> = self.kinds.iter().zip(0..).map(with).collect();
            if kinds.iter().collect::<BTreeSet<_>>().len() <= KINDS_MAX {
                self.kinds = kinds;
                self.bits_given += 1;
                known.bit = bit;
            }
        }
        known
    }
}
