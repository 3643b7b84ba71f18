//! The event stream: server-sent events, parsed as they come.

use crate::{
    call::Call,
    client::{ByteStream, Client},
    error::Error,
    wire::{Event, EventId, Problem},
};
use bytes::BytesMut;
use futures_util::StreamExt;

/// A line longer than this is no event of ours: the longest one holds a reason of a few hundred bytes.
const MAX_LINE: usize = 1 << 20;

/// Events in order, without gaps. Ends with the connection; go on after what was heard last.
pub struct EventStream {
    bytes: ByteStream,
    buffer: BytesMut,
    data: String,
    id: Option<EventId>,
    problem: bool,
}

/// What a stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something happened.
    Event(Event),
    /// All that happened up to here and may be seen was told. Comes once the stream has caught up, and in every silence of 15 s.
    Position(EventId),
}

impl Heard {
    /// Where to go on after it.
    #[must_use]
    pub const fn id(&self) -> EventId {
        match self {
            Self::Event(event) => event.id(),
            Self::Position(id) => *id,
        }
    }
}

impl Client {
    /// Events after this one, or from now on.
    ///
    /// # Errors
    /// See [`Error`]; `events_gone` if the events after `after` are no longer kept.
    pub async fn events(&self, after: Option<EventId>) -> Result<EventStream, Error> {
        self.events_from(after.map(|after| after.to_string())).await
    }

    /// All events that are kept, and those to come.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events_kept(&self) -> Result<EventStream, Error> {
        self.events_from(Some("oldest".to_owned())).await
    }

    async fn events_from(&self, after: Option<String>) -> Result<EventStream, Error> {
        let call = Call::get(&["v1", "events"]).query("after", after).header("accept", Some("text/event-stream"));
        let bytes = self.stream(call).await?;
        Ok(EventStream { bytes, buffer: BytesMut::new(), data: String::new(), id: None, problem: false })
    }
}

impl EventStream {
    /// The next event; `None` once the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks, or the node ends the stream with a problem.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.heard().await? {
                Some(Heard::Event(event)) => return Ok(Some(event)),
                Some(Heard::Position(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next event or position; `None` once the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks, or the node ends the stream with a problem.
    pub async fn heard(&mut self) -> Result<Option<Heard>, Error> {
        loop {
            while let Some(line) = self.line() {
                if let Some(heard) = self.absorb(&line)? {
                    return Ok(Some(heard));
                }
            }
            if self.buffer.len() > MAX_LINE {
                return Err(not_understood("a line is too long"));
            }
            match self.bytes.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line = self.buffer.split_to(end + 1);
        Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Takes one line in; what it ended, if it is a blank one.
    fn absorb(&mut self, line: &str) -> Result<Option<Heard>, Error> {
        if line.is_empty() {
            let (data, id) = (std::mem::take(&mut self.data), self.id.take());
            if data.is_empty() {
                return Ok(id.map(Heard::Position));
            }
            return self.parse(&data).map(|event| Some(Heard::Event(event)));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.data.push_str(value),
            "event" => self.problem = value == "problem",
            "id" => self.id = value.parse().ok(),
            // Comments keep the connection alive.
            _ => {}
        }
        Ok(None)
    }

    fn parse(&self, data: &str) -> Result<Event, Error> {
        if self.problem {
            let problem: Problem = serde_json::from_str(data).map_err(|error| not_understood(&error.to_string()))?;
            return Err(problem.into());
        }
        serde_json::from_str(data).map_err(|error| not_understood(&error.to_string()))
    }
}

fn not_understood(why: &str) -> Error {
    Error::Protocol { doing: "GET /v1/events".to_owned(), why: why.to_owned() }
}
