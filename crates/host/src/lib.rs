//! One Docker host: its SSH connection, Docker through it, and measurements of the machine, behind the ports of
//! `plimsoll-lifecycle`.
//!
//! Nothing here decides anything or remembers sandboxes: every call says what it wants and can be made twice. Nothing is
//! installed on a host; all that runs there is sshd, Docker and a few fixed shell scripts.

mod access;
mod dial;
mod docker;
mod door;
mod driver;
mod error;
mod exec;
mod files;
mod limits;
mod machine;
pub mod metrics;
mod registry;
mod ssh;

pub use dial::{Dialer, Options};
pub use registry::RegistryOptions;
pub use ssh::keys::{Keys, SecretText};
