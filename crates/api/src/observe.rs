//! What happens around every request: its id, its log span, its metrics, the bound on requests under way, and the two nets
//! below every handler: panics become `internal`, errors become problem documents.

use crate::{error::ApiError, limits, linger, options::Api};
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use plimsoll_engine::RequestId;
use plimsoll_types::Code;
use std::{
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tracing::Instrument;

const REQUESTS: &str = "plimsoll_http_requests_total";
const SECONDS: &str = "plimsoll_http_request_seconds";
const IN_FLIGHT: &str = "plimsoll_http_requests_in_flight";

/// The header of request ids, both ways.
const REQUEST_ID: &str = "x-request-id";
/// The header with the caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Names and explains the metrics to whatever recorder is installed.
pub(crate) fn describe() {
    metrics::describe_counter!(REQUESTS, "HTTP requests answered, by route, method and status");
    metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "Time until an answer's head was ready, by route");
    metrics::describe_gauge!(IN_FLIGHT, "HTTP requests under way");
}

/// Makes request ids: a random start for the process, then a count, mixed.
#[derive(Default)]
pub(crate) struct RequestIds {
    seed: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    fn next(&self) -> String {
        format!("{:016x}", self.seed.hash_one(self.count.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Counts a request as under way for as long as it lives.
struct InFlight;

impl InFlight {
    fn new() -> Self {
        metrics::gauge!(IN_FLIGHT).increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!(IN_FLIGHT).decrement(1.0);
    }
}

/// The outermost middleware.
pub(crate) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request, &api);
    let method = request.method().clone();
    // Only the pattern: paths hold ids, and a label for each would be unbounded.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("http", request = %id, %method, %route);
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    if let (Some(go_on), Some(parent)) = (&api.options.continue_trace, parent) {
        go_on(&span, parent);
    }
    let _in_flight = InFlight::new();
    let answer = answer(&api, &route, request, next).instrument(span.clone());
    let answer = RequestId::scope(RequestId::new(&id), answer).await;
    let response = span.in_scope(|| finish(answer, &id));
    let status = response.status().as_u16();
    tracing::debug!(parent: &span, status, seconds = started.elapsed().as_secs_f64(), "answered");
    metrics::counter!(REQUESTS, "route" => route.clone(), "method" => method_label(&method), "status" => status.to_string()).increment(1);
    metrics::histogram!(SECONDS, "route" => route).record(started.elapsed().as_secs_f64());
    response
}

async fn answer(api: &Api, route: &str, request: Request, next: Next) -> Response {
    // Health and metrics stay readable under overload: that is when they are needed.
    let system = matches!(route, "/healthz" | "/readyz" | "/metrics");
    let permit = if system { None } else { api.requests.clone().try_acquire_owned().ok() };
    let (head, body) = request.into_parts();
    let (body, rest) = linger::split(body);
    if permit.is_none() && !system {
        let detail = "this node has as many requests under way as it takes; retry with a pause, or ask another node";
        let mut response = ApiError::new(Code::Overloaded, detail).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        if let Ok(place) = api.refused.clone().try_acquire_owned() {
            rest.read_on(place);
        }
        return response;
    }
    let response = match AssertUnwindSafe(next.run(Request::from_parts(head, body))).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged the message and the place.
        Err(_) => {
            ApiError::new(Code::Internal, "a defect of Plimsoll's; the node's log has more under this request's id")
                .into_response()
        }
    };
    rest.read_on(permit);
    response
}

/// Completes a response: the request's id, and the problem document of an error.
fn finish(mut response: Response, id: &str) -> Response {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let problem = error.completed(id);
        if problem.status >= 500 {
            tracing::warn!(code = %problem.code, detail = %problem.detail, "a request failed");
        } else {
            tracing::debug!(code = %problem.code, detail = %problem.detail, "a request was refused");
        }
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if problem.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        *response.body_mut() = Body::from(body);
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The caller's id if it is a sane one, else a new one.
fn request_id(request: &Request, api: &Api) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(|id| RequestId::new(id).is_some()).map_or_else(|| api.ids.next(), str::to_owned)
}

/// Methods are the caller's text: unknown ones share a label, so that labels stay bounded.
fn method_label(method: &axum::http::Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Ends a handler that takes too long: reads, and changes that one commit settles.
pub(crate) async fn quick(request: Request, next: Next) -> Response {
    match tokio::time::timeout(limits::QUICK, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(Code::Timeout, "it did not finish within 60 s; it may still finish").into_response(),
    }
}
