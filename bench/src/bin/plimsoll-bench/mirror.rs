//! Simulated hosts that remember nothing: what stands on them is what state says runs there. They add nothing to a node's memory, and a node
//! that starts anew finds its sandboxes running.

use async_trait::async_trait;
use plimsoll_lifecycle::ports::{
    ByteStream, CommitPlan, ContainerMade, ContainerPlan, ContainerSeen, ContainerState, ContainerStats, Dial,
    DialTarget, DiskUse, ExecRequest, ExecSession, Files, HostDriver, HostError, HostFailure, ImageSeen, Ledger,
    LogOptions, Mount, Pushed, Registry, SnapshotImage, SurveyReport, ledger::read,
};
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{
    Bytes, ClusterId, Code, Generation, HostAddress, HostFacts, ImageRef, MeasuredLoad, Phase, SandboxId, Timestamp,
};
use std::{sync::Arc, time::Duration};

/// Makes such hosts; what they do not do themselves is left to another dialer's.
pub struct Mirrors {
    ledger: Arc<dyn Ledger>,
    rest: Arc<dyn Dial>,
}

struct Mirror {
    name: String,
    ledger: Arc<dyn Ledger>,
    rest: Arc<dyn HostDriver>,
}

impl Mirrors {
    /// Over this state.
    pub fn new(ledger: Arc<dyn Ledger>, rest: Arc<dyn Dial>) -> Arc<Self> {
        Arc::new(Self { ledger, rest })
    }
}

#[async_trait]
impl Dial for Mirrors {
    fn dial(&self, target: &DialTarget) -> Arc<dyn HostDriver> {
        Arc::new(Mirror { name: target.name.clone(), ledger: Arc::clone(&self.ledger), rest: self.rest.dial(target) })
    }
    fn registry(&self) -> Option<Arc<dyn Registry>> {
        self.rest.registry()
    }
    async fn host_key(&self, address: &HostAddress) -> Result<Option<(String, String)>, HostError> {
        self.rest.host_key(address).await
    }
}

/// How long a start takes: about what Docker needs for it.
const START: Duration = Duration::from_millis(100);
/// Where a container's id tells the generation: behind the sandbox.
const TELLS_GENERATION: usize = 56;

/// The id of a sandbox's container: as long as Docker's, and it tells whose it is.
fn container_id(sandbox: SandboxId, generation: Generation) -> String {
    format!("{:0>TELLS_GENERATION$}{:08x}", sandbox.to_string(), generation.0)
}

/// Whose container this is, if the id is one of ours.
fn sandbox_of(container: &str) -> Option<SandboxId> {
    container.get(..TELLS_GENERATION)?.trim_start_matches('0').parse().ok()
}

fn running(state: &State, cluster: Option<ClusterId>, sandbox: &Sandbox) -> ContainerSeen {
    ContainerSeen {
        id: container_id(sandbox.id, sandbox.generation),
        name: plimsoll_lifecycle::naming::container(&state.policy, &sandbox.tenant, &sandbox.session),
        state: ContainerState::Running,
        cluster,
        sandbox: Some(sandbox.id),
        generation: Some(sandbox.generation),
        operation: None,
        session: Some(sandbox.session.clone()),
        tenant: Some(sandbox.tenant.clone()),
        ports: Vec::new(),
        created_at: sandbox.created_at,
    }
}

impl Mirror {
    /// The container of that id, if its sandbox has come at least so far that it may stand here.
    fn find(&self, container: &str) -> Option<ContainerSeen> {
        let id = sandbox_of(container)?;
        read(self.ledger.as_ref(), |state| {
            let sandbox = state.sandboxes.get(&id)?;
            let stands = matches!(sandbox.phase, Phase::Starting | Phase::Running)
                && container_id(sandbox.id, sandbox.generation) == container;
            stands.then(|| running(state, state.cluster, sandbox))
        })
    }
}

#[async_trait]
impl HostDriver for Mirror {
    async fn survey(&self, base_image: Option<&ImageRef>) -> Result<SurveyReport, HostError> {
        self.rest.survey(base_image).await
    }
    async fn measure(&self) -> Result<(HostFacts, MeasuredLoad), HostError> {
        self.rest.measure().await
    }
    async fn ensure_image(&self, _image: &ImageRef) -> Result<(), HostError> {
        Ok(())
    }
    async fn create_container(&self, plan: &ContainerPlan) -> Result<ContainerSeen, HostError> {
        Ok(ContainerSeen {
            id: container_id(plan.sandbox, plan.generation),
            name: plan.name.clone(),
            state: ContainerState::Created,
            cluster: Some(plan.cluster),
            sandbox: Some(plan.sandbox),
            generation: Some(plan.generation),
            operation: Some(plan.operation),
            session: None,
            tenant: None,
            ports: Vec::new(),
            created_at: Timestamp::ZERO,
        })
    }
    async fn start_container(&self, container: &str) -> Result<ContainerSeen, HostError> {
        tokio::time::sleep(START).await;
        self.find(container).ok_or_else(|| {
            let why = format!("no sandbox of {} has the container {container}", self.name);
            HostError::new(HostFailure::Transient, Code::StartFailed, why)
        })
    }
    async fn inspect(&self, container: &str) -> Result<Option<ContainerSeen>, HostError> {
        // Asked by name nothing is there yet: creating twice is creating once.
        Ok(self.find(container))
    }
    async fn list_containers(&self, cluster: ClusterId) -> Result<Vec<ContainerSeen>, HostError> {
        Ok(read(self.ledger.as_ref(), |state| {
            let host = state.hosts.values().find(|host| host.name.as_str() == self.name).map(|host| host.id);
            let here = host.into_iter().flat_map(|host| state.on_host(host));
            let runs = here.filter(|sandbox| sandbox.phase == Phase::Running);
            runs.map(|sandbox| running(state, Some(cluster), sandbox)).collect()
        }))
    }
    async fn list_workspaces(&self, _cluster: ClusterId) -> Result<Vec<Mount>, HostError> {
        Ok(Vec::new())
    }
    async fn remove_container(&self, _container: &str) -> Result<(), HostError> {
        Ok(())
    }
    async fn remove_workspace(&self, _workspace: &Mount, _cluster: ClusterId) -> Result<(), HostError> {
        Ok(())
    }
    async fn remove_idle_networks(&self, _cluster: ClusterId) -> Result<(), HostError> {
        Ok(())
    }
    async fn freeze(&self, container: &str) -> Result<(), HostError> {
        self.rest.freeze(container).await
    }
    async fn thaw(&self, container: &str) -> Result<(), HostError> {
        self.rest.thaw(container).await
    }
    async fn commit(&self, plan: &CommitPlan) -> Result<(), HostError> {
        self.rest.commit(plan).await
    }
    async fn push(&self, plan: &CommitPlan) -> Result<Pushed, HostError> {
        self.rest.push(plan).await
    }
    async fn pull(&self, image: &SnapshotImage) -> Result<Bytes, HostError> {
        self.rest.pull(image).await
    }
    async fn fence(&self, container: &str, name: &str) -> Result<(), HostError> {
        self.rest.fence(container, name).await
    }
    async fn list_snapshots(&self, cluster: ClusterId) -> Result<Vec<ImageSeen>, HostError> {
        self.rest.list_snapshots(cluster).await
    }
    async fn remove_snapshot(&self, name: &str) -> Result<(), HostError> {
        self.rest.remove_snapshot(name).await
    }
    async fn sweep_snapshots(&self, cluster: ClusterId) -> Result<(), HostError> {
        self.rest.sweep_snapshots(cluster).await
    }
    async fn made_with(&self, container: &str) -> Result<Option<ContainerMade>, HostError> {
        self.rest.made_with(container).await
    }
    async fn disk_use(&self, cluster: ClusterId) -> Result<DiskUse, HostError> {
        self.rest.disk_use(cluster).await
    }
    async fn exec(&self, container: &str, request: ExecRequest) -> Result<ExecSession, HostError> {
        self.rest.exec(container, request).await
    }
    async fn logs(&self, container: &str, options: LogOptions) -> Result<ByteStream, HostError> {
        self.rest.logs(container, options).await
    }
    async fn stats(&self, container: &str) -> Result<ContainerStats, HostError> {
        self.rest.stats(container).await
    }
    fn files(&self) -> &dyn Files {
        self.rest.files()
    }
}
