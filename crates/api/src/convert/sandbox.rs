//! From a sandbox's record to the wire.

use plimsoll_client::wire::{self, Cpu, Size, Time};
use plimsoll_engine::request::url_of;
use plimsoll_lifecycle::ports::{ContainerStats, Ledger, ledger};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Endpoint, HostId, HostName, sandbox};

/// A record with the name of its host, read from the state as applied here.
pub(crate) fn sandbox(ledger: &dyn Ledger, record: &Sandbox) -> wire::Sandbox {
    let host = record.assignment.and_then(|assignment| ledger::read(ledger, |state| host_name(state, assignment.host)));
    with_host(record, host)
}

/// What the operator calls a host.
pub(crate) fn host_name(state: &State, host: HostId) -> Option<HostName> {
    state.hosts.get(&host).map(|host| host.name.clone())
}

/// A record whose host's name is known.
pub(crate) fn with_host(record: &Sandbox, host: Option<HostName>) -> wire::Sandbox {
    let spec = &record.spec;
    wire::Sandbox {
        id: record.id,
        tenant: record.tenant.clone(),
        session: record.session.clone(),
        phase: record.phase,
        desired: record.desired,
        reason: record.reason.to_string(),
        generation: record.generation.0,
        host,
        container: record.container.as_ref().map(ToString::to_string),
        image: spec.image.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        resources: spec.resources.into(),
        pids: spec.pids_limit,
        runtime: spec.runtime,
        labels: spec.labels.clone(),
        constraints: spec.constraints.iter().map(ToString::to_string).collect(),
        anti_affinity: spec.anti_affinity.as_ref().map(ToString::to_string),
        on_expiry: spec.on_expiry,
        on_host_loss: spec.on_host_loss,
        endpoints: endpoints(&record.endpoints),
        tunnel_url: url_of(&record.endpoints, sandbox::TUNNEL_PORT),
        preview_url: url_of(&record.endpoints, sandbox::PREVIEW_PORT),
        created_at: Time(record.created_at),
        started_at: record.started_at.map(Time),
        ended_at: record.ended_at.map(Time),
        phase_since: Time(record.phase_since),
        deadline: record.deadline.map(Time),
        queue_until: record.queue_until.map(Time),
    }
}

/// Published ports.
pub(crate) fn endpoints(endpoints: &[Endpoint]) -> Vec<wire::Endpoint> {
    let one = |endpoint: &Endpoint| wire::Endpoint {
        port: endpoint.port,
        address: endpoint.address.to_string(),
        host_port: endpoint.host_port,
        url: endpoint.to_string(),
    };
    endpoints.iter().map(one).collect()
}

/// What a container uses.
pub(crate) fn stats(stats: ContainerStats) -> wire::Stats {
    wire::Stats {
        at: Time(stats.at),
        cpu: Cpu(stats.cpu),
        cpu_total_ms: stats.cpu_total_ms,
        memory: Size(stats.memory),
        memory_limit: Size(stats.memory_limit),
        pids: stats.pids,
        received: Size(stats.received),
        sent: Size(stats.sent),
    }
}
