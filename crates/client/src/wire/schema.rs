//! OpenAPI schemas of the vocabulary's own types, from the same constants the code uses: `types` itself knows no utoipa.

use plimsoll_types::{Code, Phase};
use utoipa::openapi::{Object, ObjectBuilder, Schema, Type};

fn names(values: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)).build()
}

/// A sandbox's phase.
#[must_use]
pub fn phase() -> Schema {
    names(Phase::ALL.map(Phase::as_str)).into()
}

/// A wanted position.
#[must_use]
pub fn desired() -> Schema {
    names(["running", "paused", "terminated"]).into()
}

/// An OCI runtime.
#[must_use]
pub fn runtime() -> Schema {
    names(["runc", "runsc"]).into()
}

/// What happens at the deadline.
#[must_use]
pub fn on_expiry() -> Schema {
    names(["terminate", "pause"]).into()
}

/// What happens when the host is lost.
#[must_use]
pub fn on_host_loss() -> Schema {
    names(["hold", "restore"]).into()
}

/// A host's health.
#[must_use]
pub fn health() -> Schema {
    names(["ready", "unreachable", "lost"]).into()
}

/// A problem's code.
#[must_use]
pub fn code() -> Schema {
    names(Code::ALL.iter().map(|code| code.as_str())).into()
}
