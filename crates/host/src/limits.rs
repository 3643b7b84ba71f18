//! Every deadline and limit of the adapter, each with its reason, and the wrapper that keeps one.
//!
//! Nothing waits on a host without a limit from here.

use crate::{error, metrics};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// TCP, key exchange and login together. A slow link across the world takes about 2 s; more only delays the verdict.
pub(crate) const CONNECT: Duration = Duration::from_secs(8);
/// Opening one channel or Docker's socket. It is one round trip.
pub(crate) const OPEN: Duration = Duration::from_secs(10);
/// One poll. Two polls fit into the 10 s after which a silent host counts as unreachable.
pub(crate) const MEASURE: Duration = Duration::from_secs(5);
/// All that `host add` reports; the platform allows 10 s for a health check.
pub(crate) const SURVEY: Duration = Duration::from_secs(10);
/// Short requests: inspect, list, stats. A loaded Docker takes seconds for a list.
pub(crate) const CALL: Duration = Duration::from_secs(15);
/// Docker's account of its disk: it walks every volume.
pub(crate) const DISK_USE: Duration = Duration::from_secs(30);
/// A pull. Large images over slow links take minutes; the engine does not count them against the 180 s of a create, but allows
/// 600 s for them alone.
pub(crate) const PULL: Duration = Duration::from_secs(600);
/// Folder, volume, network and container; with an older container to stop first.
pub(crate) const CREATE: Duration = Duration::from_secs(90);
/// Starting takes 0.2 s; first use of a volume copies the image's files into it.
pub(crate) const START: Duration = Duration::from_secs(60);
/// Removing a container or a workspace: terminate has 30 s.
pub(crate) const REMOVE: Duration = Duration::from_secs(30);
/// Until a process in a sandbox has started or failed to.
pub(crate) const EXEC_START: Duration = Duration::from_secs(20);
/// Killing a process and its children.
pub(crate) const KILL: Duration = Duration::from_secs(20);
/// File operations that move no content.
pub(crate) const FILE: Duration = Duration::from_secs(30);
/// File operations that move content: 1 GiB at 1 MiB/s takes 17 minutes.
pub(crate) const FILE_STREAM: Duration = Duration::from_secs(3600);

/// Holding a container still or letting it go: milliseconds, but behind whatever Docker is busy with.
pub(crate) const FREEZE: Duration = Duration::from_secs(20);
/// Copying a workspace, committing twice and perhaps squashing, all on the host's own disk: 10 GiB at 20 MiB/s.
pub(crate) const COMMIT: Duration = Duration::from_secs(600);
/// A push: Docker packs at about 30 MiB/s, so 10 GiB take six minutes on a good link.
pub(crate) const PUSH: Duration = Duration::from_secs(1800);
/// One request to the registry. It answers small ones in milliseconds; a loaded disk takes seconds.
pub(crate) const REGISTRY: Duration = Duration::from_secs(15);
/// Listing all of a registry, page by page.
pub(crate) const REGISTRY_LIST: Duration = Duration::from_secs(120);

/// How long a container that is stopped to be fenced has to end by itself.
pub(crate) const FENCE_GRACE_S: i32 = 5;
/// How long a container with a main process of its own is watched after its start.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

/// Runs a host operation within its deadline, and counts it.
pub(crate) async fn within<T>(
    host: &str,
    op: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let started = Instant::now();
    let result = match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(error::unreachable(
            Code::Timeout,
            format!("{op} on host {host} did not finish within {} s; it may still finish", limit.as_secs()),
        )),
    };
    metrics::operation(host, op, result.as_ref().err(), started.elapsed());
    if let Err(error) = &result {
        tracing::debug!(host, op, code = error.code.as_str(), %error, "host operation failed");
    }
    result
}
