//! The operators' half of the façade: hosts, keys, policy.

use crate::error::Error;
use async_trait::async_trait;
use plimsoll_lifecycle::{
    planner::{Finding, Verdict},
    ports::SurveyReport,
};
use plimsoll_state::{ApiKey, Hold, Host, Policy, Role, State, backup};
use plimsoll_types::{
    HostAddress, HostId, HostName, Identity, KeyId, Labels, MeasuredLoad, Millis, Phase, PublishAddress, Resources,
    SandboxId, SessionId, TenantId, Timestamp,
};
use std::sync::Arc;

/// A host to add.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// What to call it.
    pub name: HostName,
    /// Where it is.
    pub address: HostAddress,
    /// With which key.
    pub identity: Identity,
    /// The fingerprint (`SHA256:…`) the operator confirmed; for `ssh://` only.
    pub fingerprint: Option<String>,
    /// The operator's labels.
    pub labels: Labels,
    /// Price in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// Which address published ports listen on.
    pub publish: PublishAddress,
    /// The name or address in URLs, where it differs.
    pub advertise: Option<Box<str>>,
}

/// What checking a host found, without or before adding it.
#[derive(Clone, Debug)]
pub struct HostCheck {
    /// The host key in OpenSSH's one-line form and its fingerprint; none for `unix://`.
    pub host_key: Option<(String, String)>,
    /// What was found; `None` while the key is not confirmed.
    pub report: Option<SurveyReport>,
    /// What an operator should know: small limits, missing image, skew below the refusal threshold.
    pub warnings: Vec<String>,
}

/// A host with what is known of it now.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// Its record.
    pub host: Arc<Host>,
    /// What may be reserved on it.
    pub line: Resources,
    /// Its measured load, if the leader has measured it.
    pub load: Option<MeasuredLoad>,
}

/// How a host is to be drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainWish {
    /// Most moves at once; the policy's number if left out.
    pub parallel: Option<u32>,
    /// How long moves are begun; what is left then stays. For ever if left out.
    pub deadline: Option<Millis>,
    /// Why, for whoever finds it drained.
    pub reason: String,
}

/// How far a drain is, or, for a host that is not drained, what a drain would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainStatus {
    /// Which host.
    pub host: HostName,
    /// Whether it is being drained.
    pub draining: bool,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when moves are begun.
    pub deadline: Option<Timestamp>,
    /// Most moves at once.
    pub parallel: u32,
    /// Why it is drained.
    pub reason: String,
    /// Sandboxes that are on their way to another host now.
    pub moving: u32,
    /// Sandboxes that moved away since the drain began and are still known.
    pub moved: u32,
    /// Every sandbox that still holds room on it, those on their way included.
    pub left: Vec<LeftBehind>,
}

impl DrainStatus {
    /// Whether nothing is left, so that the host can be taken away.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// A sandbox on a host that is, or would be, drained.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftBehind {
    /// Which.
    pub sandbox: SandboxId,
    /// Its phase.
    pub phase: Phase,
    /// Why it is still there, or why it cannot go.
    pub why: String,
    /// Where it is going, or would go now; `None` if nowhere.
    pub would_go: Option<HostName>,
}

/// A move that evens out how full hosts are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProposedMove {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// From where.
    pub from: HostName,
    /// To where.
    pub to: HostName,
    /// Why it is moved; after a rebalance that was performed, also why it could not be begun.
    pub reason: String,
    /// Whether it was begun: false for a dry run and for a move that was refused.
    pub begun: bool,
}

/// A copy of the whole state at one moment.
#[derive(Clone, Debug)]
pub struct Backup {
    /// What stands before it.
    pub header: backup::Header,
    /// The state.
    pub state: State,
}

/// What hosts hold, compared with what state says.
#[derive(Clone, Debug)]
pub struct DriftReport {
    /// The hold, if the cluster is on one: only then can anything be settled.
    pub hold: Option<Hold>,
    /// Hosts that were looked at.
    pub answered: u32,
    /// Hosts that were not, and why.
    pub silent: Vec<(HostName, String)>,
    /// Snapshots in the registry that state has no record of; `None` where the registry was not, or could not be, asked.
    pub unrecorded: Option<u64>,
    /// Every container, and every sandbox that should have one.
    pub lines: Vec<DriftLine>,
    /// What was settled by this call, in order.
    pub settled: Vec<Settled>,
}

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftLine {
    /// What was found.
    pub finding: Finding,
    /// The platform's key of the sandbox, by state or else by the container's labels.
    pub session: Option<SessionId>,
    /// Whose it is, likewise.
    pub tenant: Option<TenantId>,
    /// The host's name.
    pub host: Option<HostName>,
}

/// What to settle of a drift; nothing is done that is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriftWish {
    /// State takes over what it does not know or knows an earlier generation of.
    pub adopt: bool,
    /// Containers that nothing needs are removed from their hosts.
    pub remove_orphans: bool,
    /// Sandboxes that are nowhere count as failed.
    pub mark_lost: bool,
}

/// What came of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What it was.
    pub verdict: Verdict,
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// On which host.
    pub host: Option<HostName>,
    /// Why it was not done; `None` if it was.
    pub refused: Option<String>,
}

/// What operators do.
#[async_trait]
pub trait ClusterOperations: Send + Sync + 'static {
    /// Looks at a host without adding it.
    async fn check_host(&self, host: &NewHost) -> Result<HostCheck, Error>;

    /// Checks and adds a host; its key is pinned if the fingerprint matches, else `host_key_unknown` or `host_key_changed`.
    async fn add_host(&self, host: NewHost) -> Result<(HostStatus, HostCheck), Error>;

    /// Every host, by name.
    async fn hosts(&self) -> Result<Vec<HostStatus>, Error>;

    /// One host by name or id.
    async fn host(&self, name: &str) -> Result<HostStatus, Error>;

    /// Cordons (with a reason) or uncordons.
    async fn cordon(&self, host: HostId, reason: Option<&str>) -> Result<(), Error>;

    /// Changes labels.
    async fn label_host(&self, host: HostId, set: Labels, remove: Vec<Box<str>>) -> Result<(), Error>;

    /// Changes what a host costs, in thousandths of a currency unit per hour; what is placed from then on prefers the cheaper of equals.
    async fn price_host(&self, host: HostId, price_milli_per_hour: u64) -> Result<(), Error>;

    /// Forgets a host that holds no sandboxes, after what is left of ours on it was removed. Answers with what an operator should
    /// know: above all, what may be left because the host did not answer.
    async fn remove_host(&self, host: HostId) -> Result<Vec<String>, Error>;

    /// Empties a host: it takes nothing new, and what runs there is moved away, a few at a time, until it is undrained. Done again
    /// changes how. Errors: `host_not_found`, `registry_missing`.
    async fn drain_host(&self, host: HostId, wish: DrainWish) -> Result<(), Error>;

    /// Ends a drain; moves that were begun go on.
    async fn undrain_host(&self, host: HostId) -> Result<(), Error>;

    /// How far a drain is; for a host that is not drained, what a drain would do with each of its sandboxes.
    async fn drain_status(&self, host: HostId) -> Result<DrainStatus, Error>;

    /// The fewest moves that bring hosts closer together than this difference of dominant shares, in thousandths (200 if left out);
    /// begins them too unless it is a dry run.
    async fn rebalance(&self, dry_run: bool, spread_permille: Option<u32>) -> Result<Vec<ProposedMove>, Error>;

    /// The policy in force.
    async fn policy(&self) -> Result<Policy, Error>;

    /// Replaces the policy, if the one in force is still the expected one, and answers with it; `conflict` otherwise, and where
    /// names would change that are in use.
    async fn set_policy(&self, policy: Policy, expected: Option<Policy>) -> Result<Policy, Error>;

    /// A copy of everything that was acknowledged before the call.
    async fn backup(&self) -> Result<Backup, Error>;

    /// Puts the cluster on hold: nothing is started, moved or removed, and whatever was under way stops, until [`Self::resume_cluster`].
    async fn hold_cluster(&self, reason: &str) -> Result<(), Error>;

    /// Ends a hold. Unless forced, `conflict` while something is left to settle: what is not taken over would be removed.
    async fn resume_cluster(&self, force: bool) -> Result<(), Error>;

    /// Compares what all hosts hold with what state says. Changes nothing.
    async fn drift(&self) -> Result<DriftReport, Error>;

    /// Settles, on hold only, what the wish names, and compares again.
    async fn settle(&self, wish: DriftWish) -> Result<DriftReport, Error>;

    /// Makes an API key; the secret (`plm_…`) is returned once and only its hash is kept.
    async fn create_key(&self, name: &str, role: Role, tenant: TenantId) -> Result<(Arc<ApiKey>, String), Error>;

    /// Every key.
    async fn keys(&self) -> Result<Vec<Arc<ApiKey>>, Error>;

    /// Ends a key.
    async fn revoke_key(&self, key: KeyId) -> Result<(), Error>;

    /// The key a presented secret belongs to; `None` if it belongs to none, or to one that was revoked.
    ///
    /// A key that was made anywhere before the call is known. One that was revoked on another node is refused as soon as this node has
    /// applied that: with the leader's next message, or, on a node that is cut off, when it is back.
    async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, Error>;

    /// The gauges that are read off the state and the leader's memory at this moment, in Prometheus' text format.
    fn gauges(&self) -> String;
}
