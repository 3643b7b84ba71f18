//! The one error of every handler: it becomes a problem document, completed with the request's id on its way out.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use plimsoll_client::wire::{FieldError, Problem};
use plimsoll_lifecycle::ports::{HostError, LedgerError};
use plimsoll_types::Code;

/// Why a request was not done.
#[derive(Clone, Debug)]
pub struct ApiError(pub(crate) Box<Problem>);

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    /// Makes one.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    /// A request whose fields are wrong; the detail repeats them, for people who read only that.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        // The body as a whole has an empty pointer, which says nothing to a person.
        let said = |error: &FieldError| match error.pointer.as_str() {
            "" => error.detail.clone(),
            pointer => format!("{pointer}: {}", error.detail),
        };
        let detail: Vec<String> = errors.iter().map(said).collect();
        let mut problem = Problem::new(Code::InvalidRequest, detail.join("; "));
        problem.errors = errors;
        Self(Box::new(problem))
    }

    /// A request with one wrong field.
    #[must_use]
    pub fn field(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.to_string() }])
    }

    /// The problem document, with the id of the request that met it.
    pub(crate) fn completed(mut self, request: &str) -> Box<Problem> {
        request.clone_into(&mut self.0.instance);
        self.0
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }
}

/// The body is written by [`crate::observe`], which knows the request's id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<plimsoll_engine::Error> for ApiError {
    fn from(error: plimsoll_engine::Error) -> Self {
        let mut problem = Problem::new(error.code, error.message);
        problem.sandbox_id = error.sandbox;
        Self(Box::new(problem))
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        plimsoll_engine::Error::from(error).into()
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        plimsoll_engine::Error::from(error).into()
    }
}
