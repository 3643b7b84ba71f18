//! The ports: what the engine needs from the world, declared where no adapter is known.

pub mod clock;
pub mod exec;
pub mod files;
pub mod host;
pub mod images;
pub mod ledger;
pub mod membership;

pub use clock::Clock;
pub use exec::{ExecControl, ExecEvent, ExecRequest, ExecSession, TtySize};
pub use files::{EntryKind, FileEntry, Files, WriteOptions};
pub use host::{
    ByteStream, ContainerMade, ContainerPlan, ContainerSeen, ContainerState, ContainerStats, Dial, DialTarget,
    HostDriver, HostError, HostFailure, LogOptions, Mount, NetworkPlan, PortPublish, SurveyReport,
};
pub use images::{CommitPlan, DiskUse, Eaters, ImageSeen, Pushed, Registry, SnapshotImage, StoredSeen};
pub use ledger::{Applied, LeaderHandler, LeaderView, Ledger, LedgerError};
pub use membership::{ClusterMember, MemberRole, Membership};
