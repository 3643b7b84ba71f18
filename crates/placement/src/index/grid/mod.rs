//! The grid: hosts in groups of equal load, groups in cells by their share of CPU and of memory, one grid per machine
//! class. It answers one question exactly: which groups have room for this request at the lowest dominant share?
//!
//! Why the answer is exact. A host's score for a request is the largest, over CPU, memory and disk, of the share in use
//! plus the share asked for (both rounded down by themselves, see [`crate::score`]). All hosts of a group have equal
//! shares in use, equal totals and equal room, so they fit or not, and score, together. A cell's lower edges are at most
//! its groups' shares in use, and a class's shares asked are those of its largest totals, hence at most any member's.
//! So `edge + asked` never exceeds the score of anything in the cell, and a cell, a row or a class is skipped only when
//! that bound already exceeds the best score found. Everything not skipped is judged by its own numbers.

mod search;
mod sizes;

use super::selection::Kind;
use sizes::Sizes;
use std::collections::BTreeMap;

/// CPU, memory, disk.
pub(in crate::index) type Triple = [u64; 3];

/// No group.
pub(in crate::index) const NONE: u32 = u32::MAX;
/// Rows and columns of a class's grid: one bit each in a word.
const SIDE: usize = 64;
/// A level is 2^14 ppm, 1.6 % of the host, so 64 of them reach just past a full host; what is beyond is in the last one.
const LEVEL_BITS: u32 = 14;

/// What the grid files a host under. Equal keys are one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::index) struct Key {
    /// Number of the host's exact totals, from [`Grid::shape`].
    pub(in crate::index) shape: u32,
    /// Shares in use, in ppm.
    pub(in crate::index) used: [u32; 3],
    /// What a request may ask for at most.
    pub(in crate::index) room: Triple,
}

/// Hosts with equal keys.
#[derive(Clone, Debug)]
pub(in crate::index) struct Group {
    key: Key,
    /// The next group of the cell, by rising share of disk.
    next: u32,
    /// Slots in descending order: the best one (lowest price, then id) is the cheapest to take out.
    pub(in crate::index) slots: Vec<u32>,
}

/// Exact totals that some host has.
#[derive(Clone, Debug)]
struct Shape {
    totals: Triple,
    class: u32,
}

/// Shapes whose CPU and memory are within an eighth of each other: real machines of one type differ by some megabytes.
#[derive(Clone, Debug)]
struct Class {
    kind: Kind,
    /// The largest of each total.
    largest: Triple,
    /// Whether all its hosts have just these totals, so that bounds are exact.
    uniform: bool,
    /// Rows (levels of CPU share) that have a group.
    rows: u64,
    /// By row, columns (levels of memory share) that have a group.
    columns: Box<[u64; SIDE]>,
    /// By row and column.
    cells: Vec<Cell>,
}

/// Groups with the same levels of CPU and memory, linked by rising share of disk.
#[derive(Clone, Copy, Debug)]
struct Cell {
    first: u32,
    /// The first group's share of disk, here so that a search need not look at the group.
    disk: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in crate::index) struct Grid {
    shapes: Vec<Shape>,
    shape_numbers: BTreeMap<(Kind, Triple), u32>,
    classes: Vec<Class>,
    class_numbers: BTreeMap<(Kind, u32, u32), u32>,
    groups: Vec<Group>,
    free: Vec<u32>,
    sizes: Sizes,
    /// Groups that tie for the lowest; kept for its memory.
    pub(in crate::index) ties: Vec<u32>,
}

impl Grid {
    /// The number of a kind of host with these totals.
    pub(in crate::index) fn shape(&mut self, kind: Kind, totals: Triple) -> u32 {
        if let Some(number) = self.shape_numbers.get(&(kind, totals)) {
            return *number;
        }
        let class = (kind, magnitude(totals[0]), magnitude(totals[1]));
        let class = *self.class_numbers.entry(class).or_insert_with(|| {
            self.classes.push(Class::new(kind, totals));
            (self.classes.len() - 1) as u32
        });
        let members = &mut self.classes[class as usize];
        members.uniform &= members.largest == totals;
        for (largest, total) in members.largest.iter_mut().zip(totals) {
            *largest = total.max(*largest);
        }
        let number = self.shapes.len() as u32;
        self.shapes.push(Shape { totals, class });
        self.shape_numbers.insert((kind, totals), number);
        self.sizes.forget();
        number
    }

    /// How many different totals it has met; those of hosts that changed stay until the grid is made anew.
    pub(in crate::index) fn shapes(&self) -> usize {
        self.shapes.len()
    }

    /// The group.
    pub(in crate::index) fn group(&self, group: u32) -> &Group {
        &self.groups[group as usize]
    }

    /// Files a slot under its key; answers with the group.
    pub(in crate::index) fn insert(&mut self, slot: u32, key: Key) -> u32 {
        self.sizes.reconsider(key.room);
        let class = &mut self.classes[self.shapes[key.shape as usize].class as usize];
        let (row, column) = (level(key.used[0]), level(key.used[1]));
        let cell = &mut class.cells[row * SIDE + column];
        let (mut before, mut at) = (NONE, cell.first);
        while at != NONE {
            let group = &mut self.groups[at as usize];
            if group.key.used[2] > key.used[2] {
                break;
            }
            if group.key == key {
                let place = group.slots.partition_point(|other| *other > slot);
                group.slots.insert(place, slot);
                return at;
            }
            (before, at) = (at, group.next);
        }
        let number = match self.free.pop() {
            Some(number) => {
                let group = &mut self.groups[number as usize];
                (group.key, group.next) = (key, at);
                group.slots.push(slot);
                number
            }
            None => {
                self.groups.push(Group { key, next: at, slots: vec![slot] });
                (self.groups.len() - 1) as u32
            }
        };
        match before {
            NONE => *cell = Cell { first: number, disk: key.used[2] },
            before => self.groups[before as usize].next = number,
        }
        class.columns[row] |= 1 << column;
        class.rows |= 1 << row;
        number
    }

    /// Takes a slot out of the group it was filed in.
    pub(in crate::index) fn remove(&mut self, slot: u32, number: u32) {
        let group = &mut self.groups[number as usize];
        let place = group.slots.partition_point(|other| *other > slot);
        group.slots.remove(place);
        if !group.slots.is_empty() {
            return;
        }
        let (key, next) = (group.key, group.next);
        let class = &mut self.classes[self.shapes[key.shape as usize].class as usize];
        let (row, column) = (level(key.used[0]), level(key.used[1]));
        let cell = &mut class.cells[row * SIDE + column];
        if cell.first == number {
            cell.first = next;
            if next != NONE {
                cell.disk = self.groups[next as usize].key.used[2];
            } else {
                class.columns[row] &= !(1 << column);
                class.rows &= !(u64::from(class.columns[row] == 0) << row);
            }
        } else {
            let mut before = cell.first;
            while self.groups[before as usize].next != number {
                before = self.groups[before as usize].next;
            }
            self.groups[before as usize].next = next;
        }
        self.free.push(number);
    }
}

impl Class {
    fn new(kind: Kind, totals: Triple) -> Self {
        Self {
            kind,
            largest: totals,
            uniform: true,
            rows: 0,
            columns: Box::new([0; SIDE]),
            cells: vec![Cell { first: NONE, disk: 0 }; SIDE * SIDE],
        }
    }
}

/// Four bits of precision: numbers of one magnitude are within an eighth of each other.
fn magnitude(total: u64) -> u32 {
    let bits = u64::BITS - total.leading_zeros();
    let fraction = if bits > 4 { total >> (bits - 4) } else { total };
    bits * 16 + fraction as u32
}

/// The level of a share.
fn level(ppm: u32) -> usize {
    ((ppm >> LEVEL_BITS) as usize).min(SIDE - 1)
}

/// The lower edge of a level.
fn edge(level: usize) -> u32 {
    (level as u32) << LEVEL_BITS
}
