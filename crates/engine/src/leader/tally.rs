//! The tally: counts operations, moves, restores and snapshots from the events that state has anyway, so that no job must remember to.

use super::desk::Ask;
use crate::{metrics, node::Node};
use plimsoll_state::{Event, EventKind};
use plimsoll_types::{Code, OperationId, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time};

/// Events read in one go.
const PAGE: usize = 1024;
/// Operations whose beginning is remembered; the durations of others are not counted.
const REMEMBERED: usize = 4096;
/// Between two looks: counts may be a moment behind.
const PAUSE: Duration = Duration::from_millis(500);

/// Counts until dropped, from now on: what happened before was the last leader's to count.
pub(crate) async fn run(node: Arc<Node>, _desk: mpsc::Sender<Ask>) {
    let (mut seen, mut position) = node.read(|state| (state.applied, state.last_event()));
    let mut began: BTreeMap<OperationId, Timestamp> = BTreeMap::new();
    loop {
        seen = node.ledger.changed(seen).await;
        loop {
            let events = node.read(|state| state.events_after(position, PAGE).events);
            let Some(last) = events.last() else { break };
            position = Some((last.index, last.seq));
            events.iter().for_each(|event| count(event, &mut began));
        }
        time::sleep(PAUSE).await;
    }
}

fn count(event: &Event, began: &mut BTreeMap<OperationId, Timestamp>) {
    match &event.kind {
        EventKind::Work { operation, kind, change, .. } => match &**change {
            "began" => {
                if began.len() >= REMEMBERED {
                    began.pop_first();
                }
                began.insert(*operation, event.at);
            }
            "taken" => {}
            ended => {
                let took = began.remove(operation).map(|at| event.at.since(at));
                metrics::operation(*kind, result(ended), took);
            }
        },
        EventKind::Moved { moved, .. } => metrics::moved(moved.downtime, moved.bytes),
        EventKind::Restored { restored, .. } => metrics::restored(restored.window),
        EventKind::Sandbox { .. }
        | EventKind::Frozen { .. }
        | EventKind::Snapshot { .. }
        | EventKind::Deadline { .. }
        | EventKind::Host { .. }
        | EventKind::Cluster { .. } => {}
    }
}

/// `done`, `ended` where the sandbox went another way, or the code that an operation was given up with.
fn result(change: &str) -> &'static str {
    let head = change.split_once(':').map_or(change, |(head, _)| head);
    match head {
        "done" => "done",
        "ended" => "ended",
        other => other.parse::<Code>().map_or("given_up", Code::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::result;

    #[test]
    fn results_are_few_words() {
        assert_eq!(result("done"), "done");
        assert_eq!(result("ended: the sandbox went another way"), "ended");
        assert_eq!(result("registry_full: no space left"), "registry_full");
        assert_eq!(result("whatever somebody wrote"), "given_up");
    }
}
