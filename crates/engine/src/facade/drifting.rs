//! Drift: every host's containers compared with state, and, on hold and when told, settled one class at a time.
//!
//! It works on whichever node is asked: on hold no leader acts, and every step looks at state behind a barrier first.

use super::VpsClusterProvider;
use crate::{
    Error,
    cluster::{DriftLine, DriftReport, DriftWish, Settled},
    leader::ready,
};
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::{
    naming,
    planner::{self, Finding, Sighting, Verdict},
    ports::{ContainerMade, ContainerSeen, ContainerState},
};
use plimsoll_state::{
    Assignment, Command, Host, Outcome, Refusal, State,
    command::{Found, TakeOver, WriteOff},
};
use plimsoll_types::{Code, HostId, HostName, Resources, SandboxSpec, SnapshotId, TenantId};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time;

/// Hosts asked at once.
const HOSTS_AT_ONCE: usize = 16;
/// A host that takes longer to list its containers counts as silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sandboxes given up in one command.
const BATCH: usize = 256;
/// The reason of a sandbox that is given up.
const NOWHERE: &str = "start_failed: no host had a container of it when the cluster was compared with its hosts";

impl VpsClusterProvider {
    /// Looks at all hosts and compares.
    pub(super) async fn compare(&self) -> Result<DriftReport, Error> {
        self.barrier().await?;
        let (hosts, cluster) = self.node.read(|state| (state.hosts.clone(), state.cluster));
        let Some(cluster) = cluster else { return Err(Error::new(Code::NoQuorum, "the cluster has no identity yet")) };
        let asked = stream::iter(hosts.values().cloned()).map(|host| async move {
            let driver = self.node.drivers.of(&host);
            let listed = time::timeout(PATIENCE, driver.list_containers(cluster)).await;
            let listed = match listed {
                Ok(Ok(list)) => Ok(list),
                Ok(Err(error)) => Err(format!("{}: {error}", error.code)),
                Err(_) => Err(format!("no answer within {PATIENCE:?}")),
            };
            (host.id, listed)
        });
        let mut answers: Vec<_> = asked.buffer_unordered(HOSTS_AT_ONCE).collect().await;
        answers.sort_by_key(|(host, _)| *host);
        let (mut sighting, mut silent) = (Sighting::default(), Vec::new());
        for (id, answer) in answers {
            match answer {
                Ok(list) => drop(sighting.seen.insert(id, list)),
                Err(why) => {
                    sighting.silent.insert(id);
                    silent.extend(hosts.get(&id).map(|host| (host.name.clone(), why)));
                }
            }
        }
        let unrecorded = self.unrecorded(cluster).await;
        self.barrier().await?;
        let (hold, lines) = self.node.read(|state| {
            let lines = planner::drift(state, &sighting).into_iter().map(|finding| line(state, finding)).collect();
            (state.hold.clone(), lines)
        });
        let answered = u32::try_from(sighting.seen.len()).unwrap_or(u32::MAX);
        Ok(DriftReport { hold, answered, silent, unrecorded, lines, settled: Vec::new() })
    }

    /// Snapshots that were taken after the backup: nothing names them, and the registry's sweep deletes them after the hold.
    async fn unrecorded(&self, cluster: plimsoll_types::ClusterId) -> Option<u64> {
        let registry = self.node.registry()?;
        let listed = time::timeout(PATIENCE, registry.list(cluster)).await.ok()?.ok()?;
        let unknown = |id: &SnapshotId| self.node.read(|state| !state.snapshots.contains_key(id));
        let count = listed.iter().filter_map(|seen| seen.snapshot).filter(|id| unknown(id)).count();
        u64::try_from(count).ok()
    }

    /// Gives up first, which frees sessions and room; then takes over; removes last, by what state says then.
    pub(super) async fn settle_drift(&self, wish: DriftWish) -> Result<DriftReport, Error> {
        let mut report = self.compare().await?;
        if report.hold.is_none() {
            let message =
                "drift is settled on hold only; `plimsoll cluster hold` first, so that nothing changes meanwhile";
            return Err(Error::new(Code::Conflict, message));
        }
        let mut settled = Vec::new();
        if wish.mark_lost {
            self.give_up(&report.lines, &mut settled).await?;
        }
        if wish.adopt {
            self.take_over_all(&report.lines, &mut settled).await?;
        }
        if wish.remove_orphans {
            report = self.compare().await?;
            self.remove_orphans(&report.lines, &mut settled).await?;
        }
        report = self.compare().await?;
        report.settled = settled;
        Ok(report)
    }

    async fn give_up(&self, lines: &[DriftLine], settled: &mut Vec<Settled>) -> Result<(), Error> {
        let lost: Vec<&DriftLine> = of(lines, Verdict::Lost).collect();
        for batch in lost.chunks(BATCH) {
            let at = self.node.now();
            let write_off = |line: &&DriftLine| WriteOff {
                sandbox: line.finding.sandbox,
                generation: line.finding.generation,
                reason: NOWHERE.into(),
                at,
            };
            let outcome = self.node.commit(Command::WriteOff(batch.iter().map(write_off).collect())).await?;
            let Outcome::Each(each) = outcome else { continue };
            for (line, outcome) in batch.iter().zip(each) {
                settled.push(done(line, outcome.err().map(|refusal| said(&refusal))));
            }
        }
        Ok(())
    }

    /// One that moved may wait for the room that another one leaves: again, as long as any succeeds.
    async fn take_over_all(&self, lines: &[DriftLine], settled: &mut Vec<Settled>) -> Result<(), Error> {
        let mut left: Vec<&DriftLine> = of(lines, Verdict::Adopt).collect();
        loop {
            let (mut refused, before) = (Vec::new(), left.len());
            for line in left {
                match self.take_over(&line.finding).await {
                    Ok(()) => settled.push(done(line, None)),
                    Err(error) if error.code == Code::NoQuorum => return Err(error),
                    Err(error) => refused.push((line, error)),
                }
            }
            if refused.is_empty() || refused.len() == before {
                settled.extend(refused.into_iter().map(|(line, error)| done(line, Some(error.message))));
                return Ok(());
            }
            left = refused.into_iter().map(|(line, _)| line).collect();
        }
    }

    async fn take_over(&self, finding: &Finding) -> Result<(), Error> {
        let gone = || Error::new(Code::Conflict, "it is not there any more; look again");
        let (Some(seen), Some(host)) = (&finding.seen, finding.host) else { return Err(gone()) };
        let host = self.node.read(|state| state.hosts.get(&host).cloned()).ok_or_else(gone)?;
        let known = self.node.read(|state| state.sandboxes.get(&finding.sandbox).map(|it| Arc::clone(&it.spec)));
        let made = match &known {
            Some(_) => None,
            None => Some(self.found(&host, seen).await?),
        };
        let spec = known.or_else(|| made.as_ref().map(|made| Arc::clone(&made.spec))).ok_or_else(gone)?;
        let item = TakeOver {
            sandbox: finding.sandbox,
            assignment: Assignment { host: host.id, generation: finding.generation },
            container: seen.id.as_str().into(),
            endpoints: ready::endpoints(&host, &spec.ports, seen),
            frozen: seen.state == ContainerState::Paused,
            made,
            at: self.node.now(),
        };
        match self.node.ledger.propose(Command::TakeOver(Box::new(item))).await?.outcome {
            Outcome::Refused(refusal) => Err(Error::new(refusal.code(), said(&refusal))),
            Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
                Ok(())
            }
        }
    }

    /// What can be told of a sandbox of which only its container is known.
    async fn found(&self, host: &Host, seen: &ContainerSeen) -> Result<Found, Error> {
        let unread = |what: &str| Error::new(Code::Conflict, format!("container {}: {what}", seen.name));
        let made = self.node.drivers.of(host).made_with(&seen.id).await?;
        let made = made.ok_or_else(|| unread("it does not show what it was made with"))?;
        let operation = seen.operation.ok_or_else(|| unread("its labels name no operation"))?;
        let session = seen.session.clone().ok_or_else(|| unread("its labels name no session"))?;
        let tenant = seen.tenant.clone().unwrap_or_else(TenantId::default_tenant);
        let spec = Arc::new(self.node.read(|state| spec_of(state, &made, seen)));
        Ok(Found { tenant, session, spec, operation, created_at: seen.created_at })
    }

    async fn remove_orphans(&self, lines: &[DriftLine], settled: &mut Vec<Settled>) -> Result<(), Error> {
        for line in of(lines, Verdict::Orphan) {
            let (Some(seen), Some(host)) = (&line.finding.seen, line.finding.host) else { continue };
            // A leader that acts again judges by itself.
            if self.node.read(|state| state.hold.is_none()) {
                return Err(Error::new(Code::Conflict, "the hold was ended meanwhile; the rest is left as it is"));
            }
            let Some(host) = self.node.read(|state| state.hosts.get(&host).cloned()) else { continue };
            tracing::warn!(host = %host.name, container = %seen.name, why = %line.finding.why, "removed as an orphan");
            let removed = self.node.drivers.of(&host).remove_container(&seen.id).await;
            settled.push(done(line, removed.err().map(|error| error.message)));
        }
        Ok(())
    }
}

fn of(lines: &[DriftLine], verdict: Verdict) -> impl Iterator<Item = &DriftLine> {
    lines.iter().filter(move |line| line.finding.verdict == verdict)
}

fn done(line: &DriftLine, refused: Option<String>) -> Settled {
    Settled { verdict: line.finding.verdict, sandbox: line.finding.sandbox, host: line.host.clone(), refused }
}

fn line(state: &State, finding: Finding) -> DriftLine {
    let known = state.sandboxes.get(&finding.sandbox);
    let seen = finding.seen.as_ref();
    let name = |id: HostId| -> Option<HostName> { state.hosts.get(&id).map(|host| host.name.clone()) };
    DriftLine {
        session: known.map(|it| it.session.clone()).or_else(|| seen.and_then(|seen| seen.session.clone())),
        tenant: known.map(|it| it.tenant.clone()).or_else(|| seen.and_then(|seen| seen.tenant.clone())),
        host: finding.host.and_then(name),
        finding,
    }
}

/// What Docker shows of what was asked for. What only state knew (deadline, policies, constraints, labels, disk, secrets) is as by default.
fn spec_of(state: &State, made: &ContainerMade, seen: &ContainerSeen) -> SandboxSpec {
    let env: BTreeMap<String, String> = made.env.clone();
    let disk = Resources::DEFAULT_SANDBOX.disk;
    let mut spec = SandboxSpec {
        command: made.command.clone(),
        env,
        resources: Resources { cpu: made.cpu, memory: made.memory, disk },
        pids_limit: made.pids_limit,
        ports: seen.ports.iter().map(|(inside, ..)| *inside).collect(),
        runtime: made.runtime,
        ..SandboxSpec::new(made.image.clone())
    };
    // One that began from a snapshot shows that one's name on its host.
    let tag = made.image.as_str().rsplit_once(':').map(|(name, tag)| (name, tag.parse::<SnapshotId>()));
    if let (Some((name, Ok(id))), Some(cluster)) = (tag, state.cluster)
        && name == naming::snapshot_images(cluster)
        && let Some(snapshot) = state.snapshots.get(&id)
    {
        spec.image = snapshot.image.clone();
        spec.snapshot = Some(id);
    }
    spec
}

/// Refusals in the words of somebody who takes over.
fn said(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Conflict => {
            "its session has another live sandbox; settle that one first (--mark-lost, if it is lost)".to_owned()
        }
        Refusal::HostChanged => {
            "its host has no room left for it under the load line; raise the line, or settle others first".to_owned()
        }
        other => other.code().meaning().to_owned(),
    }
}
