//! Snapshots on a host: a container and its workspace made into one image, sent to the registry and fetched from there.
//!
//! A snapshot's image is what `docker commit` gives, and on top of it a layer with the workspace, which a helper container, the carrier,
//! copies from the volume. Everything is named after the snapshot, so that a second try finds and replaces what a first one left.
//!
//! What Docker's layers do not keep no snapshot keeps: sockets, fractions of a second of times, holes in sparse files (they come back
//! filled with zeros), and what images declare as volumes of their own. `user.*` extended attributes come along in a list of their own.

pub(crate) mod attributes;
mod carrier;
mod commit;
mod local;
mod progress;
mod pull;
mod push;
mod ready;
mod squash;

pub(crate) use commit::{SQUASH_AT, commit};
pub(crate) use local::{list, remove, sweep};
pub(crate) use pull::{missing as registry_missing, pull};
pub(crate) use push::push;
pub(crate) use ready::make_ready;
