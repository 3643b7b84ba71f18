//! What happens, as server-sent events: in order, without gaps, resumable.

use crate::{
    auth::Caller,
    convert::event,
    error::{Answer, ApiError},
    extract::Params,
    limits,
    options::Api,
    streams,
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use plimsoll_client::wire::EventId;
use plimsoll_engine::Scope;
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::{Event, State as Replicated};
use plimsoll_types::Code;
use std::{convert::Infallible, sync::Arc};

/// In place of a position: before the oldest event that is kept, whichever that is.
const OLDEST: &str = "oldest";

/// What happens, as server-sent events.
///
/// In order and without gaps. Each has an `id`; send it as `Last-Event-ID` (or `?after=`) to go on after it. Without one the
/// stream begins now. `events_gone` if events after it are no longer kept. A stream that falls too far behind ends with an
/// `event: problem`. Platforms see their tenant's sandboxes, operators everything. Once all that has happened is sent, and every 15 s
/// of silence, an `id` without data says how far the stream is.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "streamEvents",
    params(("after" = Option<String>, Query, description = "`<index>-<seq>`; `0-0` is the beginning, `oldest` before the oldest event that is kept"), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = plimsoll_client::wire::Event)),
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    mut params: Params,
) -> Answer<Response> {
    let after = params.text("after")?;
    params.end()?;
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    // A browser that lost its connection sends both: where it is counts, not where it began.
    let oldest = header.is_none() && after.as_deref() == Some(OLDEST);
    let read = |text: &str, name| text.parse().map_err(|error| ApiError::field(name, error));
    let given = match (header, after) {
        (Some(text), _) => Some(read(text, "Last-Event-ID:")?),
        (None, Some(text)) if !oldest => Some(read(&text, "?after")?),
        (None, _) => None,
    };
    // What the caller saw elsewhere must not look like the future here.
    api.options.ledger.barrier().await?;
    let cursor = if oldest { EventId::default() } else { begin(&api, given)? };
    let permit = streams::permit(&api)?;
    let reader = Reader { api: api.clone(), scope: caller.scope(), cursor, oldest, seen: 0, told: false, ended: false };
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b": plimsoll events\n\n"))]);
    let rest =
        stream::unfold(reader, Reader::next).take_until(api.closing.clone().cancelled_owned()).map(move |piece| {
            // The permit lives as long as the stream that owns this closure.
            let _ = &permit;
            Ok(piece)
        });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(first.chain(rest))).into_response())
}

/// Where to begin: after the given event, or after everything that has happened.
fn begin(api: &Api, given: Option<EventId>) -> Answer<EventId> {
    ledger::read(api.options.ledger.as_ref(), |state| match given {
        None => Ok(EventId { index: state.applied, seq: u32::MAX }),
        Some(after) if after.index > state.applied => {
            Err(ApiError::field("?after", "this event has not happened here; is it from another cluster?"))
        }
        Some(after) if gone(state, after) => Err(events_gone()),
        Some(after) => Ok(after),
    })
}

const fn id(event: &Event) -> EventId {
    EventId { index: event.index, seq: event.seq }
}

/// Whether events after this one may have been dropped: the oldest kept one is younger, and as many are kept as ever are.
fn gone(state: &Replicated, after: EventId) -> bool {
    let full = state.events.len() >= state.policy.events_kept as usize;
    full && state.events.front().is_none_or(|oldest| id(oldest) > after)
}

fn events_gone() -> ApiError {
    ApiError::new(
        Code::EventsGone,
        "events after this one are no longer kept; read the present state (GET /v1/sandboxes), then stream from now",
    )
}

/// One caller's place in the stream.
struct Reader {
    api: Api,
    scope: Scope,
    cursor: EventId,
    /// Whatever was dropped before the first look was not asked for.
    oldest: bool,
    seen: u64,
    /// Whether the caller was told that it has all that had happened when the stream began.
    told: bool,
    ended: bool,
}

impl Reader {
    /// The next piece of the body: events, the position after them in a silence, or the problem that ends it.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        loop {
            let (batch, applied) = match self.read() {
                Ok(read) => read,
                Err(error) => {
                    self.ended = true;
                    let problem = serde_json::to_string(&error.0).unwrap_or_default();
                    return Some((format!("event: problem\ndata: {problem}\n\n").into(), self));
                }
            };
            self.oldest = false;
            if let Some(last) = batch.last() {
                self.cursor = id(last);
                let text: String =
                    batch.iter().filter(|event| event::visible(&self.scope, event)).map(|event| frame(event)).collect();
                if !text.is_empty() {
                    return Some((text.into(), self));
                }
                // All of them were other tenants': look further at once.
                continue;
            }
            self.seen = applied;
            // Nothing up to here is missing, though it may be nothing that this caller sees: going on from here skips nothing.
            self.cursor = self.cursor.max(EventId { index: applied, seq: u32::MAX });
            if !std::mem::replace(&mut self.told, true) {
                return Some((position(self.cursor), self));
            }
            let ledger = self.api.options.ledger.clone();
            if tokio::time::timeout(limits::KEEPALIVE, ledger.changed(self.seen)).await.is_err() {
                return Some((position(self.cursor), self));
            }
        }
    }

    fn read(&self) -> Answer<(Vec<Arc<Event>>, u64)> {
        ledger::read(self.api.options.ledger.as_ref(), |state| {
            if !self.oldest && gone(state, self.cursor) {
                return Err(events_gone());
            }
            let from = state.events.partition_point(|event| id(event) <= self.cursor);
            Ok((state.events.range(from..).take(limits::EVENTS).cloned().collect(), state.applied))
        })
    }
}

/// Where the stream is. Also keeps the connection alive; readers of server-sent events remember the id and see no event.
fn position(cursor: EventId) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

fn frame(record: &Event) -> String {
    let wire = event::event(record);
    format!("id: {}\ndata: {}\n\n", wire.id(), serde_json::to_string(&wire).unwrap_or_default())
}
