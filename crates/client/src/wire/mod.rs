//! What travels over HTTP: request and response bodies, in units people read. The API serves them, every client uses them.
//!
//! Requests refuse unknown fields, so that a typo is an error and not a default; responses tolerate them, so that an older
//! client reads a newer node.

pub mod cluster;
pub mod drain;
pub mod drift;
pub mod event;
pub mod exec;
pub mod files;
pub mod host;
pub mod operation;
pub mod page;
pub mod placement;
pub mod problem;
pub mod sandbox;
pub mod schema;
pub mod secret;
pub mod snapshot;
pub mod terminal;
pub mod units;

pub use cluster::{
    ClusterStatus, CreateKey, Healthy, JoinToken, Key, KeyCreated, LogLevel, Node, NodeRole, Policy, Role, SetLogLevel,
    TransferLeadership,
};
pub use drain::{Drain, DrainHost, DrainStatus, LeftBehind, Rebalance, RebalanceHosts, RebalanceMove};
pub use drift::{
    Drift, DriftLine, DriftSettled, DriftVerdict, Hold, HoldCluster, ResumeCluster, SettleDrift, SilentHost,
};
pub use event::{Event, EventId, EventKind};
pub use exec::{
    CommandLine, CommandResult, Encoding, ExecControl, ExecNotice, ExecRequest, ExecResult, RunCommands, Stream,
    TtySize,
};
pub use files::{EntryKind, FileEntry, FolderContent, FolderFile, MoveFile};
pub use host::{
    ChangeHost, Cordon, CordonHost, FullDisk, Host, HostCheck, HostFacts, HostIdentity, HostRemoved, Load, NewHost,
    Quarantine, Survey,
};
pub use operation::{
    Awake, Checkpoint, MigrateSandbox, Moved, Operation, OperationState, Restored, ResumeSandbox, Trouble, Work,
    WorkKind, WorkStage,
};
pub use page::Page;
pub use placement::{BatchPlaced, BatchPlacements, BatchResult, Explanation, HostVerdict};
pub use problem::{FieldError, Problem};
pub use sandbox::{
    CheckSandboxes, CreateSandbox, Endpoint, ExtendSandbox, PortRef, Provided, Resources, RunningSandboxes, Sandbox,
    Stats, Tunnels, WriteEnv,
};
pub use secret::{Secret, SecretMap};
pub use snapshot::{Paused, Snapshot, SnapshotKind, SnapshotPhase, TakeSnapshot};
pub use terminal::{CreateTerminal, Terminal};
pub use units::{Cpu, Size, Time};
