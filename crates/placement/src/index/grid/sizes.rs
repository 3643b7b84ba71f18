//! Sizes that were asked for: most requests are of a few sizes, so what follows from a size alone is kept.

use super::{Class, Kind, Triple};
use crate::score::share_ppm;

/// Sizes remembered, one for each bit of a word; a size that falls on another's place replaces it.
const REMEMBERED: usize = u64::BITS as usize;

/// A size with its share of each class.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    asked: Triple,
    /// By class, of the class's largest totals; empty if this place is not used yet.
    pub(super) shares: Vec<[u32; 3]>,
    /// What was needed when it was last refused; meaningful while its bit in [`Sizes::refused`] is set.
    refused_needs: Kind,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    /// By place; empty until the first is asked for.
    remembered: Vec<Size>,
    /// One bit by place: sizes that no group of the kind needed has room for. Only filing a host that has the room changes
    /// that, so a full fleet refuses at once, however often it is asked.
    refused: u64,
}

impl Sizes {
    /// Forgets all, because classes have changed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Forgets which sizes were refused that fit this room.
    #[inline]
    pub(super) fn reconsider(&mut self, room: Triple) {
        if self.refused != 0 {
            for (place, size) in self.remembered.iter().enumerate() {
                if (0..3).all(|d| size.asked[d] <= room[d]) {
                    self.refused &= !(1 << place);
                }
            }
        }
    }

    pub(super) fn is_refused(&self, place: usize, needs: Kind) -> bool {
        self.refused >> place & 1 == 1 && self.remembered[place].refused_needs == needs
    }

    pub(super) fn refuse(&mut self, place: usize, needs: Kind) {
        self.refused |= 1 << place;
        self.remembered[place].refused_needs = needs;
    }

    pub(super) fn at(&self, place: usize) -> &Size {
        &self.remembered[place]
    }

    /// The place of this size, whose shares are found if they are not remembered.
    #[inline]
    pub(super) fn place(&mut self, asked: Triple, classes: &[Class]) -> usize {
        if self.remembered.is_empty() {
            self.remembered.resize(REMEMBERED, Size::default());
        }
        // Any mixing will do: it only decides which sizes displace each other.
        let mixed = asked.iter().fold(0u64, |mixed, part| (mixed ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let start = (mixed >> (u64::BITS - REMEMBERED.ilog2())) as usize;
        // A size has four places it may be in, so that a few that mix alike do not keep displacing each other.
        let is_its = |place: &usize| {
            let size = &self.remembered[*place];
            size.asked == asked || size.shares.is_empty()
        };
        let place = [start, start ^ 1, start ^ 2, start ^ 3].into_iter().find(is_its).unwrap_or(start);
        let size = &mut self.remembered[place];
        if size.asked != asked || size.shares.is_empty() {
            size.asked = asked;
            size.shares.clear();
            size.shares.extend(classes.iter().map(|class| shares(asked, class.largest)));
            self.refused &= !(1 << place);
        }
        place
    }
}

/// Shares of these totals, in ppm.
#[inline]
pub(super) fn shares(asked: Triple, totals: Triple) -> [u32; 3] {
    [share_ppm(asked[0], totals[0]), share_ppm(asked[1], totals[1]), share_ppm(asked[2], totals[2])]
}
