//! The search: which groups have room for a request at the lowest dominant share. Why it is exact stands at the grid.

use super::{Cell, Class, Grid, Group, Kind, NONE, SIDE, Triple, edge, sizes::shares};

/// What is searched for.
#[derive(Clone, Copy)]
struct Sought {
    asked: Triple,
    /// What the kinds of hosts must have.
    needs: Kind,
    /// Where the size is remembered.
    place: usize,
}

/// The request as one class's hosts are asked.
#[derive(Clone, Copy)]
struct Ask {
    asked: Triple,
    /// At most the request's share of any host's totals there.
    share: [u32; 3],
    /// Whether it is just that share.
    exact: bool,
}

impl Grid {
    /// Finds every group with room for `asked` at the lowest dominant share, among hosts whose kind has all that is
    /// needed, into `ties`; answers with that share. `open` says whether a group has a host that may be used at all, and
    /// is left out if all have.
    pub(in crate::index) fn lowest(
        &mut self,
        asked: Triple,
        needs: Kind,
        open: Option<impl Fn(&Group) -> bool>,
    ) -> u32 {
        let place = self.sizes.place(asked, &self.classes);
        if self.sizes.is_refused(place, needs) {
            self.ties.clear();
            return u32::MAX;
        }
        let sought = Sought { asked, needs, place };
        let Some(open) = open else {
            let best = self.walk(sought, |_| true);
            if self.ties.is_empty() {
                self.sizes.refuse(place, needs);
            }
            return best;
        };
        self.walk(sought, open)
    }

    /// As [`Grid::lowest`], by asking only these groups.
    pub(in crate::index) fn lowest_among(&mut self, groups: impl Iterator<Item = u32>, asked: Triple) -> u32 {
        let mut ties = std::mem::take(&mut self.ties);
        ties.clear();
        let mut best = u32::MAX;
        let ask = Ask { asked, share: [0; 3], exact: false };
        for number in groups {
            if let Some(load) = self.judge(self.group(number), ask, best) {
                if load < best {
                    best = load;
                    ties.clear();
                }
                if !ties.contains(&number) {
                    ties.push(number);
                }
            }
        }
        self.ties = ties;
        best
    }

    /// Classes of a kind that has what is needed, with what they are asked.
    fn eligible(&self, sought: Sought) -> impl Iterator<Item = (&Class, Ask)> {
        let classes = self.classes.iter().zip(&self.sizes.at(sought.place).shares);
        classes
            .filter(move |(class, _)| class.kind & sought.needs == sought.needs)
            .map(move |(class, share)| (class, Ask { asked: sought.asked, share: *share, exact: class.uniform }))
    }

    fn walk(&mut self, sought: Sought, open: impl Fn(&Group) -> bool) -> u32 {
        let mut ties = std::mem::take(&mut self.ties);
        ties.clear();
        let mut best = self.lowest_of_nearest(sought, &open);
        for (class, ask) in self.eligible(sought) {
            let share = ask.share;
            if share.iter().any(|share| *share > best) {
                continue;
            }
            for row in levels(class.rows) {
                if edge(row).saturating_add(share[0]) > best {
                    break;
                }
                for column in levels(class.columns[row]) {
                    if edge(column).saturating_add(share[1]) > best {
                        break;
                    }
                    let cell = class.cells[row * SIDE + column];
                    self.walk_cell(cell, ask, &mut best, &open, |number, better| {
                        if better {
                            ties.clear();
                        }
                        ties.push(number);
                    });
                }
            }
        }
        self.ties = ties;
        best
    }

    /// The lowest share in the one cell whose bound is lowest: it hardly misses the answer, and so spares the walk nearly
    /// all cells and groups that it would otherwise judge on its way down.
    #[inline]
    fn lowest_of_nearest(&self, sought: Sought, open: impl Fn(&Group) -> bool) -> u32 {
        let mut nearest = u32::MAX;
        let mut found = None;
        for (class, ask) in self.eligible(sought) {
            let share = ask.share;
            for row in levels(class.rows) {
                let bound = edge(row).saturating_add(share[0]);
                if bound >= nearest {
                    break;
                }
                let column = class.columns[row].trailing_zeros() as usize;
                let cell = class.cells[row * SIDE + column];
                let bound = bound.max(edge(column).saturating_add(share[1])).max(cell.disk.saturating_add(share[2]));
                if bound < nearest {
                    nearest = bound;
                    found = Some((cell, ask));
                }
            }
        }
        let mut best = u32::MAX;
        if let Some((cell, ask)) = found {
            self.walk_cell(cell, ask, &mut best, open, |_, _| {});
        }
        best
    }

    /// Judges a cell's groups until their disk alone is too full; tells of each that is better than or as good as `best`.
    #[inline]
    fn walk_cell(
        &self,
        cell: Cell,
        ask: Ask,
        best: &mut u32,
        open: impl Fn(&Group) -> bool,
        mut tell: impl FnMut(u32, bool),
    ) {
        let (mut at, mut disk) = (cell.first, cell.disk);
        while disk.saturating_add(ask.share[2]) <= *best {
            let group = self.group(at);
            if let Some(load) = self.judge(group, ask, *best)
                && open(group)
            {
                tell(at, load < *best);
                *best = load;
            }
            at = group.next;
            if at == NONE {
                return;
            }
            disk = self.group(at).key.used[2];
        }
    }

    /// The group's dominant share with the request on it, if there is room and it does not exceed `best`.
    #[inline]
    fn judge(&self, group: &Group, ask: Ask, best: u32) -> Option<u32> {
        let (key, asked) = (&group.key, ask.asked);
        let load = after(key.used, ask.share);
        if load > best || asked[0] > key.room[0] || asked[1] > key.room[1] || asked[2] > key.room[2] {
            return None;
        }
        if ask.exact {
            return Some(load);
        }
        let load = after(key.used, shares(asked, self.shapes[key.shape as usize].totals));
        (load <= best).then_some(load)
    }
}

/// The dominant share with the shares asked for on top.
#[inline]
fn after(used: [u32; 3], asked: [u32; 3]) -> u32 {
    used[0].saturating_add(asked[0]).max(used[1].saturating_add(asked[1])).max(used[2].saturating_add(asked[2]))
}

/// The levels whose bits are set, lowest first.
#[inline]
fn levels(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let level = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            level
        })
    })
}
