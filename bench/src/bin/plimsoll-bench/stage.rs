//! Real hosts for an experiment: the lab, a registry, real nodes, and Docker's own API and command line on each host.

use crate::wire::{Target, Wire};
use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use plimsoll_testkit::lab::{Lab, LabHost, LabOptions, Process};
use plimsoll_tests::{Cluster, Registry};
use serde_json::Value;
use std::{path::Path, process::Stdio, time::Duration};

/// Each host's disk, a sparse file.
const DISK: u64 = 24 << 30;

/// The hosts share this machine's few CPUs: the line is raised as far as it goes, and the machine's pressure is nobody's in particular.
const SETTINGS: &str = "[cluster]\nbase_image = \"plimsoll/lab:latest\"\ncpu_overcommit = 16.0\ncpu_pressure_max = 100\n\
    memory_pressure_max = 100\nio_pressure_max = 100\n[log]\nlevel = \"warn\"\n";

/// A lab and a control plane.
pub struct Stage {
    /// The nodes; dropped before the hosts.
    pub cluster: Cluster,
    /// Where snapshots go.
    pub registry: Registry,
    /// The hosts.
    pub lab: Lab,
}

impl Stage {
    /// Starts them, the hosts added and ready.
    pub async fn start(parent: &Path, hosts: usize, nodes: usize) -> Result<Self> {
        let options = LabOptions { hosts, disk: Some(DISK), parent: parent.to_path_buf(), ..LabOptions::default() };
        let lab = Lab::start(options).await.context("the lab")?;
        let registry = Registry::start(&lab.folder().join("registry")).await.context("the registry")?;
        let settings = format!(
            "[registry]\nurl = {:?}\n[ssh]\nidentity_file = {:?}\n{SETTINGS}",
            registry.url(),
            lab.client_key().display().to_string()
        );
        let cluster = Cluster::start(&lab.folder().join("nodes"), nodes, &settings).await.context("the nodes")?;
        for host in lab.hosts() {
            let key = host.host_key().fingerprint;
            cluster.cli().run(&["host", "add", host.name(), &host.ssh_url(), "--fingerprint", &key]).await?;
        }
        let stage = Self { cluster, registry, lab };
        plimsoll_testkit::wait::wait_for("the hosts to be ready", Duration::from_secs(60), || async {
            let hosts = stage.cluster.cli().json(&["host", "list"]).await?;
            let ready = hosts.as_array().is_some_and(|all| all.iter().all(|host| host["health"] == "ready"));
            ensure!(ready, "{hosts}");
            anyhow::Ok(())
        })
        .await?;
        Ok(stage)
    }

    /// Ends it all.
    pub async fn stop(self) -> Result<()> {
        drop((self.cluster, self.registry));
        self.lab.stop().await
    }

    /// A connection to the node that leads.
    pub async fn wire(&self) -> Result<Wire> {
        let leader = self.cluster.leader().await?;
        Ok(Wire::new(Target::url(&self.cluster.nodes()[leader].url), Some(self.cluster.cli().key())))
    }
}

/// Docker's API on a host, from this machine: no SSH in between.
pub fn docker_api(host: &LabHost) -> Result<Wire> {
    Ok(Wire::new(Target::Unix(host.docker_socket()?), None))
}

/// A request to Docker's API.
pub async fn docker(wire: &mut Wire, method: Method, path: &str, body: Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    wire.call(method, path, body.into(), &[]).await?.json()
}

/// A shell line with `docker` set up for one host, however long it takes: what a person would type.
pub async fn sh(host: &LabHost, line: &str) -> Result<String> {
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-eo", "pipefail", "-c", line]).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("DOCKER_HOST", format!("unix://{}", host.docker_socket()?.display()));
    let output = tokio::time::timeout(Duration::from_secs(900), shell.output()).await.context("it does not end")??;
    ensure!(output.status.success(), "`{line}` on {}: {}", host.name(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The registry's port on a host's own loopback, forwarded through OpenSSH as a person would.
pub fn forward(host: &LabHost, port: u16, registry: &Registry, folder: &Path) -> Result<Process> {
    let known = folder.join(format!("{}-known", host.name()));
    std::fs::write(&known, format!("{} {}\n", host.address(), host.host_key().public))?;
    let to = registry.url().replace("http://", "");
    let mut ssh = std::process::Command::new("ssh");
    ssh.args([
        "-F",
        "/dev/null",
        "-N",
        "-o",
        "BatchMode=yes",
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]);
    ssh.args(["-o", "IdentityAgent=none", "-o", &format!("UserKnownHostsFile={}", known.display())]);
    ssh.arg("-i").arg(host.identity_file()).arg("-R").arg(format!("127.0.0.1:{port}:{to}"));
    ssh.arg(format!("root@{}", host.address()));
    Process::spawn(format!("ssh -R to {}", host.name()), &ssh, folder.join(format!("{}-ssh.log", host.name())))
}
