//! Numbers for names, so that the index looks a name up once per request and by number from then on.

use plimsoll_types::{ImageRef, TenantId};
use std::collections::BTreeMap;

/// A name that can be looked up.
pub(super) trait Name: Clone + Ord {
    /// Its text.
    fn text(&self) -> &str;
}

impl Name for TenantId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl Name for ImageRef {
    fn text(&self) -> &str {
        self.as_str()
    }
}

/// Names kept at hand: most requests are of a few tenants and images. A power of two.
const AT_HAND: usize = 64;

/// Numbers by name. A tree alone costs a few comparisons of text, each a branch nobody can predict; nearly all look-ups end
/// at the first comparison of the names at hand instead.
#[derive(Clone, Debug)]
pub(super) struct Names<N> {
    numbers: BTreeMap<N, u32>,
    at_hand: Vec<Option<(N, u32)>>,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), at_hand: (0..AT_HAND).map(|_| None).collect() }
    }
}

impl<N: Name> Names<N> {
    /// The number, without learning from the question.
    pub(super) fn find(&self, name: &N) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The number.
    #[inline]
    pub(super) fn get(&mut self, name: &N) -> Option<u32> {
        let place = place(name.text());
        for place in [place, place ^ 1] {
            if let Some((known, number)) = &self.at_hand[place]
                && known.text() == name.text()
            {
                return Some(*number);
            }
        }
        let number = self.find(name)?;
        let place = if self.at_hand[place].is_none() { place } else { place ^ 1 };
        self.at_hand[place] = Some((name.clone(), number));
        Some(number)
    }

    pub(super) fn insert(&mut self, name: N, number: u32) {
        self.numbers.insert(name, number);
    }

    pub(super) fn remove(&mut self, name: &N) {
        self.numbers.remove(name);
        let place = place(name.text());
        for place in [place, place ^ 1] {
            if self.at_hand[place].as_ref().is_some_and(|(known, _)| known == name) {
                self.at_hand[place] = None;
            }
        }
    }
}

/// Where a text belongs among those at hand: by its length and its ends, where names differ.
fn place(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first), u32::from_le_bytes(*last)),
        (Some(_), None) | (None, _) => (bytes.iter().fold(0, |mixed, byte| mixed << 8 | u32::from(*byte)), 0),
    };
    let mixed = (u64::from(first) << 32 | u64::from(last)).wrapping_add(bytes.len() as u64);
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - AT_HAND.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::Names;
    use plimsoll_types::TenantId;

    #[test]
    fn many_names_find_their_numbers_until_they_are_removed() {
        let name = |number: u32| TenantId::new(&format!("t{number}")).unwrap();
        let mut names = Names::default();
        (0..500).for_each(|number| names.insert(name(number), number));
        for _ in 0..2 {
            (0..500).for_each(|number| assert_eq!(names.get(&name(number)), Some(number)));
        }
        (0..500).step_by(2).for_each(|number| names.remove(&name(number)));
        for number in 0..500 {
            assert_eq!(names.get(&name(number)), (number % 2 == 1).then_some(number));
        }
        names.insert(name(0), 7);
        assert_eq!((names.get(&name(0)), names.find(&name(0))), (Some(7), Some(7)));
    }
}
