//! What users and operators are promised: how many sandboxes a machine takes, what ties are broken by, what is said when
//! nothing fits, and how reservations in flight are accounted for.

// A panic here is the report; clippy only knows that of test functions, not of their helpers.
#![allow(clippy::expect_used)]

use plimsoll_placement::{HostView, Placer, Rejection, Request};
use plimsoll_types::{
    Bytes, Health, HostId, LoadLine, MeasuredLoad, MilliCpu, Resources, Runtime, SandboxSpec, TenantId,
};

/// vCPU, MiB of memory, GiB of disk.
const CPX31: (u64, u64, u64) = (4, 7745, 160);
const CPX41: (u64, u64, u64) = (8, 15_615, 240);
const CPX51: (u64, u64, u64) = (16, 31_380, 360);

fn host(id: u32, (cpus, mib, gib): (u64, u64, u64)) -> HostView {
    let totals = Resources { cpu: MilliCpu(cpus * 1000), memory: Bytes::mib(mib), disk: Bytes::gib(gib) };
    HostView::new(HostId(id), format!("h{id}").parse().expect("a name"), totals, &LoadLine::default())
}

fn request() -> Request {
    Request::of(&SandboxSpec::new("debian:12".parse().expect("an image")), TenantId::default_tenant())
}

fn placer(hosts: impl IntoIterator<Item = HostView>) -> Placer {
    let mut placer = Placer::new();
    hosts.into_iter().for_each(|host| placer.upsert(host));
    placer
}

#[test]
fn default_sandboxes_per_machine() {
    for (machine, sandboxes) in [(CPX31, 2), (CPX41, 4), (CPX51, 8)] {
        let mut placer = placer([host(0, machine)]);
        let placed = std::iter::from_fn(|| placer.try_place(&request())).count();
        assert_eq!(placed, sandboxes, "{machine:?}");
    }
}

#[test]
fn the_least_loaded_host_wins_and_the_fleet_fills_evenly() {
    let mut placer = placer([host(0, CPX31), host(1, CPX41), host(2, CPX51)]);
    let order: Vec<u32> = std::iter::from_fn(|| placer.try_place(&request()).map(|decision| decision.host.0)).collect();
    assert_eq!(order, [2, 1, 2, 2, 0, 1, 2, 2, 1, 2, 2, 0, 1, 2], "14 sandboxes, each to the emptiest host for it");
}

#[test]
fn ties_go_by_image_then_tenant_then_price_then_id() {
    let request = request();
    let mut hosts: Vec<HostView> = (0..5).map(|id| host(id, CPX31)).collect();
    let place = |hosts: &[HostView]| placer(hosts.iter().cloned()).place(&request).expect("there is room").host.0;
    assert_eq!(place(&hosts), 0, "id");
    hosts[0].price_milli_per_hour = 1;
    assert_eq!(place(&hosts), 1, "price");
    hosts[1].tenants.insert(request.tenant.clone(), 1);
    (2..5).for_each(|at| hosts[at].price_milli_per_hour = 2);
    assert_eq!(place(&hosts), 0, "fewer of the tenant before price");
    hosts[0].tenants.insert(request.tenant.clone(), 2);
    assert_eq!(place(&hosts), 2, "fewer of the tenant before price");
    hosts[0].images.insert(request.image.clone());
    assert_eq!(place(&hosts), 0, "the image before all");
    hosts[0].reserved.memory = Bytes::mib(512);
    assert_eq!(place(&hosts), 0, "CPU dominates, so the scores are still equal");
    hosts[0].reserved = Resources { cpu: MilliCpu(1000), ..Resources::ZERO };
    assert_eq!(place(&hosts), 2, "load before the image");
}

#[test]
fn each_filter_says_why() {
    use Rejection as R;
    let constraint: plimsoll_types::Constraint = "zone=eu".parse().expect("a constraint");
    let load = |change: fn(&mut MeasuredLoad)| {
        let mut load = MeasuredLoad::default();
        change(&mut load);
        Some(load)
    };
    let check = |change: &dyn Fn(&mut HostView, &mut Request), expected: Rejection, one: &str, two: &str| {
        let (mut first, mut request) = (host(1, CPX41), request());
        change(&mut first, &mut request);
        let mut second = first.clone();
        second.id = HostId(2);
        let say = |hosts: Vec<HostView>| placer(hosts).place(&request).expect_err("nothing fits");
        let refusal = say(vec![first.clone()]);
        assert_eq!(refusal.tally, [(expected, 1)]);
        assert!(refusal.to_string().ends_with(&format!(": 1 {one}")), "{refusal}");
        let refusal = say(vec![first, second]);
        assert!(refusal.to_string().ends_with(&format!(": 2 {two}")), "{refusal}");
    };
    check(&|h, _| h.health = Health::Lost, R::Lost, "lost", "lost");
    check(&|h, _| h.health = Health::Unreachable, R::Unreachable, "unreachable", "unreachable");
    check(&|h, _| h.cordoned = true, R::Cordoned, "cordoned", "cordoned");
    check(&|h, _| h.quarantined = true, R::Quarantined, "quarantined", "quarantined");
    let broken = R::Constraint(constraint.clone());
    check(&|_, r| r.constraints.push(constraint.clone()), broken, "does not match zone=eu", "do not match zone=eu");
    let runsc = R::Runtime(Runtime::Runsc);
    check(&|_, r| r.runtime = Runtime::Runsc, runsc, "does not offer runsc", "do not offer runsc");
    let grouped = |h: &mut HostView, r: &mut Request| {
        r.anti_affinity = Some("db".into());
        h.groups.insert((r.tenant.clone(), "db".into()));
    };
    let (one, two) = ("already holds one of anti-affinity group db", "already hold one of anti-affinity group db");
    check(&grouped, R::AntiAffinity("db".into()), one, two);
    check(&|h, _| h.reserved.cpu = MilliCpu(6001), R::Cpu, "lacks CPU", "lack CPU");
    check(&|h, _| h.reserved.memory = Bytes::gib(12), R::Memory, "lacks memory", "lack memory");
    check(&|h, _| h.reserved.disk = Bytes::gib(234), R::Disk, "lacks disk", "lack disk");
    let used: &dyn Fn(&mut HostView, &mut Request) = &|h, _| h.measured = load(|l| l.memory = Bytes::gib(12));
    check(used, R::MeasuredMemory, "has too little unused memory", "have too little unused memory");
    let pressed: &dyn Fn(&mut HostView, &mut Request) = &|h, _| {
        h.pressure_max.cpu_centipercent = 9000;
        h.measured = load(|l| l.pressure.cpu_centipercent = 9001);
    };
    check(pressed, R::CpuPressure, "under CPU pressure", "under CPU pressure");
    let pressed: &dyn Fn(&mut HostView, &mut Request) =
        &|h, _| h.measured = load(|l| l.pressure.memory_centipercent = 2001);
    check(pressed, R::MemoryPressure, "under memory pressure", "under memory pressure");
    let pressed: &dyn Fn(&mut HostView, &mut Request) =
        &|h, _| h.measured = load(|l| l.pressure.io_centipercent = 9501);
    check(pressed, R::IoPressure, "under I/O pressure", "under I/O pressure");
    let full: &dyn Fn(&mut HostView, &mut Request) = &|h, _| h.measured = load(|l| l.disk = Bytes::gib(216));
    check(full, R::DiskFull, "has a nearly full disk", "have a nearly full disk");
    let full: &dyn Fn(&mut HostView, &mut Request) = &|h, _| h.measured = load(|l| l.inodes_permille = 950);
    check(full, R::Inodes, "nearly out of inodes", "nearly out of inodes");
}

#[test]
fn a_refusal_counts_the_most_frequent_reason_first() {
    let mut hosts: Vec<HostView> = (0..11).map(|id| host(id, CPX31)).collect();
    hosts[0..7].iter_mut().for_each(|host| host.reserved.memory = Bytes::gib(4));
    hosts[7..10].iter_mut().for_each(|host| host.cordoned = true);
    hosts[10].health = Health::Unreachable;
    let mut placer = placer(hosts);
    let refusal = placer.place(&request()).expect_err("nothing fits");
    assert_eq!(refusal.to_string(), "no host fits 2 vCPU, 3 GiB: 7 lack memory, 3 cordoned, 1 unreachable");
    assert_eq!(placer.explain(&request()).to_string(), refusal.to_string(), "a dry run says the same");
    (0..4).for_each(|id| placer.remove(HostId(id)));
    let refusal = placer.place(&request()).expect_err("nothing fits");
    assert_eq!(
        refusal.to_string(),
        "no host fits 2 vCPU, 3 GiB: 3 cordoned, 3 lack memory, 1 unreachable",
        "filters' order"
    );
    (4..11).for_each(|id| placer.remove(HostId(id)));
    let refusal = placer.place(&request()).expect_err("nothing fits");
    let none = "no host fits 2 vCPU, 3 GiB: the cluster has no hosts; add one with `plimsoll host add`";
    assert_eq!((refusal.to_string().as_str(), refusal.tally.len()), (none, 0));
}

#[test]
fn a_dry_run_names_the_choice_and_the_runners_up_and_takes_nothing() {
    let mut cordoned = host(0, CPX51);
    cordoned.cordoned = true;
    let mut placer = placer([cordoned, host(1, CPX31), host(2, CPX41)]);
    let explanation = placer.explain(&request());
    let fitting: Vec<_> = explanation.fitting().map(|(verdict, score)| (verdict.host.0, score.load_ppm)).collect();
    assert_eq!(fitting, [(2, 250_000), (1, 500_000)]);
    assert_eq!(explanation.verdicts[2].result, Err(Rejection::Cordoned));
    assert_eq!(explanation.to_string(), "2 vCPU, 3 GiB fits 2 of 3 hosts: best is h2, 25.0 % full with it");
    assert_eq!((explanation.refusal(), placer.in_flight()), (None, 0));
    let decision = placer.place(&request()).expect("there is room");
    assert_eq!(Some(decision.score), explanation.chosen().map(|(_, score)| score), "what it said is what is done");
}

#[test]
fn room_in_flight_is_taken_until_it_is_settled_or_confirmed() {
    let request = request();
    let mut placer = placer([host(0, CPX31)]);
    let first = placer.place(&request).expect("room for two");
    let second = placer.place(&request).expect("room for two");
    assert_eq!(placer.place(&request).expect_err("full").to_string(), "no host fits 2 vCPU, 3 GiB: 1 lacks CPU");

    assert!(placer.settle(first.ticket), "its log entry was refused");
    let third = placer.place(&request).expect("room again");

    // Applied, and the host is read back from state: counted by both until the ticket is settled, never by none.
    let mut applied = host(0, CPX31);
    applied.take(&request);
    placer.upsert(applied.clone());
    assert!(placer.try_place(&request).is_none() && placer.settle(second.ticket) && !placer.settle(second.ticket));
    assert!(placer.try_place(&request).is_none(), "one reserved, one in flight");

    // Applied, and confirmed without reading back.
    assert!(placer.confirm(third.ticket, &request) && placer.in_flight() == 0);
    assert_eq!(placer.host(HostId(0)).map(|host| host.reserved.cpu), Some(MilliCpu(4000)));
    assert!(placer.try_place(&request).is_none() && placer.release(HostId(0), &request));
    assert!(placer.try_place(&request).is_some(), "a sandbox left");
}

#[test]
fn anti_affinity_counts_what_is_in_flight_and_only_its_own_tenant() {
    let mut request = request();
    request.anti_affinity = Some("db".into());
    let mut placer = placer([host(0, CPX51), host(1, CPX51)]);
    let hosts = [placer.place(&request), placer.place(&request)].map(|placed| placed.expect("a host each").host.0);
    assert_eq!(hosts, [0, 1]);
    let refusal = placer.place(&request).expect_err("both hold one");
    assert_eq!(refusal.tally, [(Rejection::AntiAffinity("db".into()), 2)]);
    request.tenant = "other".parse().expect("a tenant");
    assert!(placer.place(&request).is_ok());
}

#[test]
fn a_new_view_of_a_host_replaces_all_that_was_known_of_it() {
    let mut request = request();
    request.anti_affinity = Some("db".into());
    let mut view = host(0, CPX51);
    let mut placer = placer([view.clone()]);
    let mut room = |view: &HostView| {
        placer.upsert(view.clone());
        let decision = placer.try_place(&request);
        decision.is_some_and(|decision| placer.settle(decision.ticket))
    };
    let taken = (request.tenant.clone(), Box::from("db"));
    view.groups.insert(taken.clone());
    assert!(!room(&view), "its group");
    view.groups.remove(&taken);
    assert!(room(&view), "no group");
    view.runtimes.clear();
    assert!(!room(&view), "its runtimes");
    view.runtimes.insert(Runtime::Runc);
    view.line.cpu = MilliCpu(1000);
    assert!(!room(&view), "its load line");
    view.line.cpu = MilliCpu(2000);
    assert!(room(&view), "its load line");
}

#[test]
fn however_many_constraints_are_asked_for_none_is_forgotten() {
    let mut view = host(0, CPX51);
    view.labels.insert("zone".into(), "eu".into());
    let mut placer = placer([view]);
    let mut request = request();
    for number in 0..600 {
        let fresh = format!("label-{number}!=x").parse().expect("a constraint");
        request.constraints = vec!["zone=us".parse().expect("a constraint"), fresh];
        assert!(placer.try_place(&request).is_none(), "{number}: no host is in zone us");
    }
}
