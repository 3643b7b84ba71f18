//! What operators, the monitor and the collector say about a host: cordon, labels, price, quarantine, a full disk. None of it touches what runs there.

use super::entry::Entry;
use crate::{
    Outcome, Refusal, State,
    command::{CordonHost, DrainHost, LabelHost, NoteDisk, PriceHost, QuarantineHost},
    model::{Cordon, Drain, Host},
};
use plimsoll_types::{HostId, Label};
use std::sync::Arc;

/// A host that is cordoned again keeps the time since when it is.
pub(super) fn cordon(state: &mut State, entry: &mut Entry, command: &CordonHost) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let since = host.cordon.as_ref().map_or(command.at, |cordon| cordon.at);
    let cordon = command.cordoned.then(|| Cordon { at: since, reason: command.reason.clone() });
    if host.cordon != cordon {
        let change = if cordon.is_some() { "cordoned" } else { "uncordoned" };
        host.cordon = cordon;
        entry.host(state, command.host, command.at, &said(change, &command.reason));
    }
    Ok(Outcome::Done)
}

/// A host that is drained again keeps the time since when it is.
pub(super) fn drain(state: &mut State, entry: &mut Entry, command: &DrainHost) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let since = host.drain.as_ref().map(|drain| drain.at);
    let drain = command.drain.clone().map(|drain| Drain { at: since.unwrap_or(drain.at), ..drain });
    if host.drain != drain {
        let change = if drain.is_some() { "draining" } else { "undrained" };
        let reason = drain.as_ref().map(|drain| drain.reason.to_string()).unwrap_or_default();
        host.drain = drain;
        entry.host(state, command.host, command.at, &said(change, &reason));
    }
    Ok(Outcome::Done)
}

/// Keys are removed first, then set.
pub(super) fn label(state: &mut State, entry: &mut Entry, command: &LabelHost) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let mut labels = host.labels.clone();
    for key in &command.remove {
        labels.remove(key);
    }
    labels.extend(command.set.clone());
    if labels.len() > Label::MAX_COUNT {
        return Err(Refusal::LimitReached);
    }
    if host.labels != labels {
        host.labels = labels;
        entry.host(state, command.host, command.at, "labels changed");
    }
    Ok(Outcome::Done)
}

pub(super) fn price(state: &mut State, entry: &mut Entry, command: &PriceHost) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let (old, new) = (host.price_milli_per_hour, command.price_milli_per_hour);
    if old != new {
        host.price_milli_per_hour = new;
        entry.host(
            state,
            command.host,
            command.at,
            &format!("price changed: {} to {} an hour", units(old), units(new)),
        );
    }
    Ok(Outcome::Done)
}

/// Thousandths as people write them.
fn units(milli: u64) -> String {
    format!("{}.{:03}", milli / 1000, milli % 1000)
}

/// What fills a disk changes all the time: only the beginning and the end are events.
pub(super) fn note_disk(state: &mut State, entry: &mut Entry, command: &NoteDisk) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let since = host.disk_full.as_ref().map(|full| full.at);
    host.disk_full = command.reason.clone().map(|reason| Cordon { at: since.unwrap_or(command.at), reason });
    match (&command.reason, since) {
        (Some(reason), None) => entry.host(state, command.host, command.at, &said("disk nearly full", reason)),
        (None, Some(_)) => entry.host(state, command.host, command.at, "disk has room again"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    Ok(Outcome::Done)
}

pub(super) fn quarantine(state: &mut State, entry: &mut Entry, command: &QuarantineHost) -> Result<Outcome, Refusal> {
    let host = known(state, command.host)?;
    let quarantine = command.until.map(|until| Cordon { at: until, reason: command.reason.clone() });
    if host.quarantine != quarantine {
        let change = if quarantine.is_some() { "quarantined" } else { "quarantine ended" };
        host.quarantine = quarantine;
        entry.host(state, command.host, command.at, &said(change, &command.reason));
    }
    Ok(Outcome::Done)
}

fn known(state: &mut State, host: HostId) -> Result<&mut Host, Refusal> {
    state.index.touched.note(state.applied, host);
    state.hosts.get_mut(&host).map(Arc::make_mut).ok_or(Refusal::HostUnknown)
}

fn said(change: &str, reason: &str) -> String {
    if reason.is_empty() { change.into() } else { format!("{change}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, testing::*};
    use plimsoll_types::Labels;

    #[test]
    fn a_cordon_keeps_its_beginning_and_is_said_once() {
        let mut state = cluster_with(1);
        let cordon = |cordoned, seconds| {
            Command::CordonHost(CordonHost { host: HostId(0), cordoned, reason: "disk".into(), at: at(seconds) })
        };
        check(&mut state, &cordon(true, 5), &Outcome::Done);
        let events = state.events.len();
        check(&mut state, &cordon(true, 6), &Outcome::Done);
        assert_eq!(host(&state, 0).cordon.as_ref().map(|cordon| cordon.at), Some(at(5)));
        assert_eq!(state.events.len(), events);
        check(&mut state, &cordon(false, 7), &Outcome::Done);
        assert_eq!((&host(&state, 0).cordon, state.events.len()), (&None, events + 1));
    }

    #[test]
    fn labels_are_removed_then_set_within_their_limit() {
        let mut state = cluster_with(1);
        let label = |set: Labels, remove: Vec<Box<str>>| {
            Command::LabelHost(LabelHost { host: HostId(0), set, remove, at: at(5) })
        };
        let gpu = Labels::from([("gpu".into(), "1".into())]);
        check(&mut state, &label(gpu.clone(), vec!["zone".into()]), &Outcome::Done);
        assert_eq!(host(&state, 0).labels, gpu);
        let many = (0..=Label::MAX_COUNT).map(|n| (format!("k{n}").into(), "".into())).collect();
        check(&mut state, &label(many, Vec::new()), &Outcome::Refused(Refusal::LimitReached));
        assert_eq!(host(&state, 0).labels, gpu);
    }

    #[test]
    fn a_price_changes_and_is_said_once() {
        let mut state = cluster_with(1);
        let price =
            |price_milli_per_hour| Command::PriceHost(PriceHost { host: HostId(0), price_milli_per_hour, at: at(5) });
        let (before, events) = (host(&state, 0).price_milli_per_hour, state.events.len());
        check(&mut state, &price(before), &Outcome::Done);
        assert_eq!(state.events.len(), events);
        check(&mut state, &price(1_045), &Outcome::Done);
        check(&mut state, &price(1_045), &Outcome::Done);
        assert_eq!((host(&state, 0).price_milli_per_hour, state.events.len()), (1_045, events + 1));
        let unknown = Command::PriceHost(PriceHost { host: HostId(9), price_milli_per_hour: 1, at: at(5) });
        check(&mut state, &unknown, &Outcome::Refused(Refusal::HostUnknown));
    }

    #[test]
    fn a_full_disk_keeps_its_beginning_and_is_said_when_it_begins_and_ends() {
        let mut state = cluster_with(1);
        let note = |reason: Option<&str>, seconds| {
            Command::NoteDisk(NoteDisk { host: HostId(0), reason: reason.map(Into::into), at: at(seconds) })
        };
        let events = state.events.len();
        check(&mut state, &note(None, 5), &Outcome::Done);
        assert_eq!(state.events.len(), events);
        check(&mut state, &note(Some("images"), 6), &Outcome::Done);
        check(&mut state, &note(Some("logs"), 7), &Outcome::Done);
        let full = host(&state, 0).disk_full.clone().expect("it is full");
        assert_eq!((full.at, &*full.reason, state.events.len()), (at(6), "logs", events + 1));
        check(&mut state, &note(None, 8), &Outcome::Done);
        assert_eq!((&host(&state, 0).disk_full, state.events.len()), (&None, events + 2));
    }

    #[test]
    fn a_quarantine_begins_and_ends() {
        let mut state = cluster_with(1);
        let quarantine =
            |until| Command::QuarantineHost(QuarantineHost { host: HostId(0), until, reason: "".into(), at: at(5) });
        check(&mut state, &quarantine(Some(at(60))), &Outcome::Done);
        assert_eq!(host(&state, 0).quarantine.as_ref().map(|quarantine| quarantine.at), Some(at(60)));
        check(&mut state, &quarantine(None), &Outcome::Done);
        assert_eq!(host(&state, 0).quarantine, None);
    }
}
