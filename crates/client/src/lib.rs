//! Wire types and the typed HTTP client: what the CLI, the bench, the tests and Rust programs use to talk to a cluster.
//!
//! It knows no other Plimsoll crate than `types`, and never repeats by itself what may have happened already and must not
//! happen twice.

mod call;
pub mod client;
mod cluster;
pub mod error;
mod events;
pub mod exec;
mod files;
mod hosts;
mod moving;
mod restoring;
mod sandboxes;
mod snapshots;
pub mod wire;

pub use call::Wait;
pub use client::{ByteStream, Client};
pub use error::Error;
pub use events::{EventStream, Heard};
pub use exec::{ExecEvent, ExecInput, ExecOutput};
pub use files::WriteFile;
pub use moving::Accepted;
pub use sandboxes::{LogOptions, SandboxFilter};
pub use snapshots::SnapshotFilter;
