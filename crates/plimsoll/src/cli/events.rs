//! `plimsoll events`: what happened, and what happens from now on; a lost connection loses nothing.

use super::{args::Output, print};
use anyhow::Result;
use clap::Args;
use plimsoll_client::{
    Client, Error, EventStream, Heard,
    wire::{Event, EventId, EventKind},
};
use plimsoll_types::{Code, SandboxId, TenantId};
use std::{pin::pin, time::Duration};

/// A stream tells its position in every silence of 15 s; one that does not for this long is dead, whatever TCP thinks.
const SILENCE: Duration = Duration::from_secs(40);
/// Waits between two tries to follow again: short at first, as another node answers at once; the last one goes on for ever.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];

/// `plimsoll events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with new events as they come; a lost connection is taken up where it broke.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events after this position (`INDEX-SEQ`, as printed) [default: all that are kept; with --follow: new ones].
    #[arg(long, value_name = "INDEX-SEQ", value_parser = position)]
    pub after: Option<EventId>,
    /// Only of this sandbox.
    #[arg(long)]
    pub sandbox: Option<SandboxId>,
    /// Only of this tenant's sandboxes.
    #[arg(long)]
    pub tenant: Option<TenantId>,
}

/// A position as the list prints it; `INDEX:SEQ` is understood too.
fn position(text: &str) -> Result<EventId, plimsoll_client::wire::event::InvalidEventId> {
    text.replacen(':', "-", 1).parse()
}

/// `plimsoll events`
pub async fn run(client: &Client, output: Output, args: &EventsArgs) -> Result<()> {
    let mut after = args.after;
    let mut stream = begin(client, args.follow, after).await.map_err(|error| explained(error, after))?;
    let mut tries = 0;
    loop {
        let lost = match hear(&mut stream).await {
            Ok(Some(heard)) => {
                (after, tries) = (Some(heard.id()), 0);
                match heard {
                    Heard::Event(event) if !args.shows(&event) => {}
                    Heard::Event(event) if output == Output::Json => print::line(&serde_json::to_string(&event)?)?,
                    Heard::Event(event) => print::line(&described(&event))?,
                    Heard::Position(_) if !args.follow => return Ok(()),
                    Heard::Position(_) => {}
                }
                continue;
            }
            Ok(None) => "the node ended the stream".to_owned(),
            Err(error) if passes(&error) => error.to_string(),
            Err(error) => return Err(explained(error, after)),
        };
        stream = again(client, args.follow, after, &lost, &mut tries).await?;
    }
}

/// A stream after this event; without one all that is kept, or with --follow what comes.
async fn begin(client: &Client, follow: bool, after: Option<EventId>) -> Result<EventStream, Error> {
    match after {
        None if !follow => client.events_kept().await,
        after => client.events(after).await,
    }
}

async fn hear(stream: &mut EventStream) -> Result<Option<Heard>, Error> {
    let silent = || Error::Interrupted { doing: "GET /v1/events".into(), why: format!("silent for {SILENCE:?}") };
    tokio::time::timeout(SILENCE, pin!(stream.heard())).await.unwrap_or_else(|_| Err(silent()))
}

/// Takes a lost stream up again after what was heard last, on whichever node answers, however long that takes.
async fn again(
    client: &Client,
    follow: bool,
    after: Option<EventId>,
    lost: &str,
    tries: &mut usize,
) -> Result<EventStream> {
    let from = after.map_or_else(|| "the start".to_owned(), |after| after.to_string());
    print::note(&format!("plimsoll: {lost}; going on from {from} as soon as a node answers"));
    loop {
        let wait = RETRIES.get(*tries).or(RETRIES.last()).copied().unwrap_or(SILENCE);
        *tries = tries.saturating_add(1);
        tokio::time::sleep(wait).await;
        match begin(client, follow, after).await {
            Ok(stream) => return Ok(stream),
            Err(error) if passes(&error) => {}
            Err(error) => return Err(explained(error, after)),
        }
    }
}

/// Whether trying again may help: a node is down, restarts, or has no leader for the moment.
fn passes(error: &Error) -> bool {
    matches!(error.code(), Code::NoQuorum | Code::Timeout | Code::Overloaded)
}

/// Events that are gone: which, and how to go on without them.
fn explained(error: Error, after: Option<EventId>) -> anyhow::Error {
    let gone = error.code() == Code::EventsGone;
    let error = anyhow::Error::new(error);
    match after {
        Some(after) if gone => error.context(format!(
            "some events after {after} are gone for good, as only the policy's events_kept last ones are kept; look at the present \
             state (`plimsoll ls`, `plimsoll host list`), then follow from now without --after"
        )),
        Some(_) | None => error,
    }
}

impl EventsArgs {
    /// Whether an event is asked for.
    fn shows(&self, event: &Event) -> bool {
        let (sandbox, tenant) = about(&event.kind).unzip();
        self.sandbox.is_none_or(|wanted| sandbox == Some(wanted))
            && self.tenant.as_ref().is_none_or(|wanted| tenant == Some(wanted))
    }
}

/// The sandbox that an event is about, and whose it is.
const fn about(kind: &EventKind) -> Option<(SandboxId, &TenantId)> {
    match kind {
        EventKind::Sandbox { sandbox, tenant, .. }
        | EventKind::Work { sandbox, tenant, .. }
        | EventKind::Moved { sandbox, tenant, .. }
        | EventKind::Restored { sandbox, tenant, .. }
        | EventKind::Frozen { sandbox, tenant, .. }
        | EventKind::Snapshot { sandbox, tenant, .. }
        | EventKind::Deadline { sandbox, tenant, .. } => Some((*sandbox, tenant)),
        EventKind::Host { .. } | EventKind::Cluster { .. } => None,
    }
}

fn described(event: &Event) -> String {
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let what = match &event.kind {
        EventKind::Sandbox { sandbox, phase, generation, host, reason, .. } => {
            let host = host.as_deref().map(|host| format!(" on {host}")).unwrap_or_default();
            format!("{sandbox} {phase} (generation {generation}){host}{}", because(reason))
        }
        EventKind::Work { sandbox, operation, kind, change, .. } => format!("{sandbox} {kind} {change} ({operation})"),
        EventKind::Moved { sandbox, moved, .. } => format!("{sandbox} {}", super::moving::moved_text(moved)),
        EventKind::Restored { sandbox, restored, .. } => {
            let window = super::lasting::shown(std::time::Duration::from_millis(restored.window_ms));
            format!("{sandbox} restored from {} after {} was lost, {window} is gone", restored.snapshot, restored.from)
        }
        EventKind::Frozen { sandbox, frozen, .. } => {
            format!("{sandbox} {}", if *frozen { "frozen" } else { "thawed" })
        }
        EventKind::Snapshot { snapshot, sandbox, phase, .. } => {
            let phase = phase.map_or_else(|| "gone".to_owned(), |phase| phase.to_string());
            format!("{snapshot} of {sandbox} {phase}")
        }
        EventKind::Deadline { sandbox, deadline, .. } => {
            let deadline = deadline.map_or_else(|| "never".to_owned(), |deadline| deadline.to_string());
            format!("{sandbox} expires {deadline}")
        }
        EventKind::Host { host, change, .. } => format!("{host} {change}"),
        EventKind::Cluster { change } => change.clone(),
    };
    format!("{}  {:<12} {what}", event.at, event.id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_client::wire::Time;
    use plimsoll_types::Timestamp;

    #[test]
    fn positions_are_read_as_printed_and_with_a_colon() {
        let wanted = Some(EventId { index: 12, seq: 3 });
        assert_eq!((position("12-3").ok(), position("12:3").ok()), (wanted, wanted));
        assert!(position("12").is_err() && position("a:b").is_err());
    }

    #[test]
    fn filters_leave_out_what_is_not_about_them() {
        let (one, two) = (SandboxId::from_parts(1, 1), SandboxId::from_parts(1, 2));
        let tenant = TenantId::new("blue").expect("a name");
        let event = |kind| Event { index: 1, seq: 0, at: Time(Timestamp(0)), kind };
        let frozen = event(EventKind::Frozen { sandbox: one, tenant: tenant.clone(), frozen: true });
        let host = event(EventKind::Host { host: "host-1".into(), health: None, change: "added".into() });
        let args = |sandbox, tenant| EventsArgs { follow: false, after: None, sandbox, tenant };
        assert!(args(None, None).shows(&frozen) && args(None, None).shows(&host));
        assert!(args(Some(one), Some(tenant.clone())).shows(&frozen) && !args(Some(two), None).shows(&frozen));
        assert!(!args(None, Some(TenantId::default_tenant())).shows(&frozen) && !args(None, Some(tenant)).shows(&host));
    }
}
