//! Peers talk over TCP with mutual TLS, in frames with request ids, so that one connection carries many requests at once.
//!
//! Nothing here decides anything: requests are handed to a [`server::Handler`].

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod pool;
pub(crate) mod replication;
pub(crate) mod server;
pub(crate) mod tls;
