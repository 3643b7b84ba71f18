//! Whether a host still takes a sandbox: apply's own look at what the placer assumed. Measured load is not state, so only
//! reservations count here.

use crate::{Refusal, State, model::Host};
use plimsoll_types::{HostId, SandboxId, SandboxSpec, SnapshotId, TenantId, Timestamp};

/// Checks the host chosen for a sandbox.
///
/// # Errors
/// `HostUnknown`, or `HostChanged` for everything that deciding again may mend.
pub(super) fn check(
    state: &State,
    host: HostId,
    tenant: &TenantId,
    spec: &SandboxSpec,
    base: Option<SnapshotId>,
    at: Timestamp,
) -> Result<(), Refusal> {
    let host = state.hosts.get(&host).ok_or(Refusal::HostUnknown)?;
    let takes = open(host, at)
        && suits(host, spec)
        && runs(state, host, base)
        && has_room(state, host, spec)
        && apart(state, host, tenant, spec);
    if takes { Ok(()) } else { Err(Refusal::HostChanged) }
}

fn open(host: &Host, at: Timestamp) -> bool {
    let quarantined = host.quarantine.as_ref().is_some_and(|quarantine| quarantine.at > at);
    host.health == plimsoll_types::Health::Ready && host.cordon.is_none() && host.drain.is_none() && !quarantined
}

fn suits(host: &Host, spec: &SandboxSpec) -> bool {
    spec.constraints.iter().all(|constraint| constraint.matches(&host.labels))
        && host.facts.runtimes.iter().any(|runtime| runtime == spec.runtime.as_str())
}

/// A snapshot runs only on the architecture that it was taken on.
fn runs(state: &State, host: &Host, base: Option<SnapshotId>) -> bool {
    let stored = base.and_then(|base| state.snapshots.get(&base)).and_then(|snapshot| snapshot.stored.as_ref());
    stored.is_none_or(|stored| *stored.architecture == *host.facts.architecture)
}

/// Whether the host has that much left under its line.
pub(super) fn has_room(state: &State, host: &Host, spec: &SandboxSpec) -> bool {
    let line = state.policy.load_line.of(host.facts.totals);
    host.reserved.checked_add(spec.resources).is_some_and(|sum| sum.fits_in(line))
}

/// Looks only at the sandboxes on this host, and only if the sandbox asks to be apart.
fn apart(state: &State, host: &Host, tenant: &TenantId, spec: &SandboxSpec) -> bool {
    let (Some(group), Some(there)) = (&spec.anti_affinity, state.index.by_host.get(&host.id)) else { return true };
    let same = |id: &SandboxId| {
        let other = state.sandboxes.get(id);
        other.is_some_and(|other| other.tenant == *tenant && other.spec.anti_affinity.as_ref() == Some(group))
    };
    !there.iter().any(same)
}
