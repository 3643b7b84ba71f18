//! One control-plane node: raft log and vote in sled, a mutually authenticated peer network, membership; the `Ledger` port.
//!
//! openraft and sled are known here only: what other crates see is [`Node`] and the ports it implements. This crate does not
//! know what commands mean; it hands them to `plimsoll_state::State::apply`.

mod certs;
mod error;
mod identity;
mod machine;
pub mod metrics;
mod network;
mod node;
mod options;
mod store;
mod token;
mod types;

pub use error::{Error, Result};
pub use identity::ClusterSecret;
pub use node::Node;
pub use options::{Options, Timers};
pub use token::TOKEN_LIFETIME;
