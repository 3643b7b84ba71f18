//! Between the wire and the engine: requests are checked here, once and completely; records become answers.

pub(crate) mod drain;
pub(crate) mod drift;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod operation;
pub(crate) mod policy;
pub(crate) mod request;
pub(crate) mod rules;
pub(crate) mod sandbox;
pub(crate) mod snapshot;
