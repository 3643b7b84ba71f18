//! A registry for the tests, and what is looked for in it.

use anyhow::{Context as _, Result, ensure};
use plimsoll_host::{Dialer, Keys, Options, RegistryOptions};
use plimsoll_lifecycle::{
    naming,
    ports::{CommitPlan, ContainerPlan, ContainerSeen, Dial, HostDriver, SnapshotImage},
};
use plimsoll_testkit::{
    lab::{Lab, Process},
    ports,
    wait::wait_for,
};
use plimsoll_types::{Digest, ImageRef, SnapshotId, TenantId};
use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

/// Debian's `docker-registry`, with its data in the lab's folder.
pub(crate) struct Registry {
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Registry {
    /// Starts one; `deleting` says whether it allows that.
    pub(crate) async fn start(lab: &Lab, deleting: bool) -> Self {
        let folder = lab.folder().join("registry");
        let port = ports::free().unwrap();
        let config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": folder.join("data") }, "delete": { "enabled": deleting } },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yml"), config.to_string()).unwrap();
        let mut registry = Self { folder, port, process: None };
        registry.come_back().await.unwrap();
        registry
    }

    pub(crate) async fn come_back(&mut self) -> Result<()> {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.folder.join("config.yml"));
        let process = Process::spawn("the registry", &command, self.folder.join("registry.log"))?;
        let port = self.port;
        wait_for("the registry", Duration::from_secs(30), || async move {
            ensure!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok(), "nothing listens on {port}");
            Ok(())
        })
        .await
        .with_context(|| process.log_tail(20))?;
        self.process = Some(process);
        Ok(())
    }

    pub(crate) fn go_away(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    /// Where its blobs are.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn dialer(&self) -> Dialer {
        let registry = RegistryOptions::open(format!("http://127.0.0.1:{}", self.port));
        Dialer::new(Options { keys: Keys::default(), registry: Some(registry) })
    }

    /// A driver that knows the registry.
    pub(crate) fn dial(&self, lab: &Lab, host: usize) -> Arc<dyn HostDriver> {
        self.dialer().dial(&super::common::target(lab.host(host)))
    }
}

/// What to commit of a sandbox's container.
pub(crate) fn commit(plan: &ContainerPlan, seen: &ContainerSeen, snapshot: u64) -> CommitPlan {
    CommitPlan {
        container: seen.id.clone(),
        cluster: plan.cluster,
        sandbox: plan.sandbox,
        generation: plan.generation,
        snapshot: SnapshotId::from_parts(snapshot, 5),
        workspace: plan.workspace.clone(),
        repository: naming::repository(plan.cluster, &TenantId::default_tenant(), plan.sandbox),
    }
}

pub(crate) fn image(plan: &CommitPlan, digest: Digest) -> SnapshotImage {
    SnapshotImage { cluster: plan.cluster, snapshot: plan.snapshot, repository: plan.repository.clone(), digest }
}

/// A container of the next incarnation, from a snapshot.
pub(crate) fn from_snapshot(old: &ContainerPlan, snapshot: &CommitPlan) -> ContainerPlan {
    let mut plan = old.clone();
    plan.generation = plan.generation.next();
    plan.image = ImageRef::new(&naming::snapshot_image(snapshot.cluster, snapshot.snapshot)).unwrap();
    plan.from_snapshot = true;
    let key = format!("{}..g{}", old.workspace.volume, plan.generation);
    plan.workspace.source = format!("/var/shadow/sandboxes/{key}");
    plan.workspace.volume = key;
    plan
}
