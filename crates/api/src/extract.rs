//! How requests are read: JSON bodies, query parameters, ids in paths, and the headers of creates.

use crate::{
    error::{Answer, ApiError},
    limits,
    options::Api,
};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, RawQuery, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures_util::StreamExt;
use plimsoll_types::{Code, SandboxId};
use serde::de::DeserializeOwned;
use std::{fmt::Display, str::FromStr, time::Duration};

/// A JSON body of at most [`limits::MAX_JSON`]; an empty one reads as `{}`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &Api) -> Answer<Self> {
        let body = collect(request.headers().clone(), request.into_body());
        let body = tokio::time::timeout(limits::BODY_TIME, body).await;
        let body = body.map_err(|_| ApiError::new(Code::Timeout, "the body did not arrive within 30 s"))??;
        parse(if body.is_empty() { b"{}" } else { &body }).map(Self)
    }
}

async fn collect(headers: HeaderMap, body: Body) -> Answer<Vec<u8>> {
    let too_large = || ApiError::new(Code::BodyTooLarge, "the body is larger than 1 MiB, the most this route accepts");
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits::MAX_JSON as u64) {
        return Err(too_large());
    }
    let mut collected = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::new(Code::InvalidRequest, format!("the body broke off: {error}")))?;
        if collected.len() + chunk.len() > limits::MAX_JSON {
            return Err(too_large());
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(collected)
}

/// Parses JSON; an error says where in the document it is.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    // Serde reads an array as a struct with its fields in order: `[]` would be a request of nothing but defaults.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::field("", "the body is a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => ApiError::field(pointer, inner),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => ApiError::field(pointer, format!("this is not JSON: {inner}")),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::field("", format!("there is more after the JSON document: {error}")))?;
    Ok(value)
}

/// The path of an error as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// The query's parameters. Handlers take out what they know; what is left over is an error.
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequestParts<Api> for Params {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let RawQuery(query) = RawQuery::from_request_parts(parts, api).await.unwrap_or(RawQuery(None));
        let uri = format!("/?{}", query.unwrap_or_default());
        let uri = uri.parse().map_err(|_| ApiError::field("?", "the query is malformed"))?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        pairs.map(|axum::extract::Query(pairs)| Self(pairs)).map_err(|error| ApiError::field("?", error))
    }
}

impl Params {
    /// Every value of a parameter.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be there once.
    pub(crate) fn text(&mut self, name: &str) -> Answer<Option<String>> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(ApiError::field(format!("?{name}"), "it is given more than once"));
        }
        Ok(values.pop())
    }

    /// The same, parsed.
    pub(crate) fn get<T: FromStr>(&mut self, name: &str) -> Answer<Option<T>>
    where
        T::Err: Display,
    {
        let text = self.text(name)?;
        text.map(|text| text.parse().map_err(|error: T::Err| ApiError::field(format!("?{name}"), error))).transpose()
    }

    /// A switch: `true`, `false`, or there without a value.
    pub(crate) fn flag(&mut self, name: &str) -> Answer<bool> {
        match self.text(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(ApiError::field(format!("?{name}"), "write true or false")),
        }
    }

    /// How many items a page has.
    pub(crate) fn page(&mut self) -> Answer<usize> {
        let limit = self.get::<usize>("limit")?.unwrap_or(limits::PAGE);
        if (1..=limits::MAX_PAGE).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::field("?limit", format!("from 1 to {}", limits::MAX_PAGE)))
        }
    }

    /// Whether the caller accepts what this node has applied, however old.
    pub(crate) fn stale(&mut self) -> Answer<bool> {
        match self.text("consistency")?.as_deref() {
            None | Some("linearizable") => Ok(false),
            Some("stale") => Ok(true),
            Some(_) => Err(ApiError::field("?consistency", "write linearizable or stale")),
        }
    }

    /// Refuses parameters that nobody took.
    pub(crate) fn end(self) -> Answer<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::field(format!("?{name}"), "this route has no such parameter")),
        }
    }
}

/// A sandbox's id in the path.
pub(crate) struct Id(pub(crate) SandboxId);

impl FromRequestParts<Api> for Id {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        segment(parts, api, "id").await.map(Self)
    }
}

/// One parsed segment of the path.
pub(crate) async fn segment<T: FromStr>(parts: &mut Parts, api: &Api, name: &str) -> Answer<T>
where
    T::Err: Display,
{
    let Path(text) = Path::<String>::from_request_parts(parts, api)
        .await
        .map_err(|error| ApiError::field(format!("{{{name}}}"), error.body_text()))?;
    text.parse().map_err(|error: T::Err| ApiError::field(format!("{{{name}}}"), error))
}

/// What a caller prefers about waiting: `Prefer: respond-async`, `Prefer: wait=30`, or both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long to wait.
    pub(crate) time: Duration,
    /// Whether to answer 202 when it is over, instead of a timeout.
    pub(crate) asynchronous: bool,
    /// Whether the time is the caller's own wish.
    asked: bool,
    /// That wish, however long.
    wish: Option<Duration>,
}

impl FromRequestParts<Api> for Patience {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let mut asynchronous = false;
        let mut time = None;
        for value in parts.headers.get_all("prefer") {
            let value = value.to_str().map_err(|_| ApiError::field("Prefer:", "it is not text"))?;
            for preference in value.split([',', ';']).map(str::trim) {
                if preference.eq_ignore_ascii_case("respond-async") {
                    asynchronous = true;
                } else if let Some(seconds) = preference.strip_prefix("wait=") {
                    let seconds =
                        seconds.parse().map_err(|_| ApiError::field("Prefer:", "wait is a number of seconds"))?;
                    time = Some(Duration::from_secs(seconds));
                }
                // Other preferences are ignored, as RFC 7240 has it.
            }
        }
        let (asked, wish) = (asynchronous || time.is_some(), time);
        let time = time.unwrap_or(if asynchronous { Duration::ZERO } else { api.options.default_wait });
        Ok(Self { time: time.min(limits::MAX_WAIT), asynchronous, asked, wish })
    }
}

impl Patience {
    /// The same, but no longer than this for callers who said nothing.
    pub(crate) fn unasked(self, most: Duration) -> Self {
        Self { time: if self.asked { self.time } else { self.time.min(most) }, ..self }
    }

    /// The same, but up to this long for callers who said how long.
    pub(crate) fn at_most(self, most: Duration) -> Self {
        Self { time: self.wish.map_or(self.time, |wish| wish.min(most)), ..self }
    }

    /// As the engine takes it.
    pub(crate) const fn wait(self) -> plimsoll_engine::Wait {
        if self.time.is_zero() { plimsoll_engine::Wait::No } else { plimsoll_engine::Wait::Upto(self.time) }
    }
}

/// The `Idempotency-Key` header.
pub(crate) struct IdempotencyKey(pub(crate) Option<Box<str>>);

impl FromRequestParts<Api> for IdempotencyKey {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Answer<Self> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| {
            (1..=plimsoll_engine::spec::IDEMPOTENCY_KEY_MAX).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let key = key.ok_or_else(|| ApiError::field("Idempotency-Key:", "use 1 to 255 visible ASCII characters"))?;
        Ok(Self(Some(key.into())))
    }
}
