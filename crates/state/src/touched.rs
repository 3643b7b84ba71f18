//! Which hosts the last commands changed, so that whoever follows them looks at those and not at all.
//!
//! It is a memory of this process, not a part of the state: two equal states may remember differently.

use plimsoll_types::HostId;
use std::collections::{BTreeSet, VecDeque};

/// Changes that are remembered: some hundred full batches of placements. Whoever is further behind looks at every host.
const KEPT: usize = 32_768;

/// The last changes, oldest first, with the raft index of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    last: VecDeque<(u64, HostId)>,
    /// Changes up to this index are not all remembered.
    forgotten: u64,
}

impl Touched {
    /// Remembers nothing up to this index.
    pub(crate) fn since(applied: u64) -> Self {
        Self { last: VecDeque::new(), forgotten: applied }
    }

    /// Notes that the command at this index changed a host.
    pub(crate) fn note(&mut self, applied: u64, host: HostId) {
        if self.last.len() >= KEPT
            && let Some((index, _)) = self.last.pop_front()
        {
            self.forgotten = index;
        }
        self.last.push_back((applied, host));
    }

    /// The hosts changed after this index; `None` if not all of them are remembered.
    pub(crate) fn after(&self, seen: u64) -> Option<BTreeSet<HostId>> {
        if seen < self.forgotten {
            return None;
        }
        let start = self.last.partition_point(|(index, _)| *index <= seen);
        Some(self.last.range(start..).map(|(_, host)| *host).collect())
    }
}

impl PartialEq for Touched {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Touched {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_remembered_is_not_claimed() {
        let mut touched = Touched::since(5);
        touched.note(6, HostId(1));
        touched.note(7, HostId(2));
        touched.note(7, HostId(1));
        assert_eq!(touched.after(4), None);
        assert_eq!(touched.after(5), Some(BTreeSet::from([HostId(1), HostId(2)])));
        assert_eq!(touched.after(7), Some(BTreeSet::new()));
        (0..KEPT as u64).for_each(|n| touched.note(8 + n, HostId(3)));
        assert_eq!(touched.after(6), None);
        assert_eq!(touched.after(7), Some(BTreeSet::from([HostId(3)])));
    }
}
