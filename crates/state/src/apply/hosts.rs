//! Hosts come, are reported on and go. Health changes here; what that means for the sandboxes on a host is for explicit
//! commands to say.

use super::entry::Entry;
use crate::{
    Outcome, Refusal, State,
    command::{AddHost, RemoveHost, ReportHost},
    model::Host,
};
use plimsoll_types::{Health, HostId, Label, Resources};
use std::sync::Arc;

/// Most hosts: what placement and polling are measured for.
pub const HOSTS_LIMIT: usize = 10_000;

pub(super) fn add(state: &mut State, entry: &mut Entry, add: &AddHost) -> Result<Outcome, Refusal> {
    let index = &state.index;
    if let Some(known) = index.host_names.get(&add.name).or_else(|| index.host_addresses.get(&add.address)) {
        let retried = state.hosts.get(known).is_some_and(|host| same_proposal(host, add));
        return if retried { Ok(Outcome::HostAdded(*known)) } else { Err(Refusal::HostExists(*known)) };
    }
    if let Some(known) = index.machines.get(&add.facts.machine_id) {
        return Err(Refusal::SameMachine(*known));
    }
    if state.hosts.len() >= HOSTS_LIMIT || add.labels.len() > Label::MAX_COUNT {
        return Err(Refusal::LimitReached);
    }
    let id = HostId(state.next_host);
    state.next_host = state.next_host.checked_add(1).ok_or(Refusal::LimitReached)?;
    let host = Arc::new(new_host(id, add));
    state.index.add_host(&host);
    state.index.touched.note(state.applied, id);
    state.hosts.insert(id, host);
    entry.host(state, id, add.at, "added");
    Ok(Outcome::HostAdded(id))
}

/// Whether this host was made by this very proposal, whose answer was lost.
fn same_proposal(host: &Host, add: &AddHost) -> bool {
    host.name == add.name && host.address == add.address && host.host_key == add.host_key && host.added_at == add.at
}

fn new_host(id: HostId, add: &AddHost) -> Host {
    Host {
        id,
        name: add.name.clone(),
        address: add.address.clone(),
        identity: add.identity.clone(),
        host_key: add.host_key.clone(),
        labels: add.labels.clone(),
        price_milli_per_hour: add.price_milli_per_hour,
        publish: add.publish,
        advertise: add.advertise.clone(),
        facts: add.facts.clone(),
        health: Health::Ready,
        health_since: add.at,
        health_reason: "".into(),
        cordon: None,
        quarantine: None,
        disk_full: None,
        drain: None,
        reserved: Resources::ZERO,
        line: Resources::ZERO,
        sandboxes: 0,
        added_at: add.at,
    }
}

/// Facts may shrink below what is reserved: nothing is taken away from the sandboxes there, and nothing new fits. A host
/// that turns out to be another host's machine is refused, because its capacity would count twice.
pub(super) fn note(state: &mut State, entry: &mut Entry, report: &ReportHost) -> Result<Outcome, Refusal> {
    let known = state.hosts.get(&report.host).ok_or(Refusal::HostUnknown)?;
    if let Some(facts) = &report.facts
        && let Some(other) = state.index.machines.get(&facts.machine_id)
        && *other != report.host
    {
        return Err(Refusal::SameMachine(*other));
    }
    let changed = known.health != report.health;
    state.index.touched.note(state.applied, report.host);
    let Some(host) = state.hosts.get_mut(&report.host).map(Arc::make_mut) else { return Err(Refusal::HostUnknown) };
    host.health_reason = report.reason.clone();
    if changed {
        host.health = report.health;
        host.health_since = report.at;
    }
    if let Some(facts) = &report.facts {
        state.index.remove_host(host);
        host.facts = facts.clone();
        state.index.add_host(host);
    }
    if changed {
        let text = health_text(report);
        entry.host(state, report.host, report.at, &text);
    }
    Ok(Outcome::Done)
}

fn health_text(report: &ReportHost) -> String {
    if report.reason.is_empty() { report.health.to_string() } else { format!("{}: {}", report.health, report.reason) }
}

pub(super) fn remove(state: &mut State, entry: &mut Entry, remove: &RemoveHost) -> Result<Outcome, Refusal> {
    let host = state.hosts.get(&remove.host).ok_or(Refusal::HostUnknown)?;
    if host.sandboxes > 0 {
        return Err(Refusal::HostBusy(host.sandboxes));
    }
    state.index.remove_host(host);
    state.index.touched.note(state.applied, remove.host);
    state.hosts.remove(&remove.host);
    entry.host(state, remove.host, remove.at, "removed");
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PlaceOutcome, testing::*};
    use plimsoll_types::HostFacts;

    fn add_command(add: AddHost) -> Command {
        Command::AddHost(Box::new(add))
    }

    fn report_command(report: ReportHost) -> Command {
        Command::ReportHost(Box::new(report))
    }

    #[test]
    fn a_host_is_added_once_by_name_address_and_machine() {
        let mut state = cluster_with(1);
        check(&mut state, &add_command(add_host(0)), &Outcome::HostAdded(HostId(0)));
        let exists = Outcome::Refused(Refusal::HostExists(HostId(0)));
        check(&mut state, &add_command(AddHost { name: add_host(0).name, ..add_host(1) }), &exists);
        check(&mut state, &add_command(AddHost { address: add_host(0).address, ..add_host(1) }), &exists);
        let same = AddHost { facts: facts(0), ..add_host(1) };
        check(&mut state, &add_command(same), &Outcome::Refused(Refusal::SameMachine(HostId(0))));
        let unnamed = |n| AddHost { facts: HostFacts::default(), ..add_host(n) };
        check(&mut state, &add_command(unnamed(1)), &Outcome::HostAdded(HostId(1)));
        check(&mut state, &add_command(unnamed(2)), &Outcome::HostAdded(HostId(2)));
    }

    #[test]
    fn only_an_empty_host_is_removed_and_its_id_is_not_used_again() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let remove = Command::RemoveHost(RemoveHost { host: HostId(0), at: at(50) });
        check(&mut state, &remove, &Outcome::Refused(Refusal::HostBusy(1)));
        check_one(&mut state, &Command::Terminate(vec![terminate(1)]), Ok(()));
        check(&mut state, &remove, &Outcome::Refused(Refusal::HostBusy(1)));
        check_one(&mut state, &advance(news(1, plimsoll_types::Phase::Terminated)), Ok(()));
        check(&mut state, &remove, &Outcome::Done);
        check(&mut state, &remove, &Outcome::Refused(Refusal::HostUnknown));
        check(&mut state, &add_command(add_host(0)), &Outcome::HostAdded(HostId(1)));
    }

    #[test]
    fn health_changes_once_and_leaves_sandboxes_alone() {
        let mut state = cluster_with(1);
        run(&mut state, 1, 0);
        let events = state.events.len();
        check(&mut state, &report_command(report(0, Health::Ready, 50)), &Outcome::Done);
        assert_eq!((host(&state, 0).health_since, state.events.len()), (at(1), events));
        check(&mut state, &report_command(report(0, Health::Lost, 60)), &Outcome::Done);
        assert_eq!((host(&state, 0).health_since, state.events.len()), (at(60), events + 1));
        assert_eq!(sandbox(&state, 1).phase, plimsoll_types::Phase::Running);
        check(&mut state, &report_command(report(4, Health::Lost, 60)), &Outcome::Refused(Refusal::HostUnknown));
    }

    #[test]
    fn a_shrunk_host_takes_nothing_new_and_loses_nothing() {
        let mut state = cluster_with(2);
        run(&mut state, 1, 0);
        let small = HostFacts { totals: Resources::ZERO, ..facts(0) };
        let shrunk = ReportHost { facts: Some(small), ..report(0, Health::Ready, 50) };
        check(&mut state, &report_command(shrunk), &Outcome::Done);
        assert_eq!(host(&state, 0).sandboxes, 1);
        check_place(&mut state, place(2, 0), PlaceOutcome::Refused(Refusal::HostChanged));
        let twin = ReportHost { facts: Some(facts(1)), ..report(0, Health::Ready, 51) };
        check(&mut state, &report_command(twin), &Outcome::Refused(Refusal::SameMachine(HostId(1))));
    }
}
