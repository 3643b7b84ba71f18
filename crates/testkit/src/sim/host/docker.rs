//! A Docker daemon in memory: containers, volumes, networks and images, with Docker's own rules about names.
//!
//! It has no faults and no time of its own; [`super::SimHost`] adds both.

use super::{
    HostOp, SimImage,
    files::Tree,
    images::PLAIN_LAYERS,
    journal::{Journal, Start},
};
use crate::sim::{SimRegistry, lock};
use plimsoll_lifecycle::{
    naming::{self, label},
    ports::{ContainerPlan, ContainerSeen, ContainerState, HostError, HostFailure, Mount},
};
use plimsoll_types::{ClusterId, Code, Generation, HostFacts, ImageRef, SandboxId, SessionId, TenantId, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// A container.
#[derive(Clone, Debug)]
pub struct SimContainer {
    /// What `inspect` says.
    pub seen: ContainerSeen,
    /// What it was made from; `None` for one that somebody else made.
    pub plan: Option<ContainerPlan>,
    /// Its volume.
    pub volume: Option<String>,
    /// Its network.
    pub network: Option<String>,
    /// Its output.
    pub log: Vec<String>,
    pub(super) files: Tree,
    pub(super) layers: u32,
}

/// A daemon's whole content.
pub(super) struct Docker {
    pub(super) host: String,
    pub(super) facts: HostFacts,
    pub(super) containers: BTreeMap<String, SimContainer>,
    /// Volumes by name with the cluster that made them; none for a stranger's.
    pub(super) volumes: BTreeMap<String, Option<ClusterId>>,
    /// Which folder each volume of ours stands for.
    devices: BTreeMap<String, String>,
    /// Folders of workspaces on the host.
    pub(super) folders: BTreeSet<String>,
    /// What is in them.
    pub(super) contents: BTreeMap<String, Tree>,
    /// Snapshots by their local names.
    pub(super) snapshots: BTreeMap<String, SimImage>,
    pub(super) registry: SimRegistry,
    pub(super) networks: BTreeMap<String, Option<ClusterId>>,
    pub(super) images: BTreeSet<ImageRef>,
    pub(super) missing_images: BTreeSet<ImageRef>,
    pub(super) broken_images: BTreeSet<ImageRef>,
    pub(super) disk_full: bool,
    /// Whether its containers do nothing.
    pub(super) quiet: bool,
    pub(super) start_fails: Option<HostFailure>,
    pub(super) create_fails: Option<HostFailure>,
    pub(super) journal: Arc<Mutex<Journal>>,
    /// How often each operation changed something.
    pub(super) effects: BTreeMap<HostOp, u64>,
    made: u64,
    next_port: u16,
}

/// Docker's first ephemeral port on Linux.
const FIRST_PORT: u16 = 32768;

fn this_host(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::ThisHost, code, message)
}

fn permanent(code: Code, message: impl Into<String>) -> HostError {
    HostError::new(HostFailure::Permanent, code, message)
}

pub(super) fn gone(container: &str) -> HostError {
    permanent(Code::NotFound, format!("no such container: {container}"))
}

impl Docker {
    pub(super) fn new(host: String, facts: HostFacts, journal: Arc<Mutex<Journal>>, registry: SimRegistry) -> Self {
        Self {
            host,
            facts,
            containers: BTreeMap::new(),
            volumes: BTreeMap::new(),
            devices: BTreeMap::new(),
            folders: BTreeSet::new(),
            contents: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            registry,
            networks: BTreeMap::new(),
            images: BTreeSet::new(),
            missing_images: BTreeSet::new(),
            broken_images: BTreeSet::new(),
            disk_full: false,
            quiet: false,
            start_fails: None,
            create_fails: None,
            journal,
            effects: BTreeMap::new(),
            made: 0,
            next_port: FIRST_PORT,
        }
    }

    pub(super) fn ensure_image(&mut self, image: &ImageRef) -> Result<(), HostError> {
        if self.images.contains(image) {
            return Ok(());
        }
        if self.missing_images.contains(image) {
            return Err(permanent(Code::ImageNotFound, format!("no registry has {image}")));
        }
        if self.broken_images.contains(image) {
            let text = format!("image {image} could not be pulled on {}: connection reset", self.host);
            return Err(HostError::new(HostFailure::Transient, Code::ImagePullFailed, text));
        }
        self.check_disk()?;
        self.images.insert(image.clone());
        self.count(HostOp::EnsureImage);
        Ok(())
    }

    pub(super) fn create(&mut self, plan: &ContainerPlan, now: Timestamp) -> Result<ContainerSeen, HostError> {
        if let Some(mine) = self.make_way(plan)? {
            return Ok(mine);
        }
        self.check_disk()?;
        if !self.images.contains(&plan.image) && !self.snapshots.contains_key(plan.image.as_str()) {
            return Err(permanent(Code::ImageNotFound, format!("no such image: {}", plan.image)));
        }
        if !self.facts.runtimes.iter().any(|runtime| runtime == plan.runtime.as_str()) {
            return Err(this_host(Code::StartFailed, format!("unknown runtime {}", plan.runtime)));
        }
        claim(&mut self.networks, &plan.network.name, plan.cluster)?;
        if plan.from_snapshot {
            // As the adapter does: what an interrupted try left would stay in it.
            self.remove_workspace(&plan.workspace, plan.cluster)?;
        }
        claim(&mut self.volumes, &plan.workspace.volume, plan.cluster)?;
        self.devices.insert(plan.workspace.volume.clone(), plan.workspace.source.clone());
        self.folders.insert(plan.workspace.source.clone());
        let (files, layers) = self.unpack(plan)?;
        if let Some(failure) = self.create_fails {
            return Err(HostError::new(failure, Code::StartFailed, "the daemon refused the container"));
        }
        let seen = ContainerSeen {
            id: self.next_id(),
            name: plan.name.clone(),
            state: ContainerState::Created,
            cluster: Some(plan.cluster),
            sandbox: Some(plan.sandbox),
            generation: Some(plan.generation),
            operation: Some(plan.operation),
            session: plan.labels.get(label::SESSION).and_then(|text| SessionId::new(text).ok()),
            tenant: plan.labels.get(label::TENANT).and_then(|text| TenantId::new(text).ok()),
            ports: Vec::new(),
            created_at: now,
        };
        let made = SimContainer {
            seen: seen.clone(),
            plan: Some(plan.clone()),
            volume: Some(plan.workspace.volume.clone()),
            network: Some(plan.network.name.clone()),
            log: Vec::new(),
            files,
            layers,
        };
        self.containers.insert(seen.id.clone(), made);
        self.count(HostOp::CreateContainer);
        Ok(seen)
    }

    /// Looks at what holds the plan's name: ours of this incarnation is adopted, an older one is fenced.
    fn make_way(&mut self, plan: &ContainerPlan) -> Result<Option<ContainerSeen>, HostError> {
        let Some(holder) = self.find(&plan.name).cloned() else { return Ok(None) };
        let seen = holder.seen;
        let (Some(sandbox), Some(generation)) = (seen.sandbox, seen.generation) else {
            return Err(name_clash(&plan.name));
        };
        if seen.cluster != Some(plan.cluster) {
            return Err(name_clash(&plan.name));
        }
        // Ids are ordered by time, so (sandbox, generation) orders the incarnations that ever claimed a session's name.
        match (sandbox, generation).cmp(&(plan.sandbox, plan.generation)) {
            std::cmp::Ordering::Equal => Ok(Some(seen)),
            std::cmp::Ordering::Greater => {
                Err(permanent(Code::Conflict, format!("{} belongs to generation {generation} of {sandbox}", plan.name)))
            }
            std::cmp::Ordering::Less => {
                self.stop(&seen.id);
                if let Some(old) = self.containers.get_mut(&seen.id) {
                    let short = seen.id.get(..12).unwrap_or(&seen.id);
                    old.seen.name = format!("{}-fenced-{generation}-{short}", plan.name);
                }
                Ok(None)
            }
        }
    }

    pub(super) fn start(&mut self, container: &str) -> Result<ContainerSeen, HostError> {
        let id = self.find(container).map(|found| found.seen.id.clone()).ok_or_else(|| gone(container))?;
        let failing = self.start_fails;
        let Some(found) = self.containers.get_mut(&id) else { return Err(gone(container)) };
        if found.seen.state == ContainerState::Running {
            return Ok(found.seen.clone());
        }
        if found.seen.state == ContainerState::Paused {
            let text = format!("container {container} is paused; it cannot be started");
            return Err(HostError::new(HostFailure::Transient, Code::StartFailed, text));
        }
        if let Some(failure) = failing {
            found.seen.state = ContainerState::Exited(1);
            return Err(HostError::new(failure, Code::StartFailed, "the container ended at once with code 1"));
        }
        found.seen.state = ContainerState::Running;
        found.log.push("started".into());
        if let Some(plan) = &found.plan {
            let mut ports = Vec::new();
            for port in &plan.ports.ports {
                ports.push((*port, plan.ports.address, self.next_port));
                self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            }
            found.seen.ports = ports;
        }
        let seen = found.seen.clone();
        self.count(HostOp::StartContainer);
        if let (Some(sandbox), Some(generation)) = (seen.sandbox, seen.generation) {
            let (host, container, operation) = (self.host.clone(), id.clone(), seen.operation);
            lock(&self.journal).started(Start { host, container, sandbox, generation, operation });
        }
        self.runs(&id, true);
        Ok(seen)
    }

    /// Notes that a container runs; memory is empty after a start.
    pub(super) fn runs(&mut self, id: &str, started: bool) {
        let Some(found) = self.containers.get_mut(id) else { return };
        if started {
            found.files.remove_below(naming::SECRETS_DIR);
        }
        if let (Some(sandbox), Some(generation)) = (found.seen.sandbox, found.seen.generation) {
            lock(&self.journal).runs(&self.host, id, sandbox, generation);
        }
    }

    /// Notes that from now on nobody can know what is done here, and when.
    pub(super) fn disturb(&self) {
        lock(&self.journal).disturb(&self.host);
    }

    /// Ends a container's process, if it runs.
    pub(super) fn stop(&mut self, id: &str) {
        let Some(found) = self.containers.get_mut(id) else { return };
        if matches!(found.seen.state, ContainerState::Running | ContainerState::Paused) {
            found.seen.state = ContainerState::Exited(137);
            found.seen.ports.clear();
            if let Some(sandbox) = found.seen.sandbox {
                lock(&self.journal).stopped(&self.host, sandbox, id);
            }
        }
    }

    /// Removes a container, running or not; missing is success.
    pub(super) fn remove(&mut self, container: &str) -> Result<(), HostError> {
        if let Some(id) = self.find(container).map(|found| found.seen.id.clone()) {
            self.stop(&id);
            self.containers.remove(&id);
            self.count(HostOp::RemoveContainer);
        }
        Ok(())
    }

    /// Docker refuses to remove a volume that any container, running or not, still has.
    pub(super) fn remove_workspace(&mut self, workspace: &Mount, cluster: ClusterId) -> Result<(), HostError> {
        if self.containers.values().any(|container| container.volume.as_ref() == Some(&workspace.volume)) {
            let message = format!("volume {} is in use", workspace.volume);
            return Err(HostError::new(HostFailure::Transient, Code::Conflict, message));
        }
        match self.volumes.get(&workspace.volume) {
            Some(owner) if *owner != Some(cluster) => Err(name_clash(&workspace.volume)),
            Some(_) | None => {
                let folder = self.folders.remove(&workspace.source);
                self.contents.remove(&workspace.source);
                self.devices.remove(&workspace.volume);
                if self.volumes.remove(&workspace.volume).is_some() || folder {
                    self.count(HostOp::RemoveWorkspace);
                }
                Ok(())
            }
        }
    }

    /// The volumes of a cluster with the folders they stand for.
    pub(super) fn workspaces(&self, cluster: ClusterId) -> Vec<Mount> {
        let ours = self.volumes.iter().filter(|(_, owner)| **owner == Some(cluster));
        let mount = |volume: &String| {
            let source = self.devices.get(volume)?.clone();
            Some(Mount { source, target: naming::WORKSPACE.to_owned(), volume: volume.clone() })
        };
        ours.filter_map(|(volume, _)| mount(volume)).collect()
    }

    pub(super) fn remove_idle_networks(&mut self, cluster: ClusterId) -> Result<(), HostError> {
        let used: BTreeSet<_> = self.containers.values().filter_map(|container| container.network.clone()).collect();
        let before = self.networks.len();
        self.networks.retain(|name, owner| *owner != Some(cluster) || used.contains(name));
        if self.networks.len() < before {
            self.count(HostOp::RemoveIdleNetworks);
        }
        Ok(())
    }

    /// Puts a container there that somebody else made; answers with its id.
    pub(super) fn add_foreign(&mut self, name: &str, labels: Option<(ClusterId, SandboxId, Generation)>) -> String {
        let seen = ContainerSeen {
            id: self.next_id(),
            name: name.into(),
            state: ContainerState::Running,
            cluster: labels.map(|labels| labels.0),
            sandbox: labels.map(|labels| labels.1),
            generation: labels.map(|labels| labels.2),
            operation: None,
            session: None,
            tenant: None,
            ports: Vec::<(u16, IpAddr, u16)>::new(),
            created_at: Timestamp::ZERO,
        };
        let id = seen.id.clone();
        let made = SimContainer {
            seen,
            plan: None,
            volume: None,
            network: None,
            log: Vec::new(),
            files: Tree::default(),
            layers: PLAIN_LAYERS,
        };
        self.containers.insert(id.clone(), made);
        id
    }

    pub(super) fn find(&self, container: &str) -> Option<&SimContainer> {
        self.containers.get(container).or_else(|| self.containers.values().find(|found| found.seen.name == container))
    }

    /// A running container, as exec and files need one.
    pub(super) fn running(&mut self, container: &str) -> Result<&mut SimContainer, HostError> {
        let id = self.find(container).map(|found| found.seen.id.clone()).ok_or_else(|| gone(container))?;
        match self.containers.get_mut(&id) {
            Some(found) if found.seen.state == ContainerState::Running => Ok(found),
            Some(_) => Err(permanent(Code::WrongPhase, format!("container {container} does not run"))),
            None => Err(gone(container)),
        }
    }

    pub(super) fn count(&mut self, op: HostOp) {
        *self.effects.entry(op).or_default() += 1;
    }

    pub(super) fn check_disk(&self) -> Result<(), HostError> {
        if self.disk_full { Err(this_host(Code::HostFull, format!("no space left on {}", self.host))) } else { Ok(()) }
    }

    /// Sixty-four hexadecimal digits, as Docker's; never used twice.
    pub(super) fn next_id(&mut self) -> String {
        self.made += 1;
        let host = self.host.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        format!("{:016x}{:016x}{:032x}", self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15), host, self.made)
    }
}

fn name_clash(name: &str) -> HostError {
    this_host(Code::NameClash, format!("{name} exists and is not this cluster's"))
}

/// Makes something of ours with a name, unless a stranger has it.
fn claim(things: &mut BTreeMap<String, Option<ClusterId>>, name: &str, cluster: ClusterId) -> Result<(), HostError> {
    match things.get(name) {
        Some(owner) if *owner == Some(cluster) => Ok(()),
        Some(_) => Err(name_clash(name)),
        None => {
            things.insert(name.into(), Some(cluster));
            Ok(())
        }
    }
}
