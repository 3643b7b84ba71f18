//! Fleets and requests for the placement benches. Everything is derived from fixed numbers, so two runs, and the index and
//! the naive scan of one run, see the same fleet and the same requests.

use plimsoll_placement::{HostView, Request};
use plimsoll_types::{
    Bytes, Constraint, Health, HostId, HostName, ImageRef, InvalidName, LoadLine, MeasuredLoad, MilliCpu, Resources,
    Runtime, TenantId,
};

/// What is known of the hosts' load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing was measured: load counts as reservations, and many hosts are alike.
    Reserved,
    /// Every host has its own total memory (within 64 MiB) and its own measured load: no two hosts are alike.
    Measured,
}

/// A fleet to place on.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many hosts.
    pub hosts: u32,
    /// How many of every three hosts are filtered: cordoned, unreachable or in another zone, in turn.
    pub filtered_of_three: u32,
    /// What is known of their load.
    pub load: Load,
}

/// Machines in turn: CPX31, CPX41 and CPX51 (vCPU, MiB, GiB of disk).
const MACHINES: [(u64, u64, u64); 3] = [(4, 7745, 160), (8, 15_615, 240), (16, 31_380, 360)];
/// Sizes in turn (vCPU thousandths, MiB, GiB of disk): the default sandbox most often, some small, some lopsided.
const SIZES: [(u64, u64, u64); 12] = [
    (2000, 3072, 5),
    (1000, 2048, 5),
    (2000, 3072, 5),
    (500, 512, 2),
    (2000, 3072, 5),
    (1000, 1024, 5),
    (4000, 6144, 10),
    (2000, 3072, 5),
    (500, 4096, 5),
    (250, 512, 1),
    (3000, 2048, 20),
    (2000, 3072, 5),
];
const IMAGES: [&str; 4] = ["ghcr.io/team/agent:1", "ghcr.io/team/agent:2", "debian:12", "node:22"];
const TENANTS: [&str; 5] = ["default", "acme", "globex", "initech", "umbrella"];

/// A fixed sequence of well-mixed numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Mixed(pub u64);

impl Mixed {
    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Fleet {
    /// The hosts, empty but for what is measured.
    ///
    /// # Errors
    /// Never: the names are fixed and valid.
    pub fn views(&self) -> Result<Vec<HostView>, InvalidName> {
        let mut mixed = Mixed(1);
        (0..self.hosts).map(|id| self.view(id, &mut mixed)).collect()
    }

    fn view(&self, id: u32, mixed: &mut Mixed) -> Result<HostView, InvalidName> {
        let (cpus, mib, gib) = MACHINES[mixed.below(3) as usize];
        let mut totals = Resources { cpu: MilliCpu(cpus * 1000), memory: Bytes::mib(mib), disk: Bytes::gib(gib) };
        let mut measured = None;
        if self.load == Load::Measured {
            totals.memory = totals.memory.saturating_sub(Bytes(mixed.below(16_384) << 12));
            // A machine that works somewhat less than its reservations say, with a disk that its images half fill.
            measured = Some(MeasuredLoad {
                cpu: MilliCpu(mixed.below(cpus * 700)),
                memory: Bytes::mib(600 + mixed.below(mib / 2)),
                disk: Bytes(mixed.below(gib << 29) + (4 << 30)),
                ..MeasuredLoad::default()
            });
        }
        let mut view = HostView::new(HostId(id), HostName::new(&format!("host-{id}"))?, totals, &LoadLine::default());
        view.measured = measured;
        view.price_milli_per_hour = cpus * 8;
        let filtered = id % 3 < self.filtered_of_three;
        let way = if filtered { mixed.below(3) } else { 3 };
        view.cordoned = way == 0;
        view.health = if way == 1 { Health::Unreachable } else { Health::Ready };
        view.labels.insert("zone".into(), if way == 2 { "us".into() } else { "eu".into() });
        for image in IMAGES.iter().filter(|_| mixed.below(2) == 0) {
            view.images.insert(ImageRef::new(image)?);
        }
        Ok(view)
    }

    /// Requests to ask in turn. Where hosts are filtered, each asks for the zone that the others are in.
    ///
    /// # Errors
    /// Never: the names are fixed and valid.
    pub fn requests(&self) -> Result<Vec<Request>, InvalidName> {
        let mut mixed = Mixed(2);
        let one = |_| {
            let (cpu, mib, gib) = SIZES[mixed.below(12) as usize];
            Ok(Request {
                tenant: TenantId::new(TENANTS[mixed.below(5) as usize])?,
                image: ImageRef::new(IMAGES[mixed.below(4) as usize])?,
                resources: Resources { cpu: MilliCpu(cpu), memory: Bytes::mib(mib), disk: Bytes::gib(gib) },
                runtime: Runtime::Runc,
                constraints: if self.filtered_of_three == 0 {
                    Vec::new()
                } else {
                    vec![Constraint::Equals { key: "zone".into(), value: "eu".into() }]
                },
                anti_affinity: None,
            })
        };
        (0..1024).map(one).collect()
    }
}
