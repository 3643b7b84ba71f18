//! The driver: each operation of the port with its deadline and its metrics.

use crate::{
    access::Access,
    docker::{self, Api, snapshot},
    exec, limits,
    machine::{self, Memory},
    registry::Client,
};
use async_trait::async_trait;
use plimsoll_lifecycle::ports::{
    ByteStream, CommitPlan, ContainerMade, ContainerPlan, ContainerSeen, ContainerStats, DiskUse, ExecRequest,
    ExecSession, Files, HostDriver, HostError, ImageSeen, LogOptions, Mount, NetworkPlan, Pushed, SnapshotImage,
    SurveyReport,
};
use plimsoll_types::{Bytes as ByteCount, ClusterId, HostFacts, ImageRef, MeasuredLoad};
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

/// One host.
pub(crate) struct Driver {
    pub(crate) api: Arc<Api>,
    memory: Memory,
    registry: Option<Arc<Client>>,
    squash_at: usize,
}

impl Driver {
    pub(crate) fn new(name: String, access: Access, registry: Option<Arc<Client>>, squash_at: usize) -> Self {
        Self { api: Arc::new(Api::new(name, Arc::new(access))), memory: Memory::default(), registry, squash_at }
    }

    pub(crate) async fn within<T>(
        &self,
        op: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        limits::within(&self.api.name, op, limit, work).await
    }
}

#[async_trait]
impl HostDriver for Driver {
    async fn survey(&self, base_image: Option<&ImageRef>) -> Result<SurveyReport, HostError> {
        self.within("survey", limits::SURVEY, machine::survey(&self.api, &self.memory, base_image)).await
    }

    async fn measure(&self) -> Result<(HostFacts, MeasuredLoad), HostError> {
        self.within("measure", limits::MEASURE, machine::measure(&self.api, &self.memory)).await
    }

    async fn ensure_image(&self, image: &ImageRef) -> Result<(), HostError> {
        self.within("ensure_image", limits::PULL, docker::ensure_image(&self.api, image)).await
    }

    async fn create_container(&self, plan: &ContainerPlan) -> Result<ContainerSeen, HostError> {
        self.within("create", limits::CREATE, docker::create_container(&self.api, plan)).await
    }

    async fn start_container(&self, container: &str) -> Result<ContainerSeen, HostError> {
        self.within("start", limits::START, docker::start_container(&self.api, container)).await
    }

    async fn inspect(&self, container: &str) -> Result<Option<ContainerSeen>, HostError> {
        self.within("inspect", limits::CALL, docker::inspect(&self.api, container)).await
    }

    async fn made_with(&self, container: &str) -> Result<Option<ContainerMade>, HostError> {
        self.within("inspect", limits::CALL, docker::made::made_with(&self.api, container)).await
    }

    async fn list_containers(&self, cluster: ClusterId) -> Result<Vec<ContainerSeen>, HostError> {
        self.within("list", limits::CALL, docker::list(&self.api, cluster)).await
    }

    async fn list_workspaces(&self, cluster: ClusterId) -> Result<Vec<Mount>, HostError> {
        self.within("list_workspaces", limits::CALL, docker::list_workspaces(&self.api, cluster)).await
    }

    async fn remove_container(&self, container: &str) -> Result<(), HostError> {
        self.within("remove", limits::REMOVE, docker::remove::container(&self.api, container)).await
    }

    async fn remove_workspace(&self, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
        self.within("remove_workspace", limits::REMOVE, docker::remove_workspace(&self.api, workspace, cluster)).await
    }

    async fn remove_idle_networks(&self, cluster: ClusterId) -> Result<(), HostError> {
        self.within("remove_networks", limits::REMOVE, async {
            let _alone = self.api.networks.write().await;
            docker::remove_idle_networks(&self.api, cluster).await
        })
        .await
    }

    async fn freeze(&self, container: &str) -> Result<(), HostError> {
        self.within("freeze", limits::FREEZE, docker::freeze::freeze(&self.api, container)).await
    }

    async fn thaw(&self, container: &str) -> Result<(), HostError> {
        self.within("thaw", limits::FREEZE, docker::freeze::thaw(&self.api, container)).await
    }

    async fn commit(&self, plan: &CommitPlan) -> Result<(), HostError> {
        let committing = async {
            // Two commits of one sandbox would take each other's helper away.
            let _alone = self.api.commits.lock(&plan.container).await;
            let ahead = async {
                snapshot::make_ready(&self.api, self.registry.as_deref()).await;
                std::future::pending::<Infallible>().await
            };
            tokio::select! {
                made = snapshot::commit(&self.api, plan, self.squash_at) => made,
                // The push needs it next; the commit does not wait for it.
                never = ahead => match never {},
            }
        };
        self.within("commit", limits::COMMIT, committing).await
    }

    async fn push(&self, plan: &CommitPlan) -> Result<Pushed, HostError> {
        let pushing = async {
            let registry = self.registry.as_ref().ok_or_else(snapshot::registry_missing)?;
            snapshot::push(&self.api, registry, plan).await
        };
        self.within("push", limits::PUSH, pushing).await
    }

    async fn pull(&self, image: &SnapshotImage) -> Result<ByteCount, HostError> {
        let pulling = snapshot::pull(&self.api, self.registry.as_deref(), image);
        self.within("pull", limits::PUSH, pulling).await
    }

    async fn expect(&self, network: &NetworkPlan, cluster: ClusterId) {
        let registry = snapshot::make_ready(&self.api, self.registry.as_deref());
        let networks = async {
            let _networks = self.api.networks.read().await;
            if let Err(error) = docker::ensure_network(&self.api, network, cluster).await {
                tracing::debug!(host = self.api.name, %error, "a network is not made ahead");
            }
        };
        let ready = async { tokio::join!(registry, networks) };
        let _late = tokio::time::timeout(limits::CREATE, ready).await;
    }

    async fn fence(&self, container: &str, name: &str) -> Result<(), HostError> {
        self.within("fence", limits::REMOVE, docker::fence(&self.api, container, name)).await
    }

    async fn list_snapshots(&self, cluster: ClusterId) -> Result<Vec<ImageSeen>, HostError> {
        self.within("list_snapshots", limits::CALL, snapshot::list(&self.api, cluster)).await
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), HostError> {
        self.within("remove_snapshot", limits::REMOVE, snapshot::remove(&self.api, name)).await
    }

    async fn sweep_snapshots(&self, cluster: ClusterId) -> Result<(), HostError> {
        self.within("sweep_snapshots", limits::REMOVE, snapshot::sweep(&self.api, cluster)).await
    }

    async fn disk_use(&self, cluster: ClusterId) -> Result<DiskUse, HostError> {
        self.within("disk_use", limits::DISK_USE, docker::disk_use(&self.api, cluster)).await
    }

    async fn exec(&self, container: &str, request: ExecRequest) -> Result<ExecSession, HostError> {
        exec::open(&self.api, container, request).await
    }

    async fn logs(&self, container: &str, options: LogOptions) -> Result<ByteStream, HostError> {
        self.within("logs", limits::CALL, docker::logs::logs(&self.api, container, options)).await
    }

    async fn stats(&self, container: &str) -> Result<ContainerStats, HostError> {
        self.within("stats", limits::CALL, docker::stats::stats(&self.api, &self.memory.readings, container)).await
    }

    fn files(&self) -> &dyn Files {
        self
    }
}
