//! The host port: one Docker host, reached however the adapter does it, and how to dial one.

use super::{
    exec::{ExecRequest, ExecSession},
    files::Files,
    images::{CommitPlan, DiskUse, ImageSeen, Pushed, Registry, SnapshotImage},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use plimsoll_types::{
    Bytes as ByteCount, ClusterId, Code, Generation, HostAddress, HostFacts, Identity, ImageRef, MeasuredLoad,
    MilliCpu, OperationId, Runtime, SandboxId, SessionId, TenantId, Timestamp,
};
use std::{collections::BTreeMap, net::IpAddr, pin::Pin, sync::Arc};

/// Bytes that arrive piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, HostError>> + Send>>;

/// What a caller can do about a host's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFailure {
    /// The host does not answer: nothing is known of what was asked.
    Unreachable,
    /// It failed and may succeed later on this host.
    Transient,
    /// It fails here and may succeed on another host (full disk, missing runtime, port clash).
    ThisHost,
    /// It will fail everywhere: the request is wrong.
    Permanent,
}

/// An operation on a host that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// What a caller can do.
    pub failure: HostFailure,
    /// The stable code.
    pub code: Code,
    /// What was tried, what went wrong and what to do; never a secret.
    pub message: String,
}

impl HostError {
    /// Makes one.
    #[must_use]
    pub fn new(failure: HostFailure, code: Code, message: impl Into<String>) -> Self {
        Self { failure, code, message: message.into() }
    }
}

/// What `host add` and `host check` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyReport {
    /// What the host is.
    pub facts: HostFacts,
    /// How it is now.
    pub load: MeasuredLoad,
    /// Free bytes on the filesystem with Docker's data.
    pub disk_free: ByteCount,
    /// Free inodes there.
    pub inodes_free: u64,
    /// The host's clock minus ours, in milliseconds.
    pub clock_skew_ms: i64,
    /// Whether the base image is there.
    pub base_image_present: bool,
    /// sshd's MaxSessions, where it could be read.
    pub max_sessions: Option<u32>,
    /// sshd's MaxStartups, where it could be read.
    pub max_startups: Option<String>,
}

/// A sandbox's container, fully decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// The deterministic name: of many creators one wins.
    pub name: String,
    /// The cluster that owns it.
    pub cluster: ClusterId,
    /// The sandbox it is for.
    pub sandbox: SandboxId,
    /// The incarnation it is for.
    pub generation: Generation,
    /// The operation that makes it.
    pub operation: OperationId,
    /// Further labels, for operators (`session`, `tenant`). Ours win over an image's.
    pub labels: BTreeMap<String, String>,
    /// What it starts from.
    pub image: ImageRef,
    /// Whether `image` is a snapshot with the workspace in it: then the workspace must be empty before Docker fills it, so what an
    /// interrupted try of the same incarnation left is removed first.
    pub from_snapshot: bool,
    /// argv of its main process; `None` keeps it alive with an idle process.
    pub command: Option<Vec<String>>,
    /// Plain environment.
    pub env: BTreeMap<String, String>,
    /// CPU limit.
    pub cpu: MilliCpu,
    /// Memory limit; swap is off.
    pub memory: ByteCount,
    /// Most processes and threads.
    pub pids_limit: u32,
    /// Ports to publish.
    pub ports: PortPublish,
    /// The workspace.
    pub workspace: Mount,
    /// The tenant's network.
    pub network: NetworkPlan,
    /// The OCI runtime.
    pub runtime: Runtime,
    /// The container's hostname.
    pub hostname: String,
}

/// Ports to publish and on which address of the host; the host picks free ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPublish {
    /// The host's address to listen on.
    pub address: IpAddr,
    /// Ports inside the container.
    pub ports: Vec<u16>,
}

/// A folder of the host mounted into the container; created if missing, owned by the sandbox's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Folder on the host.
    pub source: String,
    /// Where it appears inside.
    pub target: String,
    /// Name of the Docker volume that stands for it.
    pub volume: String,
}

/// A tenant's bridge network; containers on it cannot talk to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Its name.
    pub name: String,
}

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended with this code.
    Exited(i64),
    /// Docker is removing it, or it is broken.
    Dead,
}

/// A container that was found, with what its labels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Docker's full id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// How it is.
    pub state: ContainerState,
    /// The cluster its labels name, if they do.
    pub cluster: Option<ClusterId>,
    /// The sandbox its labels name.
    pub sandbox: Option<SandboxId>,
    /// The incarnation its labels name.
    pub generation: Option<Generation>,
    /// The operation its labels name as its maker.
    pub operation: Option<OperationId>,
    /// The platform's key that its labels name.
    pub session: Option<SessionId>,
    /// The tenant that its labels name.
    pub tenant: Option<TenantId>,
    /// Ports published: inside → address and port on the host.
    pub ports: Vec<(u16, IpAddr, u16)>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a container was made with, as far as Docker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerMade {
    /// The image it was made from.
    pub image: ImageRef,
    /// argv of its main process; `None` for our idle one.
    pub command: Option<Vec<String>>,
    /// Its plain environment, the image's own included.
    pub env: BTreeMap<String, String>,
    /// CPU limit.
    pub cpu: MilliCpu,
    /// Memory limit.
    pub memory: ByteCount,
    /// Most processes and threads.
    pub pids_limit: u32,
    /// The OCI runtime.
    pub runtime: Runtime,
}

/// A container's use of its host, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// When it was read.
    pub at: Timestamp,
    /// CPU used since it started, in milliseconds of one CPU.
    pub cpu_total_ms: u64,
    /// CPU in use now, where two readings were available.
    pub cpu: MilliCpu,
    /// Memory in use, page cache left out.
    pub memory: ByteCount,
    /// Its memory limit.
    pub memory_limit: ByteCount,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes received since it started.
    pub received: ByteCount,
    /// Bytes sent since it started.
    pub sent: ByteCount,
}

/// Which log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with new lines as they come.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u32>,
}

/// One Docker host. Every method has its own deadline inside the adapter, and is safe to call twice.
#[async_trait]
pub trait HostDriver: Send + Sync + 'static {
    /// Everything `host add` reports.
    ///
    /// # Errors
    /// As every method here: see [`HostError`].
    async fn survey(&self, base_image: Option<&ImageRef>) -> Result<SurveyReport, HostError>;

    /// One poll: facts and the measured load of the machine.
    async fn measure(&self) -> Result<(HostFacts, MeasuredLoad), HostError>;

    /// Makes sure that an image is there, pulling it if not.
    async fn ensure_image(&self, image: &ImageRef) -> Result<(), HostError>;

    /// Creates the container with network, volume and folder, or finds the one that an earlier try of the **same sandbox and
    /// generation** made. A container of an older generation in the way is stopped and renamed; one that is not this cluster's is
    /// `name_clash`; one of a newer generation is `conflict`.
    async fn create_container(&self, plan: &ContainerPlan) -> Result<ContainerSeen, HostError>;

    /// Starts it, or finds it running, and answers with its ports. A container that ends at once is `start_failed` with its last lines.
    async fn start_container(&self, container: &str) -> Result<ContainerSeen, HostError>;

    /// Looks at one container by id or name; `None` if there is none.
    async fn inspect(&self, container: &str) -> Result<Option<ContainerSeen>, HostError>;

    /// What a container was made with; `None` if there is none, or it was not made by us.
    async fn made_with(&self, container: &str) -> Result<Option<ContainerMade>, HostError>;

    /// Every container whose labels name this cluster, stopped ones included.
    async fn list_containers(&self, cluster: ClusterId) -> Result<Vec<ContainerSeen>, HostError>;

    /// Every workspace whose volume's labels name this cluster, whether a container has it or not.
    async fn list_workspaces(&self, cluster: ClusterId) -> Result<Vec<Mount>, HostError>;

    /// Removes a container, running or not; missing is success.
    async fn remove_container(&self, container: &str) -> Result<(), HostError>;

    /// Removes a workspace: the volume and the folder with all in it; missing is success.
    async fn remove_workspace(&self, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError>;

    /// Removes our networks that no container uses.
    async fn remove_idle_networks(&self, cluster: ClusterId) -> Result<(), HostError>;

    /// Holds a running container's processes still; one that does not run is as still as can be.
    async fn freeze(&self, container: &str) -> Result<(), HostError>;

    /// Lets them go on; one that was not held still is left as it is.
    async fn thaw(&self, container: &str) -> Result<(), HostError>;

    /// Makes one image of a container that is held still and of its workspace; an earlier try's is replaced. Squashed when it would
    /// come near Docker's limit of layers.
    async fn commit(&self, plan: &CommitPlan) -> Result<(), HostError>;

    /// Pushes what [`HostDriver::commit`] made, resets its configuration in the registry, and answers with its digest.
    async fn push(&self, plan: &CommitPlan) -> Result<Pushed, HostError>;

    /// Makes sure that a snapshot is on the host under its local name, by digest; answers with the bytes that were fetched.
    async fn pull(&self, image: &SnapshotImage) -> Result<ByteCount, HostError>;

    /// A snapshot is about to be pulled, and a container of it made on this network: what can be made ready for that is, so that it takes
    /// less time then. Nothing depends on it, and a failure means nothing.
    async fn expect(&self, _network: &NetworkPlan, _cluster: ClusterId) {}

    /// Stops a replaced container and gives it this name; missing is success.
    async fn fence(&self, container: &str, name: &str) -> Result<(), HostError>;

    /// The cluster's snapshot images on the host.
    async fn list_snapshots(&self, cluster: ClusterId) -> Result<Vec<ImageSeen>, HostError>;

    /// Removes a snapshot image by its local name; missing is success, one in use is `conflict`.
    async fn remove_snapshot(&self, name: &str) -> Result<(), HostError>;

    /// Removes the cluster's images that have no name any more: a commit that was cut short goes on inside Docker. Only while no
    /// operation is under way on the host.
    async fn sweep_snapshots(&self, cluster: ClusterId) -> Result<(), HostError>;

    /// What takes room on the disk under Docker's data, as Docker accounts for it. Slow on a full host: seldom asked.
    async fn disk_use(&self, cluster: ClusterId) -> Result<DiskUse, HostError>;

    /// Starts a process in a running container.
    async fn exec(&self, container: &str, request: ExecRequest) -> Result<ExecSession, HostError>;

    /// The container's output.
    async fn logs(&self, container: &str, options: LogOptions) -> Result<ByteStream, HostError>;

    /// What the container uses.
    async fn stats(&self, container: &str) -> Result<ContainerStats, HostError>;

    /// The filesystem of running containers.
    fn files(&self) -> &dyn Files;
}

/// What to dial and what to expect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialTarget {
    /// A name for errors and metrics.
    pub name: String,
    /// Where.
    pub address: HostAddress,
    /// With which key.
    pub identity: Identity,
    /// The pinned host key in OpenSSH's one-line form.
    pub host_key: Option<String>,
}

/// Makes drivers for hosts. Dialling is lazy and reconnects by itself: an unreachable host still has a driver.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// The driver of a host.
    fn dial(&self, target: &DialTarget) -> Arc<dyn HostDriver>;

    /// The registry that snapshots go through, if one is configured.
    fn registry(&self) -> Option<Arc<dyn Registry>>;

    /// Asks an SSH host for its key without logging in: OpenSSH's one-line form and the SHA-256 fingerprint. `None` for `unix://`.
    ///
    /// # Errors
    /// `ssh_unreachable`.
    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError>;
}
