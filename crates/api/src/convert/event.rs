//! From events to the wire, and who may see which.

use super::{operation, snapshot};
use plimsoll_client::wire::{self, Time};
use plimsoll_engine::Scope;
use plimsoll_state::{Event, EventKind};

/// Whether a caller may see an event: its own tenant's, or all for operators.
pub(crate) fn visible(scope: &Scope, event: &Event) -> bool {
    match &event.kind {
        EventKind::Sandbox { tenant, .. }
        | EventKind::Work { tenant, .. }
        | EventKind::Moved { tenant, .. }
        | EventKind::Restored { tenant, .. }
        | EventKind::Frozen { tenant, .. }
        | EventKind::Snapshot { tenant, .. }
        | EventKind::Deadline { tenant, .. } => scope.allows(tenant),
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
        EventKind::Work { sandbox, tenant, operation, kind, change } => wire::EventKind::Work {
            sandbox: *sandbox,
            tenant: tenant.clone(),
            operation: *operation,
            kind: operation::kind(*kind),
            change: change.to_string(),
        },
        // Hosts by id: what happened does not change when a host is renamed or removed.
        EventKind::Moved { sandbox, tenant, moved } => wire::EventKind::Moved {
            sandbox: *sandbox,
            tenant: tenant.clone(),
            moved: operation::moved(moved, &|host| host.to_string()),
        },
        EventKind::Restored { sandbox, tenant, restored } => wire::EventKind::Restored {
            sandbox: *sandbox,
            tenant: tenant.clone(),
            restored: operation::restored(restored, &|host| host.to_string()),
        },
        EventKind::Frozen { sandbox, tenant, frozen } => {
            wire::EventKind::Frozen { sandbox: *sandbox, tenant: tenant.clone(), frozen: *frozen }
        }
        EventKind::Snapshot { snapshot, sandbox, tenant, phase } => wire::EventKind::Snapshot {
            snapshot: *snapshot,
            sandbox: *sandbox,
            tenant: tenant.clone(),
            phase: phase.map(snapshot::phase),
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
