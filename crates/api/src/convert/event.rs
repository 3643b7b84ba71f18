//! From events to the wire, and who may see which.

use plimsoll_client::wire::{self, Time};
use plimsoll_engine::Scope;
use plimsoll_state::{Event, EventKind};

/// Whether a caller may see an event: its own tenant's, or all for operators.
pub(crate) fn visible(scope: &Scope, event: &Event) -> bool {
    match &event.kind {
        EventKind::Sandbox { tenant, .. } | EventKind::Deadline { tenant, .. } => scope.allows(tenant),
        EventKind::Host { .. } | EventKind::Cluster { .. } => *scope == Scope::All,
    }
}

/// One event.
pub(crate) fn event(event: &Event) -> wire::Event {
    let kind = match &event.kind {
        EventKind::Sandbox { sandbox, tenant, phase, generation, host, reason } => wire::EventKind::Sandbox {
            sandbox: *sandbox,
            tenant: tenant.clone(),
            phase: *phase,
            generation: generation.0,
            host: host.map(|host| host.to_string()),
            reason: reason.to_string(),
        },
        EventKind::Deadline { sandbox, tenant, deadline } => {
            wire::EventKind::Deadline { sandbox: *sandbox, tenant: tenant.clone(), deadline: deadline.map(Time) }
        }
        EventKind::Host { host, health, change } => {
            wire::EventKind::Host { host: host.to_string(), health: *health, change: change.to_string() }
        }
        EventKind::Cluster { change } => wire::EventKind::Cluster { change: change.to_string() },
    };
    wire::Event { index: event.index, seq: event.seq, at: Time(event.at), kind }
}
