//! The OpenAPI document: generated from the handlers, completed with what holds for all of them.

use crate::router::documented;
use plimsoll_client::wire;
use plimsoll_types::Code;
use utoipa::{
    OpenApi,
    openapi::{
        Components, ContentBuilder, Ref, ResponseBuilder,
        path::Operation,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Plimsoll", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(wire::Problem, wire::FieldError, wire::Event, wire::ExecRequest, wire::ExecControl, wire::ExecNotice)),
    tags(
        (name = "sandboxes", description = "Sandboxes: create, ensure, look at, take down."),
        (name = "snapshots", description = "Snapshots: what sandboxes can start from."),
        (name = "exec", description = "Commands inside sandboxes."),
        (name = "files", description = "Files inside sandboxes."),
        (name = "placements", description = "Where sandboxes go, and why."),
        (name = "hosts", description = "Hosts, for operators."),
        (name = "cluster", description = "The control plane and its keys, for operators."),
        (name = "events", description = "What happens, as it happens."),
        (name = "system", description = "Health, readiness, metrics."),
    )
)]
struct Head;

/// The name of the security scheme.
const BEARER: &str = "key";

/// The whole document, as it is served and committed.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    complete(documented().into_openapi())
}

/// The document's head.
pub(crate) fn head() -> utoipa::openapi::OpenApi {
    let mut head = Head::openapi();
    head.info.description = Some(description());
    head
}

/// Adds what every operation has: the problem response and the key.
pub(crate) fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let problem = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(problem)).build();
    let response = ResponseBuilder::new()
        .description("A problem; its `code` says which")
        .content("application/problem+json", content)
        .build();
    for (path, item) in &mut document.paths.paths {
        let open = ["/healthz", "/readyz"].contains(&path.as_str());
        let operations: [&mut Option<Operation>; 5] =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), response.clone().into());
            if !open {
                operation.security = Some(vec![SecurityRequirement::new(BEARER, [] as [String; 0])]);
            }
        }
    }
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}

/// What holds everywhere, with the one table of codes.
fn description() -> String {
    let mut text = String::from(
        "Sandboxes on your own Docker hosts.\n\nEvery error is RFC 9457 problem+json with a stable `code`. Requests refuse \
         unknown fields and parameters. Creates accept an `Idempotency-Key`, remembered for 24 h with the request's hash; they \
         wait until the sandbox runs, unless `Prefer: respond-async` (202 with the sandbox as it is) or `Prefer: wait=N` says \
         otherwise. Snapshots, pauses and migrations wait likewise; their 202 carries an operation. Reads are linearizable; `?consistency=stale` reads what the asked node has. `x-request-id` is accepted, \
         echoed, and found in the log.\n\n| code | status | exit | meaning |\n| --- | --- | --- | --- |\n",
    );
    for code in Code::ALL {
        let (status, exit) = (code.http_status(), code.exit() as i32);
        text.push_str(&format!("| `{code}` | {status} | {exit} | {} |\n", code.meaning()));
    }
    text
}
