//! A simulated host: Docker in memory behind the host port, with mishaps on demand.
//!
//! Requests are done by the host's own tasks: one that was sent is done even if its sender gave up or died, as Docker does.

mod docker;
mod driver;
mod exec;
mod faults;
mod files;
mod images;
mod journal;
mod line;

pub use docker::SimContainer;
pub(super) use driver::SimDriver;
pub use faults::{Fault, HostOp, Mishap, When};
pub use images::SimImage;
pub use journal::{Journal, Overlap, Start};
pub(super) use line::Line;

use super::{SimClock, SimRegistry, lock};
use docker::Docker;
use plimsoll_lifecycle::ports::{ContainerState, HostFailure};
use plimsoll_types::{
    Bytes, ClusterId, Generation, HostAddress, HostFacts, ImageRef, MilliCpu, NodeId, Resources, SandboxId,
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// The sizes of machines that the platform's operators rent, in what such a machine reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSize {
    /// 4 vCPU, 8 GB: two default sandboxes.
    Cpx31,
    /// 8 vCPU, 16 GB: four.
    Cpx41,
    /// 16 vCPU, 32 GB: eight.
    Cpx51,
}

impl HostSize {
    /// What it has.
    #[must_use]
    pub const fn totals(self) -> Resources {
        let (cpu, memory_mib, disk_gib) = match self {
            Self::Cpx31 => (4000, 7745, 150),
            Self::Cpx41 => (8000, 15615, 225),
            Self::Cpx51 => (16000, 31380, 337),
        };
        Resources { cpu: MilliCpu(cpu), memory: Bytes::mib(memory_mib), disk: Bytes::gib(disk_gib) }
    }
}

/// When a hook runs: before or after an operation changes the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The request arrived, nothing is done yet.
    Before,
    /// It is done, the answer is not sent yet.
    After,
}

type Hook = Box<dyn FnOnce() + Send>;

/// One simulated machine. Clones are the same one.
#[derive(Clone)]
pub struct SimHost {
    machine: Arc<Machine>,
}

struct Machine {
    name: String,
    address: HostAddress,
    clock: SimClock,
    inner: Mutex<Inner>,
    /// Counts heals; whoever hangs waits for the next.
    heals: watch::Sender<u64>,
}

struct Inner {
    docker: Docker,
    rng: StdRng,
    faults: Vec<Fault>,
    hooks: BTreeMap<(HostOp, Moment), Vec<Hook>>,
    calls: BTreeMap<HostOp, u64>,
    down: bool,
    cut: BTreeSet<NodeId>,
    key: String,
}

impl SimHost {
    pub(super) fn new(
        (name, size): (&str, HostSize),
        seed: u64,
        clock: SimClock,
        journal: Arc<Mutex<Journal>>,
        registry: SimRegistry,
    ) -> Self {
        let facts = HostFacts {
            machine_id: format!("machine-{name}"),
            hostname: name.into(),
            architecture: "x86_64".into(),
            docker_version: "20.10.24".into(),
            api_version: "1.41".into(),
            kernel: "6.18".into(),
            runtimes: vec!["runc".into()],
            totals: size.totals(),
            docker_root: "/var/lib/docker".into(),
        };
        let inner = Inner {
            docker: Docker::new(name.into(), facts, journal, registry),
            rng: StdRng::seed_from_u64(seed),
            faults: Vec::new(),
            hooks: BTreeMap::new(),
            calls: BTreeMap::new(),
            down: false,
            cut: BTreeSet::new(),
            key: format!("ssh-ed25519 AAAAsim{name}"),
        };
        let address = HostAddress::Ssh { user: "sim".into(), addr: name.into(), port: 22 };
        let machine =
            Machine { name: name.into(), address, clock, inner: Mutex::new(inner), heals: watch::Sender::new(0) };
        Self { machine: Arc::new(machine) }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// Where it is dialled.
    #[must_use]
    pub fn address(&self) -> &HostAddress {
        &self.machine.address
    }

    /// What `host add` would find.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.with(|inner| inner.docker.facts.clone())
    }

    /// Changes what polls find.
    pub fn set_facts(&self, facts: HostFacts) {
        self.with(|inner| inner.docker.facts = facts);
    }

    /// The host key it shows, in OpenSSH's one-line form.
    #[must_use]
    pub fn key(&self) -> String {
        self.with(|inner| inner.key.clone())
    }

    /// Shows another host key from now on.
    pub fn set_key(&self, key: &str) {
        self.with(|inner| inner.key = key.into());
    }

    /// Scripts a mishap; of several that are due, the one scripted first happens.
    pub fn fault(&self, op: impl Into<Option<HostOp>>, mishap: Mishap, when: When) {
        let op = op.into();
        self.with(|inner| inner.faults.push(Fault { op, mishap, when }));
    }

    /// Runs something at the next such moment, once.
    pub fn hook(&self, op: HostOp, moment: Moment, run: impl FnOnce() + Send + 'static) {
        self.with(|inner| inner.hooks.entry((op, moment)).or_default().push(Box::new(run)));
    }

    /// Cuts it off from everybody; its containers run on.
    pub fn disconnect(&self) {
        self.with(|inner| {
            inner.down = true;
            inner.docker.disturb();
        });
    }

    /// Cuts it off from one node.
    pub fn cut(&self, node: NodeId) {
        self.with(|inner| {
            inner.cut.extend([node]);
            inner.docker.disturb();
        });
    }

    /// Switches it off: every container made over the host port ends, and stays ended when it comes back. Strangers' have a restart
    /// policy of their own.
    pub fn power_off(&self) {
        self.with(|inner| {
            inner.down = true;
            inner.docker.disturb();
            let made = inner.docker.containers.iter().filter(|(_, found)| found.plan.is_some());
            for id in made.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                inner.docker.stop(&id);
            }
        });
    }

    /// Fills or frees its disk.
    pub fn set_disk_full(&self, full: bool) {
        self.with(|inner| inner.docker.disk_full = full);
    }

    /// Makes its containers use no CPU; otherwise each uses a tenth of one.
    pub fn set_quiet(&self, quiet: bool) {
        self.with(|inner| inner.docker.quiet = quiet);
    }

    /// Makes containers end as soon as they are started, answered with this failure; `None` ends that.
    pub fn set_start_fails(&self, failure: Option<HostFailure>) {
        self.with(|inner| inner.docker.start_fails = failure);
    }

    /// Makes Docker refuse containers after network, volume and folder were made, answered with this failure; `None` ends that.
    pub fn set_create_fails(&self, failure: Option<HostFailure>) {
        self.with(|inner| inner.docker.create_fails = failure);
    }

    /// Makes an image impossible to pull.
    pub fn set_image_missing(&self, image: &ImageRef) {
        self.with(|inner| inner.docker.missing_images.insert(image.clone()));
    }

    /// Makes pulls of an image fail on the way.
    pub fn set_image_broken(&self, image: &ImageRef) {
        self.with(|inner| inner.docker.broken_images.insert(image.clone()));
    }

    /// Ends every mishap: it is reachable, has room and does what it was told while it hung. Pending hooks are dropped.
    pub fn heal(&self) {
        self.with(|inner| {
            inner.faults.clear();
            inner.hooks.clear();
            inner.down = false;
            inner.cut.clear();
            inner.docker.disk_full = false;
            inner.docker.start_fails = None;
            inner.docker.create_fails = None;
            inner.docker.missing_images.clear();
            inner.docker.broken_images.clear();
        });
        self.machine.heals.send_modify(|heals| *heals += 1);
    }

    /// Puts a running container there that somebody else made, with our labels if given; answers with its id.
    pub fn add_foreign(&self, name: &str, labels: Option<(ClusterId, SandboxId, Generation)>) -> String {
        self.with(|inner| inner.docker.add_foreign(name, labels))
    }

    /// Ends a container's process behind everybody's back.
    pub fn crash_container(&self, id: &str) {
        self.with(|inner| inner.docker.stop(id));
    }

    /// Removes a container behind everybody's back.
    pub fn lose_container(&self, id: &str) {
        self.with(|inner| drop(inner.docker.remove(id)));
    }

    /// Every container, ours or not.
    #[must_use]
    pub fn containers(&self) -> Vec<SimContainer> {
        self.with(|inner| inner.docker.containers.values().cloned().collect())
    }

    /// The running containers of a cluster.
    #[must_use]
    pub fn running(&self, cluster: ClusterId) -> Vec<SimContainer> {
        let ours =
            |found: &SimContainer| found.seen.cluster == Some(cluster) && found.seen.state == ContainerState::Running;
        self.containers().into_iter().filter(ours).collect()
    }

    /// What a container, running or not, has at a path, its workspace included.
    #[must_use]
    pub fn file(&self, container: &str, path: &str) -> Option<String> {
        self.with(|inner| inner.docker.file(container, path))
    }

    /// The snapshots it holds, by their local names.
    #[must_use]
    pub fn snapshots(&self) -> BTreeMap<String, SimImage> {
        self.with(|inner| inner.docker.snapshots.clone())
    }

    /// Whether a container, running or not, was made from an image.
    #[must_use]
    pub fn image_used(&self, name: &str) -> bool {
        self.with(|inner| inner.docker.image_used(name))
    }

    /// Whether it answers everybody.
    #[must_use]
    pub fn reachable(&self) -> bool {
        self.with(|inner| !inner.down && inner.cut.is_empty())
    }

    /// Volumes with the cluster that made each.
    #[must_use]
    pub fn volumes(&self) -> BTreeMap<String, Option<ClusterId>> {
        self.with(|inner| inner.docker.volumes.clone())
    }

    /// Folders that workspaces left on the disk.
    #[must_use]
    pub fn folders(&self) -> BTreeSet<String> {
        self.with(|inner| inner.docker.folders.clone())
    }

    /// Networks with the cluster that made each.
    #[must_use]
    pub fn networks(&self) -> BTreeMap<String, Option<ClusterId>> {
        self.with(|inner| inner.docker.networks.clone())
    }

    /// How often an operation was asked for.
    #[must_use]
    pub fn calls(&self, op: HostOp) -> u64 {
        self.with(|inner| inner.calls.get(&op).copied().unwrap_or(0))
    }

    /// How often an operation changed something: a container made, started or removed, an image pulled, and so on.
    #[must_use]
    pub fn effects(&self, op: HostOp) -> u64 {
        self.with(|inner| inner.docker.effects.get(&op).copied().unwrap_or(0))
    }

    fn with<T>(&self, body: impl FnOnce(&mut Inner) -> T) -> T {
        body(&mut lock(&self.machine.inner))
    }
}
