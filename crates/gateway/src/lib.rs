//! The data path for people: `ssh <sandbox id>@gateway` opens a shell in that sandbox, whatever image it runs.
//!
//! The gateway resolves its target through the engine for every session, so only the committed generation is reachable. It
//! runs no command on any host and never sees a password: public keys that the sandbox's spec lists are all that opens it.

mod channel;
mod server;

pub use server::{Error, Options, serve};
