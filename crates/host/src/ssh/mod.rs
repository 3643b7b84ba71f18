//! The way to a host over SSH: keys, pinned host key, connections and what runs through them.
//!
//! Nothing here knows Docker's API.

mod command;
pub(crate) mod forward;
mod host;
pub(crate) mod keys;
mod link;
mod login;
mod pin;
mod pool;
mod shell;

pub(crate) use host::{SshHost, SshStream};
pub(crate) use login::{Login, host_key};
