//! From a sandbox's record to the wire.

use super::operation;
use crate::options::Api;
use plimsoll_client::wire::{self, Cpu, Size, Time};
use plimsoll_engine::{Awake, request::url_of};
use plimsoll_lifecycle::ports::{ContainerStats, ledger};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{Endpoint, HostId, HostName, Millis, Timestamp, sandbox};
use std::collections::BTreeMap;

/// A record with what is around it, read from the state as applied here.
pub(crate) fn sandbox(api: &Api, record: &Sandbox) -> wire::Sandbox {
    let now = api.options.clock.now();
    let around = ledger::read(api.options.ledger.as_ref(), |state| Around::of(state, record, now));
    with(record, &around)
}

/// What the operator calls a host, or its id once it is gone.
pub(crate) fn called(state: &State, host: HostId) -> String {
    state.hosts.get(&host).map_or_else(|| host.to_string(), |host| host.name.to_string())
}

/// What a record's answer needs besides the record. Small: it is gathered while the state is held.
pub(crate) struct Around {
    /// The names of the hosts it mentions.
    names: BTreeMap<HostId, HostName>,
    checkpoint: Option<wire::Checkpoint>,
}

impl Around {
    pub(crate) fn of(state: &State, record: &Sandbox, now: Timestamp) -> Self {
        let target = record.work.as_ref().and_then(|work| work.target);
        let mentioned = [
            record.assignment.map(|assignment| assignment.host),
            target.map(|target| target.host),
            record.moved.as_ref().map(|moved| moved.from),
            record.moved.as_ref().map(|moved| moved.to),
            record.restored.map(|restored| restored.from),
        ];
        let names = mentioned.into_iter().flatten();
        let names = names.filter_map(|id| Some((id, state.hosts.get(&id)?.name.clone()))).collect();
        let newest = state.newest_snapshot(record.id);
        let checkpoint = newest.and_then(|snapshot| {
            let taken_at = snapshot.stored.as_ref()?.taken_at;
            let age_s = now.since(taken_at).0 / 1000;
            Some(wire::Checkpoint { snapshot: snapshot.id, taken_at: Time(taken_at), age_s })
        });
        Self { names, checkpoint }
    }

    fn called(&self, host: HostId) -> String {
        self.names.get(&host).map_or_else(|| host.to_string(), ToString::to_string)
    }
}

fn seconds(time: Millis) -> u64 {
    time.0 / 1000
}

/// A record with what is around it.
pub(crate) fn with(record: &Sandbox, around: &Around) -> wire::Sandbox {
    let called = |host| around.called(host);
    let spec = &record.spec;
    wire::Sandbox {
        id: record.id,
        tenant: record.tenant.clone(),
        session: record.session.clone(),
        phase: record.phase,
        desired: record.desired,
        reason: record.reason.to_string(),
        generation: record.generation.0,
        host: record.assignment.and_then(|assignment| around.names.get(&assignment.host).cloned()),
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
        checkpoint_every_s: spec.checkpoint_every.map(seconds),
        idle_timeout_s: spec.idle_timeout.map(seconds),
        base: record.base,
        work: record.work.as_ref().map(|work| operation::work(work, &called)),
        frozen_since: record.frozen_since.map(Time),
        trouble: record.trouble.as_ref().map(operation::trouble),
        moved: record.moved.as_ref().map(|moved| operation::moved(moved, &called)),
        restored: record.restored.as_ref().map(|restored| operation::restored(restored, &called)),
        checkpoint: around.checkpoint.clone(),
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

/// What keeps a sandbox awake.
pub(crate) fn awake(awake: Awake) -> wire::Awake {
    wire::Awake {
        idle_timeout_s: awake.idle_timeout.map(seconds),
        idle_since: awake.idle_since.map(Time),
        pauses_at: awake.pauses_at.map(Time),
        cpu: awake.cpu.map(Cpu),
        sessions: awake.sessions,
        because: awake.because,
    }
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
