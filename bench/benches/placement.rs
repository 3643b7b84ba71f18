//! Placement decisions per second: the index against a naive scan over the same hosts with the same requests.
//!
//! The fleet is about 70 % full throughout. `batches` times decisions: choose a host and take the reservation, which updates
//! the index once. `turnover` and `turnover_naive` also give the oldest reservation back with every decision, which updates
//! the index a second time. `refused` times requests for which a full fleet has no room.

// A panic in a bench is the report.
#![allow(clippy::expect_used)]

use divan::{Bencher, black_box, counter::ItemsCount};
use plimsoll_bench::{Fleet, Load};
use plimsoll_placement::{Decision, HostView, Placer, Request, Ticket, naive};
use std::{cell::RefCell, collections::VecDeque};

/// Share of the open hosts' CPU that is reserved throughout, in percent.
const FULL_PERCENT: u64 = 70;
/// Decisions in a batch; as many as there are hosts where those are fewer.
const BATCH: usize = 256;
/// Hosts in the fleets.
const HOSTS: [u32; 4] = [10, 100, 1_000, 10_000];

fn main() {
    divan::main();
}

/// A placer or its naive equivalent.
trait Site {
    /// Decides and takes the reservation.
    fn place(&mut self, request: &Request) -> Option<Decision>;
    /// Gives a reservation back.
    fn give_back(&mut self, taken: Decision, request: &Request);
}

impl Site for Placer {
    fn place(&mut self, request: &Request) -> Option<Decision> {
        self.try_place(request)
    }

    fn give_back(&mut self, taken: Decision, _: &Request) {
        self.settle(taken.ticket);
    }
}

/// Hosts by id, scanned for every request.
struct Scan {
    hosts: Vec<HostView>,
    /// Any ticket: a scan has none of its own.
    ticket: Ticket,
}

impl Site for Scan {
    fn place(&mut self, request: &Request) -> Option<Decision> {
        let score = naive::place(&self.hosts, request)?;
        self.hosts[score.host.0 as usize].take(request);
        Some(Decision { host: score.host, score, ticket: self.ticket })
    }

    fn give_back(&mut self, taken: Decision, request: &Request) {
        self.hosts[taken.host.0 as usize].give_back(request);
    }
}

/// Reservations, the oldest first.
type Running<'a> = VecDeque<(Decision, &'a Request)>;

fn empty(fleet: Fleet) -> Placer {
    let mut placer = Placer::new();
    fleet.views().expect("names are valid").into_iter().for_each(|host| placer.upsert(host));
    placer
}

/// A fleet whose reservations take up [`FULL_PERCENT`].
fn filled(fleet: Fleet, requests: &[Request]) -> (Placer, Running<'_>) {
    let mut placer = empty(fleet);
    // Hosts that are filtered take nothing, whatever the way.
    let open = placer.hosts().filter(|host| host.id.0 % 3 >= fleet.filtered_of_three);
    let capacity: u64 = open.map(|host| host.line.cpu.0).sum();
    let mut running = VecDeque::new();
    let mut reserved = 0;
    for request in requests.iter().cycle() {
        reserved += request.resources.cpu.0;
        if reserved * 100 > capacity * FULL_PERCENT {
            break;
        }
        running.extend(placer.try_place(request).map(|taken| (taken, request)));
    }
    (placer, running)
}

/// The same fleet for the scan. The index fills it: it decides the same, and a scan would take minutes.
fn filled_scan(fleet: Fleet, requests: &[Request]) -> (Scan, Running<'_>) {
    let (_, running) = filled(fleet, requests);
    let mut hosts = fleet.views().expect("names are valid");
    running.iter().for_each(|(taken, request)| hosts[taken.host.0 as usize].take(request));
    let ticket = running.front().expect("something runs").0.ticket;
    (Scan { hosts, ticket }, running)
}

/// Times decisions that each give the oldest reservation back: two updates of the index.
fn turnover<'a>(
    bencher: Bencher<'_, '_>,
    (mut site, mut running): (impl Site, Running<'a>),
    requests: &'a [Request],
    decisions: usize,
) {
    let mut asked = requests.iter().cycle();
    bencher.counter(ItemsCount::new(decisions)).bench_local(|| {
        for _ in 0..decisions {
            let request = asked.next().expect("cycles");
            if let Some(taken) = black_box(site.place(request)) {
                running.push_back((taken, request));
                if let Some((taken, request)) = running.pop_front() {
                    site.give_back(taken, request);
                }
            }
        }
    });
}

/// Times batches of decisions, each with its one update of the index. What a batch took is given back between two of them,
/// unmeasured, as the log does it with real batches: later.
fn batches(bencher: Bencher<'_, '_>, fleet: Fleet) {
    let requests = fleet.requests().expect("names are valid");
    let (placer, running) = filled(fleet, &requests);
    let level = running.len();
    let batch = BATCH.min(fleet.hosts as usize);
    let state = RefCell::new((placer, running));
    let mut asked = requests.iter().cycle();
    let make_room = || {
        let (placer, running) = &mut *state.borrow_mut();
        while running.len() > level {
            running.pop_front().into_iter().for_each(|(taken, request)| placer.give_back(taken, request));
        }
    };
    bencher.counter(ItemsCount::new(batch)).with_inputs(make_room).bench_local_values(|()| {
        let (placer, running) = &mut *state.borrow_mut();
        for request in asked.by_ref().take(batch) {
            running.extend(placer.try_place(request).map(|taken| (taken, request)));
        }
    });
}

/// Times requests that no host can take: the fleet was filled until the smallest one found no room.
fn refuse(bencher: Bencher<'_, '_>, fleet: Fleet, decisions: usize) {
    let requests = fleet.requests().expect("names are valid");
    let mut placer = empty(fleet);
    let smallest = requests.iter().find(|request| request.resources.cpu.0 == 250).expect("some");
    requests.iter().cycle().take(20 * fleet.hosts as usize).for_each(|request| {
        black_box(placer.try_place(request));
    });
    // The smallest has the least of everything, so when it finds no room, none does.
    while placer.try_place(smallest).is_some() {}
    bencher.counter(ItemsCount::new(decisions)).bench_local(|| {
        for request in requests.iter().cycle().take(decisions) {
            assert!(placer.try_place(black_box(request)).is_none(), "the fleet is full");
        }
    });
}

/// Unmeasured fleets: many hosts are alike.
mod reserved {
    use super::*;

    #[divan::bench(args = HOSTS, consts = [0, 1, 2])]
    fn turnover<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        let fleet = Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Reserved };
        let requests = fleet.requests().expect("names are valid");
        super::turnover(bencher, filled(fleet, &requests), &requests, 10_000);
    }

    #[divan::bench(args = HOSTS, consts = [0, 1, 2])]
    fn turnover_naive<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        let fleet = Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Reserved };
        let requests = fleet.requests().expect("names are valid");
        super::turnover(bencher, filled_scan(fleet, &requests), &requests, 10);
    }

    // One batch per sample, or room would be made only once for several.
    #[divan::bench(args = HOSTS, consts = [0, 1, 2], sample_size = 1, sample_count = 2_000)]
    fn batches<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        super::batches(bencher, Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Reserved });
    }

    #[divan::bench(args = HOSTS)]
    fn refused(bencher: Bencher<'_, '_>, hosts: u32) {
        refuse(bencher, Fleet { hosts, filtered_of_three: 0, load: Load::Reserved }, 1_000);
    }
}

/// Measured fleets: no two hosts are alike.
mod measured {
    use super::*;

    #[divan::bench(args = HOSTS, consts = [0, 1, 2])]
    fn turnover<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        let fleet = Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Measured };
        let requests = fleet.requests().expect("names are valid");
        super::turnover(bencher, filled(fleet, &requests), &requests, 10_000);
    }

    #[divan::bench(args = HOSTS, consts = [0, 1, 2])]
    fn turnover_naive<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        let fleet = Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Measured };
        let requests = fleet.requests().expect("names are valid");
        super::turnover(bencher, filled_scan(fleet, &requests), &requests, 10);
    }

    // One batch per sample, or room would be made only once for several.
    #[divan::bench(args = HOSTS, consts = [0, 1, 2], sample_size = 1, sample_count = 2_000)]
    fn batches<const FILTERED_OF_THREE: u32>(bencher: Bencher<'_, '_>, hosts: u32) {
        super::batches(bencher, Fleet { hosts, filtered_of_three: FILTERED_OF_THREE, load: Load::Measured });
    }

    #[divan::bench(args = HOSTS)]
    fn refused(bencher: Bencher<'_, '_>, hosts: u32) {
        refuse(bencher, Fleet { hosts, filtered_of_three: 0, load: Load::Measured }, 1_000);
    }
}
