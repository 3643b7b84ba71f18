//! The table of routes: which handlers there are, and what lies around them.

use crate::{
    error::ApiError,
    observe, openapi,
    options::{Api, Options},
    routes::{
        backup, batch, cluster, drain, events, exec, exec_stream, files, hosts, keys, log_level, moving, operations,
        placements, policy, sandboxes, snapshots, system, terminals,
    },
};
use axum::{
    Router,
    http::{Method, Uri},
    middleware,
    routing::get,
};
use plimsoll_types::Code;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The whole surface. `closing` ends streams, so that a shutdown is not held up by them.
pub(crate) fn router(options: Options, closing: CancellationToken) -> Router {
    observe::describe();
    let api = Api::new(options, closing);
    let (router, document) = documented().split_for_parts();
    let document = axum::Json(openapi::complete(document));
    router
        .route("/openapi.json", get(move || std::future::ready(document.clone())))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(api.clone(), observe::observe))
        .with_state(api)
}

/// Every documented route.
pub(crate) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head()).merge(quick().layer(middleware::from_fn(observe::quick))).merge(slow())
}

/// Routes that answer soon, or not at all.
fn quick() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(sandboxes::check))
        .routes(routes!(sandboxes::extend))
        .routes(routes!(moving::freeze))
        .routes(routes!(moving::thaw))
        .routes(routes!(moving::awake))
        .routes(routes!(operations::get))
        .routes(routes!(snapshots::list))
        .routes(routes!(snapshots::get, snapshots::delete))
        .routes(routes!(sandboxes::tunnels))
        .routes(routes!(sandboxes::stats))
        .routes(routes!(sandboxes::write_env))
        .routes(routes!(placements::explain))
        .routes(routes!(files::list))
        .routes(routes!(files::stat))
        .routes(routes!(files::rename))
        .routes(routes!(files::folder))
        .routes(routes!(hosts::check))
        .routes(routes!(hosts::list, hosts::add))
        .routes(routes!(hosts::get, hosts::change, hosts::remove))
        .routes(routes!(hosts::cordon))
        .routes(routes!(hosts::uncordon))
        .routes(routes!(drain::drain, drain::status))
        .routes(routes!(drain::undrain))
        .routes(routes!(drain::rebalance))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(cluster::status))
        .routes(routes!(policy::get, policy::set))
        .routes(routes!(log_level::get, log_level::set))
        .routes(routes!(cluster::transfer))
        .routes(routes!(cluster::remove_node))
        .routes(routes!(cluster::token))
        .routes(routes!(system::health))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

/// Routes that wait as long as the caller wants, or stream.
fn slow() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(sandboxes::list, sandboxes::create))
        .routes(routes!(sandboxes::ensure))
        .routes(routes!(sandboxes::get, sandboxes::terminate))
        .routes(routes!(moving::pause))
        .routes(routes!(moving::resume))
        .routes(routes!(moving::migrate))
        .routes(routes!(snapshots::take))
        .routes(routes!(snapshots::take_one))
        .routes(routes!(sandboxes::logs))
        .routes(routes!(placements::place))
        .routes(routes!(batch::place))
        .routes(routes!(backup::backup))
        .routes(routes!(backup::hold))
        .routes(routes!(backup::resume))
        .routes(routes!(backup::drift_report, backup::settle))
        .routes(routes!(terminals::create))
        .routes(routes!(exec::run))
        .routes(routes!(exec::run_commands))
        .routes(routes!(exec_stream::connect))
        .routes(routes!(files::read, files::write, files::remove))
        .routes(routes!(files::export_tar, files::import_tar))
        .routes(routes!(events::stream))
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no {}; /openapi.json lists every route", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        format!("{} does not take {method}; the Allow header lists what it takes", uri.path()),
    )
}
