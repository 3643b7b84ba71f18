//! A set of slots as a bitmap, with its size at hand.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.len += usize::from(!self.contains(slot));
        self.words[word] |= 1 << (slot % 64);
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if self.contains(slot) {
            self.words[slot as usize / 64] &= !(1 << (slot % 64));
            self.len -= 1;
        }
    }

    /// Becomes a copy of `other` without giving up its memory.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
        self.len = other.len;
    }

    /// Keeps what `other` has too.
    pub(crate) fn intersect(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        self.len = 0;
        for (word, others) in self.words.iter_mut().zip(&other.words) {
            *word &= others;
            self.len += word.count_ones() as usize;
        }
    }

    /// Smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0u32..).flat_map(|(word, position)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    position * 64 + bit
                })
            })
        })
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut bits = Self::default();
        slots.into_iter().for_each(|slot| bits.insert(slot));
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn a_set_counts_and_lists_its_members() {
        let mut left: Bits = [1, 63, 64, 500, 1].into_iter().collect();
        assert_eq!((left.len(), left.iter().collect::<Vec<_>>()), (4, vec![1, 63, 64, 500]));
        left.remove(63);
        left.remove(1000);
        let right = [1, 2, 64].into_iter().collect();
        left.intersect(&right);
        assert_eq!((left.len(), left.iter().collect::<Vec<_>>()), (2, vec![1, 64]));
    }
}
