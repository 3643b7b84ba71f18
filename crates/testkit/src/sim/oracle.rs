//! What a simulation remembers of what it was promised, and the judgement over state, hosts and promises together.

use super::{SimCluster, SimFleet, SimHost, invariants, lock};
use plimsoll_state::{Host, State};
use plimsoll_types::{ClusterId, Generation, SandboxId, SessionId, TenantId, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// Where and how.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// What callers were told, and what was seen before.
#[derive(Debug, Default)]
pub struct Promises {
    /// Sandboxes that a caller was told exist, with their session.
    pub sandboxes: BTreeMap<SandboxId, (TenantId, SessionId)>,
    /// Sandboxes that a caller was told are, or will be, gone.
    pub gone: BTreeSet<SandboxId>,
    /// The sandboxes that callers were told an idempotency key made.
    pub keys: BTreeMap<String, BTreeSet<SandboxId>>,
    /// The highest generation seen of each sandbox.
    pub generations: BTreeMap<SandboxId, Generation>,
    /// What callers were told is written, by sandbox and path.
    pub written: BTreeMap<(SandboxId, String), Vec<Written>>,
    /// Containers of strangers, by host and id.
    pub foreign: Vec<(String, String)>,
}

/// A number that a caller was told is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The number; later ones are higher.
    pub number: u64,
    /// When the caller was told.
    pub at: Timestamp,
}

/// Judges a simulation. Clones share what they remember.
#[derive(Clone)]
pub struct Oracle {
    cluster: SimCluster,
    fleet: SimFleet,
    promises: Arc<Mutex<Promises>>,
}

/// Everything an invariant may look at.
pub struct Scene<'a> {
    /// The control plane.
    pub cluster: &'a SimCluster,
    /// The hosts.
    pub fleet: &'a SimFleet,
    /// All that is committed.
    pub state: &'a State,
    /// What was promised.
    pub promises: &'a Promises,
}

impl Scene<'_> {
    /// Each host of the state with its machine.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, SimHost)> {
        self.state.hosts.values().filter_map(|host| Some((host.as_ref(), self.fleet.at(&host.address)?)))
    }

    /// Whether a host was ever away or late, so that nobody could know what runs there.
    #[must_use]
    pub fn disturbed(&self, machine: &SimHost) -> bool {
        self.fleet.journal(|journal| journal.disturbed(machine.name()))
    }

    /// The cluster's id; without one, nothing is ours.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        self.state.cluster
    }
}

impl Oracle {
    /// An oracle that remembers nothing yet.
    #[must_use]
    pub fn new(cluster: &SimCluster, fleet: &SimFleet) -> Self {
        Self { cluster: cluster.clone(), fleet: fleet.clone(), promises: Arc::default() }
    }

    /// A caller was told that this sandbox exists, for this key if there was one.
    pub fn acknowledged(&self, sandbox: SandboxId, tenant: &TenantId, session: &SessionId, key: Option<&str>) {
        let mut promises = lock(&self.promises);
        promises.sandboxes.insert(sandbox, (tenant.clone(), session.clone()));
        if let Some(key) = key {
            promises.keys.entry(key.into()).or_default().insert(sandbox);
        }
    }

    /// A caller was told that this sandbox is gone.
    pub fn gone(&self, sandbox: SandboxId) {
        lock(&self.promises).gone.insert(sandbox);
    }

    /// A caller was told that this number, higher than those before, is in a file of the sandbox.
    pub fn written(&self, sandbox: SandboxId, path: &str, number: u64, at: Timestamp) {
        lock(&self.promises).written.entry((sandbox, path.into())).or_default().push(Written { number, at });
    }

    /// A stranger's container stands on this host and must stay as it is.
    pub fn foreign(&self, host: &SimHost, id: &str) {
        lock(&self.promises).foreign.push((host.name().into(), id.into()));
    }

    /// What must hold at every moment, whatever goes wrong.
    #[must_use]
    pub fn judge_now(&self) -> Vec<Violation> {
        self.judge(invariants::ALWAYS)
    }

    /// What must hold once nothing goes wrong any more and time has passed.
    #[must_use]
    pub fn judge_settled(&self) -> Vec<Violation> {
        let mut found = self.judge(invariants::ALWAYS);
        found.extend(self.judge(invariants::SETTLED));
        found
    }

    /// Panics with the seed and every violation of what must always hold.
    ///
    /// # Panics
    /// When there is one.
    pub fn assert_now(&self) {
        self.assert(&self.judge_now());
    }

    /// Panics with the seed and every violation of what must hold once all is quiet.
    ///
    /// # Panics
    /// When there is one.
    pub fn assert_settled(&self) {
        self.assert(&self.judge_settled());
    }

    fn assert(&self, found: &[Violation]) {
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "seed {}:\n  {}", self.cluster.seed(), lines.join("\n  "));
    }

    fn judge(&self, invariants: &[invariants::Invariant]) -> Vec<Violation> {
        let state = self.cluster.committed();
        let mut promises = lock(&self.promises);
        let scene = Scene { cluster: &self.cluster, fleet: &self.fleet, state: &state, promises: &promises };
        let found = invariants.iter().flat_map(|invariant| {
            (invariant.check)(&scene).into_iter().map(|detail| Violation { invariant: invariant.name, detail })
        });
        let found: Vec<_> = found.collect();
        for (id, sandbox) in &state.sandboxes {
            promises.generations.insert(*id, sandbox.generation);
        }
        found
    }
}
