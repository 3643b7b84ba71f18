//! What the asked node logs, for operators. Other nodes log what they did, and the next start what the configuration says.

use crate::{
    auth::Operator,
    error::{Answer, ApiError},
    extract::Json,
    limits,
    options::{Api, LogFilter},
};
use axum::extract::State;
use plimsoll_client::wire;
use plimsoll_types::Code;

/// What this node logs.
#[utoipa::path(get, path = "/v1/log-level", tag = "system", operation_id = "logLevel", responses((status = 200, body = wire::LogLevel)))]
pub(crate) async fn get(State(api): State<Api>, _: Operator) -> Answer<axum::Json<wire::LogLevel>> {
    Ok(answer(&api, log(&api)?))
}

/// Change what this node logs.
///
/// Until it is started again, and on this node only. Libraries that write whole requests and packets into their debug output stay
/// at `info` whatever the filter says: secrets are in them.
#[utoipa::path(
    put, path = "/v1/log-level", tag = "system", operation_id = "setLogLevel", request_body = wire::SetLogLevel,
    responses((status = 200, description = "What it logs now", body = wire::LogLevel)),
)]
pub(crate) async fn set(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::SetLogLevel>,
) -> Answer<axum::Json<wire::LogLevel>> {
    let log = log(&api)?;
    let filter = body.filter.trim();
    if filter.len() > limits::MAX_LOG_FILTER {
        let detail = format!("a filter has at most {} bytes", limits::MAX_LOG_FILTER);
        return Err(ApiError::field("/filter", detail));
    }
    let before = log.filter();
    log.set_filter(filter).map_err(|why| {
        ApiError::field(
            "/filter",
            format!("{why}; write a level such as info, or targets such as plimsoll_engine=debug,info"),
        )
    })?;
    // At a level that most filters let through: whoever reads the log should see why it changes.
    tracing::warn!(before, now = log.filter(), "the log filter was changed over the API");
    Ok(answer(&api, log))
}

fn log(api: &Api) -> Answer<&dyn LogFilter> {
    let detail = "what this process logs cannot be changed while it runs";
    api.options.log_filter.as_deref().ok_or_else(|| ApiError::new(Code::Unsupported, detail))
}

fn answer(api: &Api, log: &dyn LogFilter) -> axum::Json<wire::LogLevel> {
    axum::Json(wire::LogLevel { node: api.options.ledger.node().0, filter: log.filter() })
}
