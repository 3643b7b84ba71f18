//! Docker's API on one host: the clients, and one file per kind of thing.
//!
//! Nothing here knows how the host is reached.

mod account;
mod api;
mod create;
mod disk;
mod fence;
mod frames;
pub(crate) mod freeze;
mod hardening;
mod helper;
mod image;
mod known;
pub(crate) mod made;
mod names;
mod network;
mod raw;
mod seen;
pub(crate) mod snapshot;
mod start;
pub(crate) mod stats;
mod workspace;

pub(crate) mod logs;
pub(crate) mod remove;

pub(crate) use api::Api;
pub(crate) use create::create as create_container;
pub(crate) use disk::usage as disk_use;
pub(crate) use fence::fence;
pub(crate) use frames::{Channel, Frames};
pub(crate) use hardening::sandbox_user;
pub(crate) use image::{ensure as ensure_image, inspect as inspect_image};
pub(crate) use network::{ensure as ensure_network, remove_idle as remove_idle_networks};
pub(crate) use raw::upgrade;
pub(crate) use seen::{check_name, inspect, list};
pub(crate) use start::start as start_container;
pub(crate) use workspace::{list as list_workspaces, remove as remove_workspace};
