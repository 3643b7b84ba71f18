//! Hosts and policy, as operators handle them.

use super::{VpsClusterProvider, checks};
use crate::{
    Error,
    cluster::{
        Backup, ClusterOperations, DrainStatus, DrainWish, DriftReport, DriftWish, HostCheck, HostStatus, NewHost,
        ProposedMove,
    },
    policy,
    questions::{Answer, Question},
    spec,
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::DialTarget;
use plimsoll_state::{
    ApiKey, Command, Host, Outcome, Policy, Refusal, Role, State,
    command::{AddHost, CordonHost, LabelHost, PriceHost},
};
use plimsoll_types::{Code, HostAddress, HostId, HostName, ImageRef, KeyId, Label, Labels, MeasuredLoad, TenantId};
use std::{collections::BTreeMap, sync::Arc};

#[async_trait]
impl ClusterOperations for VpsClusterProvider {
    async fn check_host(&self, host: &NewHost) -> Result<HostCheck, Error> {
        self.check(host).await
    }

    async fn add_host(&self, host: NewHost) -> Result<(HostStatus, HostCheck), Error> {
        self.barrier().await?;
        Label::check_all(&host.labels).map_err(|error| spec::invalid("labels", error))?;
        if let Some(known) = self.node.read(|state| {
            state.hosts.values().find(|known| known.name == host.name || known.address == host.address).cloned()
        }) {
            return Err(exists(&known));
        }
        let check = self.check(&host).await?;
        let Some(report) = &check.report else { return Err(unconfirmed(&check)) };
        let add = AddHost {
            name: host.name,
            address: host.address,
            identity: host.identity,
            host_key: check.host_key.as_ref().map(|(line, _)| line.clone()),
            labels: host.labels,
            price_milli_per_hour: host.price_milli_per_hour,
            publish: host.publish,
            advertise: host.advertise,
            facts: report.facts.clone(),
            at: self.node.now(),
        };
        let id = match self.node.ledger.propose(Command::AddHost(Box::new(add))).await?.outcome {
            Outcome::HostAdded(id) => id,
            Outcome::Refused(refusal) => return Err(self.refused(&refusal)),
            Outcome::Done | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
                return Err(Error::new(Code::Internal, "apply answered something else than a host"));
            }
        };
        let load = Some(report.load);
        let status = self.node.read(|state| state.hosts.get(&id).map(|host| status(state, host, load)));
        status.map(|status| (status, check)).ok_or_else(|| no_such_host(&id.to_string()))
    }

    async fn hosts(&self) -> Result<Vec<HostStatus>, Error> {
        self.barrier().await?;
        let loads = self.loads().await;
        let mut all = self.node.read(|state| {
            state.hosts.values().map(|host| status(state, host, loads.get(&host.id).copied())).collect::<Vec<_>>()
        });
        all.sort_by(|a, b| a.host.name.cmp(&b.host.name));
        Ok(all)
    }

    async fn host(&self, name: &str) -> Result<HostStatus, Error> {
        self.barrier().await?;
        let loads = self.loads().await;
        let found = self.node.read(|state| {
            let host = find(state, name)?;
            Some(status(state, host, loads.get(&host.id).copied()))
        });
        found.ok_or_else(|| no_such_host(name))
    }

    async fn cordon(&self, host: HostId, reason: Option<&str>) -> Result<(), Error> {
        let text = reason.unwrap_or_default();
        spec::check_reason(text)?;
        let cordon = CordonHost { host, cordoned: reason.is_some(), reason: text.into(), at: self.node.now() };
        self.change(Command::CordonHost(cordon)).await
    }

    async fn label_host(&self, host: HostId, set: Labels, remove: Vec<Box<str>>) -> Result<(), Error> {
        Label::check_all(&set).map_err(|error| spec::invalid("labels", error))?;
        self.change(Command::LabelHost(LabelHost { host, set, remove, at: self.node.now() })).await
    }

    async fn price_host(&self, host: HostId, price_milli_per_hour: u64) -> Result<(), Error> {
        if price_milli_per_hour > policy::PRICE_MAX_MILLI {
            return Err(spec::invalid("price", format_args!("use at most {} thousandths", policy::PRICE_MAX_MILLI)));
        }
        self.change(Command::PriceHost(PriceHost { host, price_milli_per_hour, at: self.node.now() })).await
    }

    async fn remove_host(&self, host: HostId) -> Result<Vec<String>, Error> {
        self.let_go(host).await
    }

    async fn drain_host(&self, host: HostId, wish: DrainWish) -> Result<(), Error> {
        self.drain(host, wish).await
    }

    async fn undrain_host(&self, host: HostId) -> Result<(), Error> {
        self.undrain(host).await
    }

    async fn drain_status(&self, host: HostId) -> Result<DrainStatus, Error> {
        self.drain_progress(host).await
    }

    async fn rebalance(&self, dry_run: bool, spread_permille: Option<u32>) -> Result<Vec<ProposedMove>, Error> {
        self.even_out(dry_run, spread_permille).await
    }

    async fn policy(&self) -> Result<Policy, Error> {
        self.policy_in_force().await
    }

    async fn set_policy(&self, policy: Policy, expected: Option<Policy>) -> Result<Policy, Error> {
        self.replace_policy(policy, expected).await
    }

    async fn backup(&self) -> Result<Backup, Error> {
        self.copy_state().await
    }

    async fn hold_cluster(&self, reason: &str) -> Result<(), Error> {
        self.put_on_hold(reason).await
    }

    async fn resume_cluster(&self, force: bool) -> Result<(), Error> {
        self.end_hold(force).await
    }

    async fn drift(&self) -> Result<DriftReport, Error> {
        self.compare().await
    }

    async fn settle(&self, wish: DriftWish) -> Result<DriftReport, Error> {
        self.settle_drift(wish).await
    }

    async fn create_key(&self, name: &str, role: Role, tenant: TenantId) -> Result<(Arc<ApiKey>, String), Error> {
        self.make_key(name, role, tenant).await
    }

    async fn keys(&self) -> Result<Vec<Arc<ApiKey>>, Error> {
        self.barrier().await?;
        Ok(self.node.read(|state| state.keys.values().cloned().collect()))
    }

    async fn revoke_key(&self, key: KeyId) -> Result<(), Error> {
        self.end_key(key).await
    }

    async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, Error> {
        self.key_of(secret).await
    }

    fn gauges(&self) -> String {
        crate::scrape::text(&self.node)
    }
}

impl VpsClusterProvider {
    /// Asks for the host's key, and surveys the host once that key is confirmed.
    async fn check(&self, host: &NewHost) -> Result<HostCheck, Error> {
        let dial = self.node.drivers.dialler();
        let host_key = dial.host_key(&host.address).await?;
        match (&host_key, &host.fingerprint) {
            (Some((_, shown)), Some(confirmed)) if !same_fingerprint(shown, confirmed) => {
                let message = format!(
                    "{} shows the key {shown}, confirmed was {confirmed}; find out why before going on",
                    host.address
                );
                return Err(Error::new(Code::HostKeyChanged, message));
            }
            (Some(_), None) => return Ok(HostCheck { host_key, report: None, warnings: Vec::new() }),
            (Some(_) | None, _) => {}
        }
        let target = DialTarget {
            name: host.name.to_string(),
            address: host.address.clone(),
            identity: host.identity.clone(),
            host_key: host_key.as_ref().map(|(line, _)| line.clone()),
        };
        let base_image: Option<ImageRef> = self.node.read(|state| state.policy.base_image.clone());
        let report = dial.dial(&target).survey(base_image.as_ref()).await?;
        checks::refuse(&report)?;
        let machine = &report.facts.machine_id;
        let twin = self.node.read(|state| {
            let other = |known: &&Arc<Host>| known.facts.machine_id == *machine && known.address != host.address;
            state.hosts.values().find(other).cloned()
        });
        if let Some(twin) = twin {
            return Err(same_machine(&twin.name));
        }
        let warnings = checks::warnings(&report, base_image.as_ref());
        Ok(HostCheck { host_key, report: Some(report), warnings })
    }

    /// What the leader measured last; nothing while there is no leader, which is no reason to show no hosts.
    async fn loads(&self) -> BTreeMap<HostId, MeasuredLoad> {
        match self.ask(&Question::Loads).await {
            Ok(Answer::Loads(loads)) => loads,
            Ok(
                Answer::Placed(_)
                | Answer::Explained(_)
                | Answer::Host(_)
                | Answer::Awake(_)
                | Answer::Noted
                | Answer::Left(_)
                | Answer::Moves(_)
                | Answer::Error(_),
            )
            | Err(_) => BTreeMap::new(),
        }
    }

    /// A host as this node knows it, by name or id.
    pub(super) fn host_called(&self, name: &str) -> Result<Arc<Host>, Error> {
        self.node.read(|state| find(state, name).cloned()).ok_or_else(|| no_such_host(name))
    }

    pub(super) async fn change(&self, command: Command) -> Result<(), Error> {
        match self.node.ledger.propose(command).await?.outcome {
            Outcome::Refused(refusal) => Err(self.refused(&refusal)),
            Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
                Ok(())
            }
        }
    }

    /// Refusals in an operator's words.
    fn refused(&self, refusal: &Refusal) -> Error {
        let known = |id: &HostId| self.node.read(|state| state.hosts.get(id).cloned());
        match refusal {
            Refusal::HostExists(id) => known(id).map_or_else(|| refusal.clone().into(), |host| exists(&host)),
            Refusal::SameMachine(id) => {
                known(id).map_or_else(|| refusal.clone().into(), |host| same_machine(&host.name))
            }
            Refusal::HostBusy(count) => {
                let message =
                    format!("the host still holds {count} sandboxes; drain it, or cordon it and terminate them first");
                Error::new(Code::HostBusy, message)
            }
            other => other.clone().into(),
        }
    }
}

fn status(state: &State, host: &Arc<Host>, load: Option<MeasuredLoad>) -> HostStatus {
    HostStatus { host: Arc::clone(host), line: state.policy.load_line.of(host.facts.totals), load }
}

/// By name, or by id as `host-3` or `3`; a name wins.
fn find<'a>(state: &'a State, text: &str) -> Option<&'a Arc<Host>> {
    let named = HostName::new(text).ok().and_then(|name| state.host_named(&name));
    named.or_else(|| {
        let id = text.strip_prefix("host-").unwrap_or(text).parse().ok()?;
        state.hosts.get(&HostId(id))
    })
}

/// People copy fingerprints with and without the padding and the name of the hash.
fn same_fingerprint(shown: &str, confirmed: &str) -> bool {
    let bare = |text: &str| {
        let text = text.trim();
        text.strip_prefix("SHA256:").unwrap_or(text).trim_end_matches('=').to_owned()
    };
    bare(shown) == bare(confirmed)
}

fn unconfirmed(check: &HostCheck) -> Error {
    let shown = check.host_key.as_ref().map_or("none", |(_, fingerprint)| fingerprint.as_str());
    let message =
        format!("the host shows the key {shown}; compare it on the host, then confirm it with --fingerprint {shown}");
    Error::new(Code::HostKeyUnknown, message)
}

fn exists(host: &Host) -> Error {
    let address: &HostAddress = &host.address;
    Error::new(
        Code::HostExists,
        format!("host {} at {address} exists; choose another name, or remove it first", host.name),
    )
}

fn same_machine(twin: &HostName) -> Error {
    let message = format!("it is the same machine as host {twin} (by its machine id); its capacity would count twice");
    Error::new(Code::SameMachine, message)
}

pub(super) fn no_such_host(name: &str) -> Error {
    Error::new(Code::HostNotFound, format!("no host {name}; `plimsoll host list` shows those there are"))
}
