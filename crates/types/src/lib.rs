//! Plimsoll's vocabulary: ids, units, resources, specs and phases that every layer shares.
//!
//! This crate has no runtime, clock, randomness or I/O, and knows no other Plimsoll crate.

pub mod code;
pub mod digest;
pub mod host;
pub mod ids;
pub mod load;
pub mod names;
pub mod phase;
pub mod resources;
pub mod sandbox;
pub mod units;

pub use code::Code;
pub use digest::Digest;
pub use host::{Health, HostAddress, HostFacts, Identity, LoadLine, PublishAddress};
pub use ids::{ClusterId, HostId, KeyId, NodeId, OperationId, SandboxId, SnapshotId};
pub use load::{MeasuredLoad, Pressure};
pub use names::{HostName, ImageRef, InvalidName, Label, Labels, SessionId, SnapshotName, TenantId};
pub use phase::{Desired, Phase};
pub use resources::Resources;
pub use sandbox::{Constraint, Endpoint, ExpiryAction, HostLossPolicy, Runtime, SandboxSpec};
pub use units::{Bytes, Generation, MilliCpu, Millis, Timestamp};
