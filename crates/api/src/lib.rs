//! The HTTP surface: routes, authentication, problem documents, OpenAPI.
//!
//! It decides nothing about sandboxes or hosts: it turns requests into calls of the engine's façade, and its answers into
//! JSON. It knows neither raft nor Docker.

mod auth;
mod convert;
mod error;
mod extract;
mod limits;
mod linger;
mod listener;
mod observe;
pub mod openapi;
mod options;
mod router;
mod routes;
mod server;
mod streams;

pub use error::ApiError;
pub use options::{ContinueTrace, LogFilter, MetricsText, Options, SshGateway};
pub use server::{Error, serve};
