//! The handlers, one file for each thing they are about.

pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod exec_stream;
pub(crate) mod files;
pub(crate) mod hosts;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod log_level;
pub(crate) mod moving;
pub(crate) mod operations;
pub(crate) mod placements;
pub(crate) mod policy;
pub(crate) mod sandboxes;
pub(crate) mod snapshots;
pub(crate) mod system;
pub(crate) mod terminals;
