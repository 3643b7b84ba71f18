//! The host port on a simulated host: every method is one request over the line.

use super::{Docker, HostOp, Line, exec, files::SimFiles};
use async_trait::async_trait;
use bytes::Bytes as Blob;
use futures_util::stream;
use plimsoll_lifecycle::ports::{
    ByteStream, CommitPlan, ContainerMade, ContainerPlan, ContainerSeen, ContainerState, ContainerStats, DiskUse,
    ExecRequest, ExecSession, Files, HostDriver, HostError, ImageSeen, LogOptions, Mount, Pushed, SnapshotImage,
    SurveyReport,
};
use plimsoll_types::{Bytes, ClusterId, HostFacts, ImageRef, MeasuredLoad, MilliCpu, Timestamp};
use std::time::Duration;

/// What a machine uses without any sandbox.
const IDLE_MEMORY: Bytes = Bytes::mib(300);
/// What Docker's images and the system use on its disk.
const IDLE_DISK: Bytes = Bytes::gib(4);
/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// One node's driver of one host.
pub(in crate::sim) struct SimDriver {
    line: Line,
    files: SimFiles,
}

impl SimDriver {
    pub(in crate::sim) fn new(line: Line) -> Self {
        Self { files: SimFiles(line.clone()), line }
    }
}

/// Every running container of anybody uses a quarter of its memory and a tenth of a CPU.
fn load(docker: &Docker, at: Timestamp) -> MeasuredLoad {
    let running: Vec<_> =
        docker.containers.values().filter(|found| found.seen.state == ContainerState::Running).collect();
    let count = u32::try_from(running.len()).unwrap_or(u32::MAX);
    let memory = running.iter().filter_map(|found| found.plan.as_ref()).map(|plan| plan.memory.0 / 4).sum::<u64>();
    let full = docker.disk_full;
    MeasuredLoad {
        at,
        cpu: MilliCpu(u64::from(count) * 100),
        memory: IDLE_MEMORY.saturating_add(Bytes(memory)),
        disk: if full { docker.facts.totals.disk } else { IDLE_DISK },
        inodes_permille: if full { 1000 } else { 50 },
        sandboxes: running.iter().filter_map(|found| found.seen.cluster).count().try_into().unwrap_or(u32::MAX),
        ..MeasuredLoad::default()
    }
}

#[async_trait]
impl HostDriver for SimDriver {
    async fn survey(&self, base_image: Option<&ImageRef>) -> Result<SurveyReport, HostError> {
        let base = base_image.cloned();
        let survey = self.line.call(HostOp::Survey, move |docker, now| {
            let load = load(docker, now);
            Ok(SurveyReport {
                facts: docker.facts.clone(),
                load,
                disk_free: docker.facts.totals.disk.saturating_sub(load.disk),
                inodes_free: u64::from(1000 - load.inodes_permille) * 10_000,
                clock_skew_ms: 0,
                base_image_present: base.as_ref().is_some_and(|image| docker.images.contains(image)),
                max_sessions: Some(10),
                max_startups: Some("10:30:100".into()),
            })
        });
        survey.await
    }

    async fn measure(&self) -> Result<(HostFacts, MeasuredLoad), HostError> {
        self.line.call(HostOp::Measure, |docker, now| Ok((docker.facts.clone(), load(docker, now)))).await
    }

    async fn ensure_image(&self, image: &ImageRef) -> Result<(), HostError> {
        let image = image.clone();
        self.line.call(HostOp::EnsureImage, move |docker, _| docker.ensure_image(&image)).await
    }

    async fn create_container(&self, plan: &ContainerPlan) -> Result<ContainerSeen, HostError> {
        let plan = plan.clone();
        self.line.call(HostOp::CreateContainer, move |docker, now| docker.create(&plan, now)).await
    }

    async fn start_container(&self, container: &str) -> Result<ContainerSeen, HostError> {
        let container = container.to_owned();
        self.line.call(HostOp::StartContainer, move |docker, _| docker.start(&container)).await
    }

    async fn inspect(&self, container: &str) -> Result<Option<ContainerSeen>, HostError> {
        let container = container.to_owned();
        let look = self
            .line
            .call(HostOp::Inspect, move |docker, _| Ok(docker.find(&container).map(|found| found.seen.clone())));
        look.await
    }

    async fn made_with(&self, container: &str) -> Result<Option<ContainerMade>, HostError> {
        let container = container.to_owned();
        let made = |plan: &ContainerPlan| ContainerMade {
            image: plan.image.clone(),
            command: plan.command.clone(),
            env: plan.env.clone(),
            cpu: plan.cpu,
            memory: plan.memory,
            pids_limit: plan.pids_limit,
            runtime: plan.runtime,
        };
        let look = self.line.call(HostOp::Inspect, move |docker, _| {
            Ok(docker.find(&container).and_then(|found| found.plan.as_ref()).map(made))
        });
        look.await
    }

    async fn list_containers(&self, cluster: ClusterId) -> Result<Vec<ContainerSeen>, HostError> {
        let list = self.line.call(HostOp::ListContainers, move |docker, _| {
            let ours = docker.containers.values().filter(|found| found.seen.cluster == Some(cluster));
            Ok(ours.map(|found| found.seen.clone()).collect())
        });
        list.await
    }

    async fn list_workspaces(&self, cluster: ClusterId) -> Result<Vec<Mount>, HostError> {
        self.line.call(HostOp::ListWorkspaces, move |docker, _| Ok(docker.workspaces(cluster))).await
    }

    async fn remove_container(&self, container: &str) -> Result<(), HostError> {
        let container = container.to_owned();
        self.line.call(HostOp::RemoveContainer, move |docker, _| docker.remove(&container)).await
    }

    async fn remove_workspace(&self, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
        let workspace = workspace.clone();
        self.line.call(HostOp::RemoveWorkspace, move |docker, _| docker.remove_workspace(&workspace, cluster)).await
    }

    async fn remove_idle_networks(&self, cluster: ClusterId) -> Result<(), HostError> {
        self.line.call(HostOp::RemoveIdleNetworks, move |docker, _| docker.remove_idle_networks(cluster)).await
    }

    async fn freeze(&self, container: &str) -> Result<(), HostError> {
        let container = container.to_owned();
        self.line.call(HostOp::Freeze, move |docker, _| docker.freeze(&container)).await
    }

    async fn thaw(&self, container: &str) -> Result<(), HostError> {
        let container = container.to_owned();
        self.line.call(HostOp::Thaw, move |docker, _| docker.thaw(&container)).await
    }

    async fn commit(&self, plan: &CommitPlan) -> Result<(), HostError> {
        let plan = plan.clone();
        self.line.call(HostOp::Commit, move |docker, now| docker.commit(&plan, now)).await
    }

    async fn push(&self, plan: &CommitPlan) -> Result<Pushed, HostError> {
        let plan = plan.clone();
        self.line.call(HostOp::Push, move |docker, _| docker.push(&plan)).await
    }

    async fn pull(&self, image: &SnapshotImage) -> Result<Bytes, HostError> {
        let image = image.clone();
        self.line.call(HostOp::Pull, move |docker, now| docker.pull(&image, now)).await
    }

    async fn fence(&self, container: &str, name: &str) -> Result<(), HostError> {
        let (container, name) = (container.to_owned(), name.to_owned());
        self.line.call(HostOp::Fence, move |docker, _| docker.fence(&container, &name)).await
    }

    async fn list_snapshots(&self, cluster: ClusterId) -> Result<Vec<ImageSeen>, HostError> {
        self.line.call(HostOp::ListSnapshots, move |docker, _| Ok(docker.list_snapshots(cluster))).await
    }

    async fn disk_use(&self, _cluster: ClusterId) -> Result<DiskUse, HostError> {
        // What fills a simulated disk is a switch, not a thing.
        self.line.call(HostOp::ListSnapshots, |_, _| Ok(DiskUse::default())).await
    }

    async fn sweep_snapshots(&self, _cluster: ClusterId) -> Result<(), HostError> {
        // Every simulated image has a name.
        Ok(())
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), HostError> {
        let name = name.to_owned();
        self.line.call(HostOp::RemoveSnapshot, move |docker, _| docker.remove_snapshot(&name)).await
    }

    async fn exec(&self, container: &str, request: ExecRequest) -> Result<ExecSession, HostError> {
        let container = container.to_owned();
        self.line.call(HostOp::Exec, move |docker, _| docker.running(&container).map(drop)).await?;
        exec::start(&request)
    }

    async fn logs(&self, container: &str, options: LogOptions) -> Result<ByteStream, HostError> {
        let line = self.line.clone();
        let name = container.to_owned();
        let (lines, runs) = read_log(&line, &name).await?;
        let tail = options.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        let seen = lines.len();
        let first: Vec<_> = lines.into_iter().skip(seen.saturating_sub(tail)).map(|line| Ok(piece(&line))).collect();
        let start = (seen, runs && options.follow);
        let rest = stream::unfold(start, move |(seen, runs)| {
            let (line, name) = (line.clone(), name.clone());
            async move {
                if !runs {
                    return None;
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
                match read_log(&line, &name).await {
                    Ok((lines, runs)) => {
                        let text: String = lines.iter().skip(seen).map(|line| format!("{line}\n")).collect();
                        Some((Ok(Blob::from(text)), (lines.len(), runs)))
                    }
                    Err(error) => Some((Err(error), (seen, false))),
                }
            }
        });
        Ok(Box::pin(stream::StreamExt::chain(stream::iter(first), rest)))
    }

    async fn stats(&self, container: &str) -> Result<ContainerStats, HostError> {
        let container = container.to_owned();
        let stats = self.line.call(HostOp::Stats, move |docker, now| {
            let quiet = docker.quiet;
            let found = docker.running(&container)?;
            let limit = found.plan.as_ref().map_or(Bytes::ZERO, |plan| plan.memory);
            let cpu_total_ms = if quiet { 0 } else { now.since(found.seen.created_at).0 / 10 };
            Ok(ContainerStats {
                at: now,
                cpu_total_ms,
                cpu: MilliCpu(100),
                memory: Bytes(limit.0 / 4),
                memory_limit: limit,
                pids: 2,
                ..ContainerStats::default()
            })
        });
        stats.await
    }

    fn files(&self) -> &dyn Files {
        &self.files
    }
}

fn piece(line: &str) -> Blob {
    Blob::from(format!("{line}\n"))
}

/// The lines so far, and whether more may come.
async fn read_log(line: &Line, container: &str) -> Result<(Vec<String>, bool), HostError> {
    let container = container.to_owned();
    let read = line.call(HostOp::Logs, move |docker, _| match docker.find(&container) {
        Some(found) => Ok((found.log.clone(), found.seen.state == ContainerState::Running)),
        None => Err(super::docker::gone(&container)),
    });
    read.await
}
