//! The one shape of every error: RFC 9457 problem details with Plimsoll's stable code.

use plimsoll_types::{Code, SandboxId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request did not do what it asked for (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:plimsoll:problem:<code>`.
    #[serde(rename = "type")]
    #[schema(example = "urn:plimsoll:problem:no_capacity")]
    pub kind: String,
    /// What the code means, in a sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here, where, and what to do.
    pub detail: String,
    /// The request's id; the log has more under it.
    pub instance: String,
    /// The stable code that programs read.
    #[schema(schema_with = super::schema::code)]
    pub code: Code,
    /// The sandbox it is about, where there is one (the live one for `session_live`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sandbox_id: Option<SandboxId>,
    /// Which fields are wrong, where fields are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where in the body (a JSON pointer, `/env/1A`), or which query parameter (`?limit`) or header (`Prefer:`).
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// The problem document of a code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:plimsoll:problem:{code}"),
            title: code.meaning().to_owned(),
            status: code.http_status(),
            detail: detail.into(),
            instance: String::new(),
            code,
            sandbox_id: None,
            errors: Vec::new(),
        }
    }
}
