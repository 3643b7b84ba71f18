//! The index against the oracle: after any sequence of operations, every decision is the one a naive scan over all hosts
//! makes, and no host is ever reserved past its load line.

// A panic here is the report; clippy only knows that of test functions, not of their helpers.
#![allow(clippy::expect_used)]

use plimsoll_placement::{Decision, HostView, Placer, Request, naive};
use plimsoll_types::{
    Bytes, Constraint, Health, HostId, HostName, ImageRef, LoadLine, MeasuredLoad, MilliCpu, Resources, Runtime,
    TenantId,
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::BTreeMap;

/// What may happen to a placer.
#[derive(Clone, Debug)]
enum Op {
    Upsert(Box<HostView>),
    Remove(HostId),
    Load(HostId, Option<MeasuredLoad>),
    Place(Box<Request>),
    PlaceOn(HostId, Box<Request>),
    Settle(usize),
    Confirm(usize),
    Release(usize),
}

/// The same hosts and reservations, kept the obvious way.
#[derive(Default)]
struct Model {
    views: BTreeMap<HostId, HostView>,
    in_flight: Vec<(Decision, Request)>,
    running: Vec<(HostId, Request)>,
}

impl Model {
    /// Every host with what is in flight to it.
    fn effective(&self) -> BTreeMap<HostId, HostView> {
        let mut views = self.views.clone();
        for (decision, request) in &self.in_flight {
            views.get_mut(&decision.host).into_iter().for_each(|view| view.take(request));
        }
        views
    }
}

fn names<T: std::str::FromStr + Clone + std::fmt::Debug + 'static>(texts: &[&str]) -> impl Strategy<Value = T> + use<T>
where
    T::Err: std::fmt::Debug,
{
    select(texts.iter().map(|text| text.parse().expect("a valid name")).collect::<Vec<T>>())
}

fn tenant() -> impl Strategy<Value = TenantId> {
    names(&["a", "b", "c"])
}

fn image() -> impl Strategy<Value = ImageRef> {
    names(&["debian:12", "agent:1", "agent:2"])
}

fn group() -> impl Strategy<Value = Box<str>> {
    select(vec!["db", "web"]).prop_map(Box::from)
}

/// Mostly amounts as people use them, so that hosts tie; now and then the edges of arithmetic.
fn amount(usual: Vec<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![30 => select(usual), 1 => select(vec![0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX]), 1 => any::<u64>()]
}

fn resources(cpus: Vec<u64>, mibs: Vec<u64>, gibs: Vec<u64>) -> impl Strategy<Value = Resources> {
    let scaled = |amounts: Vec<u64>, shift| amounts.into_iter().map(|amount| amount << shift).collect();
    (amount(cpus), amount(scaled(mibs, 20)), amount(scaled(gibs, 30))).prop_map(|(cpu, memory, disk)| Resources {
        cpu: MilliCpu(cpu),
        memory: Bytes(memory),
        disk: Bytes(disk),
    })
}

fn asked() -> impl Strategy<Value = Resources> {
    resources(vec![500, 1000, 2000, 2000, 4000], vec![512, 1024, 3072, 3072, 8192], vec![1, 5, 5, 20])
}

fn load() -> impl Strategy<Value = Option<MeasuredLoad>> {
    let used = resources(vec![0, 100, 1500, 4000], vec![300, 1024, 3000, 7000], vec![3, 10, 40, 150]);
    let pressure = select(vec![0u16, 0, 0, 0, 0, 0, 1999, 2000, 9000]);
    proptest::option::of((used, pressure.clone(), pressure, select(vec![0u16, 0, 0, 949, 950])).prop_map(
        |(used, cpu, memory, inodes)| {
            let mut load =
                MeasuredLoad { cpu: used.cpu, memory: used.memory, disk: used.disk, ..MeasuredLoad::default() };
            (load.pressure.cpu_centipercent, load.pressure.memory_centipercent, load.inodes_permille) =
                (cpu, memory, inodes);
            load
        },
    ))
}

fn totals() -> impl Strategy<Value = Resources> {
    let machine = |cpu, mib, gib| Resources { cpu: MilliCpu(cpu), memory: Bytes::mib(mib), disk: Bytes::gib(gib) };
    let usual = vec![machine(4000, 7745, 160), machine(8000, 15615, 240), machine(16000, 31380, 360)];
    prop_oneof![
        20 => select(usual.clone()),
        4 => (select(usual), 0u64..9000).prop_map(|(mut totals, less)| {
            totals.memory.0 -= less << 12;
            totals
        }),
        1 => resources(vec![0, 1, 4000], vec![0, 1, 8192], vec![0, 1, 100]),
    ]
}

fn host(id: HostId) -> impl Strategy<Value = HostView> {
    let filtered = (
        select(vec![Health::Ready, Health::Ready, Health::Ready, Health::Ready, Health::Unreachable, Health::Lost]),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
    );
    let held = vec((tenant(), asked(), proptest::option::weighted(0.2, group())), 0..4);
    let labels = vec((select(vec!["zone", "gpu"]), select(vec!["", "eu", "us"])), 0..3);
    let sets = (vec(image(), 0..3), labels, vec(select(vec![Runtime::Runc, Runtime::Runc, Runtime::Runsc]), 0..3));
    (totals(), load(), filtered, held, sets, select(vec![0u64, 0, 32, 64])).prop_map(
        move |(totals, measured, (health, cordoned, quarantined), held, (images, labels, runtimes), price)| {
            let name: HostName = format!("h{}", id.0).parse().expect("a valid name");
            let mut view = HostView::new(id, name, totals, &LoadLine::default());
            (view.measured, view.health, view.cordoned, view.quarantined) = (measured, health, cordoned, quarantined);
            view.price_milli_per_hour = price;
            view.images = images.into_iter().collect();
            view.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            if !runtimes.is_empty() {
                view.runtimes = runtimes.into_iter().collect();
            }
            for (tenant, resources, anti_affinity) in held {
                view.take(&bare(tenant, resources, anti_affinity));
            }
            view
        },
    )
}

fn bare(tenant: TenantId, resources: Resources, anti_affinity: Option<Box<str>>) -> Request {
    let image = "debian:12".parse().expect("a valid image");
    Request { tenant, image, resources, runtime: Runtime::Runc, constraints: Vec::new(), anti_affinity }
}

fn request() -> impl Strategy<Value = Request> {
    let constraints = vec(names::<Constraint>(&["zone=eu", "zone!=eu", "gpu", "zone=mars"]), 0..3);
    let constraints = prop_oneof![2 => Just(Vec::new()), 1 => constraints];
    let runtime = select(vec![Runtime::Runc, Runtime::Runc, Runtime::Runc, Runtime::Runsc]);
    (tenant(), image(), asked(), runtime, constraints, proptest::option::weighted(0.3, group())).prop_map(
        |(tenant, image, resources, runtime, constraints, anti_affinity)| Request {
            tenant,
            image,
            resources,
            runtime,
            constraints,
            anti_affinity,
        },
    )
}

fn op(hosts: u32) -> impl Strategy<Value = Op> {
    let id = (0..hosts).prop_map(HostId);
    prop_oneof![
        2 => id.clone().prop_flat_map(host).prop_map(|view| Op::Upsert(Box::new(view))),
        1 => id.clone().prop_map(Op::Remove),
        2 => (id.clone(), load()).prop_map(|(id, load)| Op::Load(id, load)),
        2 => (id, request()).prop_map(|(id, request)| Op::PlaceOn(id, Box::new(request))),
        12 => request().prop_map(|request| Op::Place(Box::new(request))),
        3 => any::<usize>().prop_map(Op::Settle),
        3 => any::<usize>().prop_map(Op::Confirm),
        2 => any::<usize>().prop_map(Op::Release),
    ]
}

fn fleet(size: u32) -> impl Strategy<Value = Vec<HostView>> {
    (0..size).map(|id| host(HostId(id))).collect::<Vec<_>>()
}

fn place(placer: &mut Placer, model: &mut Model, request: Request) -> Result<(), TestCaseError> {
    let effective = model.effective();
    let expected = naive::place(effective.values(), &request);
    let explained = placer.explain(&request);
    prop_assert_eq!(explained.chosen().map(|(_, score)| score), expected, "explain");
    let decided = placer.place(&request);
    prop_assert_eq!(decided.as_ref().ok().map(|decision| decision.score), expected, "place {:?}", request);
    match decided {
        Ok(decision) => {
            prop_assert_eq!(decision.host, decision.score.host);
            let host = &effective[&decision.host];
            let after = host.reserved.checked_add(request.resources);
            prop_assert!(after.is_some_and(|after| after.fits_in(host.line)), "past the load line");
            model.in_flight.push((decision, request));
        }
        Err(refusal) => {
            prop_assert_eq!(explained.refusal(), Some(refusal.clone()));
            let counted: u32 = refusal.tally.iter().map(|(_, hosts)| hosts).sum();
            prop_assert_eq!(counted as usize, effective.len(), "each host has one reason");
        }
    }
    Ok(())
}

fn step(placer: &mut Placer, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::Upsert(view) => {
            placer.upsert(view.as_ref().clone());
            model.views.insert(view.id, *view);
        }
        Op::Remove(host) => {
            placer.remove(host);
            model.views.remove(&host);
            model.in_flight.retain(|(decision, _)| {
                decision.host != host || {
                    assert!(!placer.settle(decision.ticket), "a removed host's tickets have ended");
                    false
                }
            });
        }
        Op::Load(host, load) => {
            let known = model.views.get_mut(&host).map(|view| view.measured = load);
            prop_assert_eq!(placer.set_load(host, load), known.is_some());
        }
        Op::Place(request) => place(placer, model, *request)?,
        Op::PlaceOn(host, request) => {
            let effective = model.effective();
            let expected = effective.get(&host).map(|view| naive::place([view], &request));
            match placer.try_place_on(host, &request) {
                Ok(decision) => {
                    prop_assert_eq!((Some(Some(decision.score)), decision.host), (expected, host));
                    model.in_flight.push((decision, *request));
                }
                Err(rejection) => prop_assert_eq!(expected, rejection.map(|_| None), "unknown, or does not fit"),
            }
        }
        Op::Settle(nth) if !model.in_flight.is_empty() => {
            let (decision, _) = model.in_flight.remove(nth % model.in_flight.len());
            prop_assert!(placer.settle(decision.ticket) && !placer.settle(decision.ticket), "a ticket ends once");
        }
        Op::Confirm(nth) if !model.in_flight.is_empty() => {
            let (decision, request) = model.in_flight.remove(nth % model.in_flight.len());
            prop_assert!(placer.confirm(decision.ticket, &request) && !placer.confirm(decision.ticket, &request));
            model.views.get_mut(&decision.host).into_iter().for_each(|view| view.take(&request));
            model.running.push((decision.host, request));
        }
        Op::Release(nth) if !model.running.is_empty() => {
            let (host, request) = model.running.remove(nth % model.running.len());
            let known = model.views.get_mut(&host).map(|view| view.give_back(&request));
            prop_assert_eq!(placer.release(host, &request), known.is_some());
        }
        Op::Settle(_) | Op::Confirm(_) | Op::Release(_) => {}
    }
    prop_assert_eq!(placer.in_flight(), model.in_flight.len());
    prop_assert!(placer.hosts().eq(model.views.values()), "views without what is in flight");
    Ok(())
}

fn run(hosts: Vec<HostView>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let (mut placer, mut model) = (Placer::new(), Model::default());
    for view in hosts {
        step(&mut placer, &mut model, Op::Upsert(Box::new(view)))?;
    }
    for op in ops {
        step(&mut placer, &mut model, op)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_few_hosts_through_anything(hosts in fleet(8), ops in vec(op(10), 1..120)) {
        run(hosts, ops)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    // Past 32 hosts selections are not asked host by host any more, and tenants' counts turn from lists to tables.
    #[test]
    fn many_hosts_through_anything(hosts in fleet(150), ops in vec(op(160), 1..200)) {
        run(hosts, ops)?;
    }
}
