//! From operations and what they left behind to the wire. Hosts that are gone are called by their ids.

use plimsoll_client::wire::{self, OperationState, Size, Time, WorkStage};
use plimsoll_state::{Event, EventKind, Moved, Restored, Sandbox, Stage, State, Trouble, Work, WorkKind};
use plimsoll_types::{HostId, OperationId};

/// What the operator calls a host, or its id.
pub(crate) type Called<'a> = &'a dyn Fn(HostId) -> String;

/// What is done.
pub(crate) const fn kind(kind: WorkKind) -> wire::WorkKind {
    match kind {
        WorkKind::Snapshot => wire::WorkKind::Snapshot,
        WorkKind::Checkpoint => wire::WorkKind::Checkpoint,
        WorkKind::Pause => wire::WorkKind::Pause,
        WorkKind::Migrate => wire::WorkKind::Migrate,
    }
}

const fn stage(stage: Stage) -> WorkStage {
    match stage {
        Stage::Taking => WorkStage::Taking,
        Stage::Taken => WorkStage::Taken,
    }
}

/// An operation under way.
pub(crate) fn work(work: &Work, called: Called<'_>) -> wire::Work {
    wire::Work {
        operation: work.operation,
        kind: kind(work.kind),
        stage: stage(work.stage),
        snapshot: work.snapshot,
        to: work.target.map(|target| called(target.host)),
        began: Time(work.began),
        deadline: Time(work.deadline),
    }
}

/// Something that was given up.
pub(crate) fn trouble(trouble: &Trouble) -> wire::Trouble {
    wire::Trouble {
        operation: trouble.operation,
        kind: kind(trouble.kind),
        at: Time(trouble.at),
        reason: trouble.reason.to_string(),
    }
}

/// A move that happened.
pub(crate) fn moved(moved: &Moved, called: Called<'_>) -> wire::Moved {
    wire::Moved {
        operation: moved.operation,
        from: called(moved.from),
        to: called(moved.to),
        at: Time(moved.at),
        downtime_ms: moved.downtime.0,
        bytes: Size(moved.bytes),
    }
}

/// A restore that happened.
pub(crate) fn restored(restored: &Restored, called: Called<'_>) -> wire::Restored {
    wire::Restored {
        from: called(restored.from),
        snapshot: restored.snapshot,
        at: Time(restored.at),
        window_ms: restored.window.0,
    }
}

/// The operation under way on this sandbox.
pub(crate) fn under_way(record: &Sandbox, called: Called<'_>) -> Option<wire::Operation> {
    let under_way = record.work.as_ref()?;
    let shown = work(under_way, called);
    Some(wire::Operation {
        stage: Some(shown.stage),
        snapshot: Some(shown.snapshot),
        to: shown.to,
        began: Some(shown.began),
        deadline: Some(shown.deadline),
        ..blank(record, under_way.operation, shown.kind, OperationState::Running)
    })
}

fn blank(record: &Sandbox, id: OperationId, kind: wire::WorkKind, state: OperationState) -> wire::Operation {
    wire::Operation {
        id,
        kind,
        sandbox: record.id,
        tenant: record.tenant.clone(),
        state,
        stage: None,
        snapshot: None,
        to: None,
        began: None,
        deadline: None,
        ended: None,
        reason: None,
        moved: None,
    }
}

/// What this sandbox's record tells of an operation.
pub(crate) fn of_record(record: &Sandbox, id: OperationId, called: Called<'_>) -> Option<wire::Operation> {
    if record.work.as_ref().is_some_and(|work| work.operation == id) {
        return under_way(record, called);
    }
    if let Some(given_up) = record.trouble.as_ref().filter(|trouble| trouble.operation == id) {
        let (ended, reason) = (Some(Time(given_up.at)), Some(given_up.reason.to_string()));
        let blank = blank(record, id, kind(given_up.kind), OperationState::GivenUp);
        return Some(wire::Operation { ended, reason, ..blank });
    }
    let moved_by = record.moved.as_ref().filter(|moved| moved.operation == id)?;
    let blank = blank(record, id, wire::WorkKind::Migrate, OperationState::Done);
    Some(wire::Operation { ended: Some(Time(moved_by.at)), moved: Some(moved(moved_by, called)), ..blank })
}

/// What the events that are still kept tell of an operation. Newest first: most of those asked for are young.
pub(crate) fn of_events(state: &State, id: OperationId, called: Called<'_>) -> Option<wire::Operation> {
    let mut found: Option<wire::Operation> = None;
    let mut moved_by = None;
    for event in state.events.iter().rev() {
        match &event.kind {
            EventKind::Moved { moved: record, .. } if record.operation == id => moved_by = Some(moved(record, called)),
            EventKind::Work { sandbox, tenant, operation, kind: what, change } if *operation == id => {
                let operation = found.get_or_insert_with(|| wire::Operation {
                    id,
                    kind: kind(*what),
                    sandbox: *sandbox,
                    tenant: tenant.clone(),
                    state: OperationState::Running,
                    stage: None,
                    snapshot: None,
                    to: None,
                    began: None,
                    deadline: None,
                    ended: None,
                    reason: None,
                    moved: None,
                });
                match &**change {
                    "began" => {
                        operation.began = Some(Time(event.at));
                        operation.snapshot = begun_with(state, event);
                        break;
                    }
                    "taken" => {}
                    "done" => (operation.state, operation.ended) = (OperationState::Done, Some(Time(event.at))),
                    why => {
                        (operation.state, operation.ended) = (OperationState::GivenUp, Some(Time(event.at)));
                        operation.reason = Some(why.to_owned());
                    }
                }
            }
            EventKind::Sandbox { .. }
            | EventKind::Work { .. }
            | EventKind::Moved { .. }
            | EventKind::Restored { .. }
            | EventKind::Frozen { .. }
            | EventKind::Snapshot { .. }
            | EventKind::Deadline { .. }
            | EventKind::Host { .. }
            | EventKind::Cluster { .. } => {}
        }
    }
    found.map(|operation| wire::Operation { moved: moved_by, ..operation })
}

/// The snapshot that was begun by the same command as this operation.
fn begun_with(state: &State, began: &Event) -> Option<plimsoll_types::SnapshotId> {
    let first = state.events.partition_point(|event| event.index < began.index);
    let same = state.events.range(first..).take_while(|event| event.index == began.index);
    same.into_iter().find_map(|event| match &event.kind {
        EventKind::Snapshot { snapshot, .. } => Some(*snapshot),
        EventKind::Sandbox { .. }
        | EventKind::Work { .. }
        | EventKind::Moved { .. }
        | EventKind::Restored { .. }
        | EventKind::Frozen { .. }
        | EventKind::Deadline { .. }
        | EventKind::Host { .. }
        | EventKind::Cluster { .. } => None,
    })
}
