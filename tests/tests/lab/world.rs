//! What the scenarios share: the lab, the nodes, and what must hold after each of them.

use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{
    lab::{Lab, LabOptions},
    wait::wait_for,
};
use plimsoll_tests::{Cli, Cluster, Registry};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

/// Within so long nothing may be left over once a scenario has removed what it made.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Longer than any single thing a scenario waits for, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Each host's disk, a sparse file: so that it can be filled, and larger than all that the scenarios keep.
const DISK: u64 = 24 << 30;

/// What every node of the suite is configured with. The lab's hosts share two CPUs: the line is raised, and the
/// machine's pressure is nobody's in particular, so that sizes decide.
const SETTINGS: &str = "[cluster]\nbase_image = \"plimsoll/lab:latest\"\ncpu_overcommit = 4.0\nmemory_pressure_max = 100\nio_pressure_max = 100\n\
    [poll]\ninterval_ms = 1000\nunreachable_after_ms = 5000\nlost_after_ms = 12000\n[log]\nlevel = \"info,plimsoll_engine::leader::job=debug\"\n";

/// A lab with three hosts and a control plane with three nodes.
pub struct World {
    pub lab: Lab,
    pub cluster: Cluster,
    pub registry: Registry,
}

impl World {
    pub async fn start() -> Result<Self> {
        let lab = Lab::start(LabOptions { disk: Some(DISK), ..LabOptions::default() }).await.context("the lab")?;
        let registry = Registry::start(&lab.folder().join("registry")).await.context("the registry")?;
        let settings = format!(
            "[registry]\nurl = {:?}\n[ssh]\nidentity_file = {:?}\n[gateway]\nlisten = \"127.0.0.1:0\"\n{SETTINGS}",
            registry.url(),
            lab.client_key().display().to_string()
        );
        let cluster = Cluster::start(&lab.folder().join("control-plane"), 3, &settings).await.context("the nodes")?;
        Ok(Self { lab, cluster, registry })
    }

    pub async fn stop(self) -> Result<()> {
        drop((self.cluster, self.registry));
        self.lab.stop().await
    }

    /// The port of the first node's SSH gateway, as its log tells it.
    pub fn gateway_port(&self) -> Result<u16> {
        let log = std::fs::read_to_string(self.cluster.log(0))?;
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains("the SSH gateway listens"))
            .context("the gateway does not listen")?;
        let port =
            line.rsplit(':').next().map(|digits| digits.chars().take_while(char::is_ascii_digit).collect::<String>());
        port.unwrap_or_default().parse().with_context(|| line.to_owned())
    }

    pub fn cli(&self) -> &Cli {
        self.cluster.cli()
    }

    /// Makes a small sandbox and answers its id.
    pub async fn create(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["create"];
        for [name, value] in [["--cpu", "0.1"], ["--memory", "64M"], ["--disk", "16M"]] {
            if !args.contains(&name) {
                all.extend([name, value]);
            }
        }
        all.extend(args);
        let made = self.cli().json(&all).await?;
        Ok(made["id"].as_str().context("an id")?.to_owned())
    }

    /// Every sandbox that is not terminated.
    pub async fn sandboxes(&self) -> Result<Vec<Value>> {
        Ok(self.cli().json(&["ls"]).await?.as_array().cloned().unwrap_or_default())
    }

    /// Names of all containers on all hosts, as Docker itself says, with the host's number.
    pub async fn containers(&self) -> Result<Vec<(usize, String)>> {
        let mut all = Vec::new();
        for (index, host) in self.lab.hosts().iter().enumerate() {
            if host.is_on() {
                let names = host.docker(&["ps", "--all", "--format", "{{.Names}}"]).await?;
                all.extend(names.lines().map(|name| (index, name.to_owned())));
            }
        }
        Ok(all)
    }

    /// Full ids of running containers on all hosts.
    pub async fn running_ids(&self) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for host in self.lab.hosts().iter().filter(|host| host.is_on()) {
            let ids = host.docker(&["ps", "--no-trunc", "--quiet"]).await?;
            all.extend(ids.lines().map(str::to_owned));
        }
        Ok(all)
    }

    /// Removes every sandbox.
    pub async fn clear(&self) -> Result<()> {
        let ids: Vec<String> =
            self.sandboxes().await?.iter().filter_map(|sandbox| sandbox["id"].as_str().map(str::to_owned)).collect();
        if !ids.is_empty() {
            let args: Vec<&str> = std::iter::once("rm").chain(ids.iter().map(String::as_str)).collect();
            self.cli().run(&args).await?;
        }
        Ok(())
    }

    /// What holds after each scenario: nothing of ours is left without an owner, and nothing owned is missing.
    pub async fn settled(&self) -> Result<()> {
        self.clear().await?;
        wait_for("everything to be gone", SETTLE, || async {
            let containers = self.containers().await?;
            ensure!(containers.is_empty(), "containers are left: {containers:?}");
            for host in self.lab.hosts().iter().filter(|host| host.is_on()) {
                let volumes = host.docker(&["volume", "ls", "--quiet"]).await?;
                ensure!(volumes.is_empty(), "volumes are left on {}: {volumes}", host.name());
                let folders = host
                    .sh(&["find", "/var/shadow/sandboxes", "-mindepth", "1", "-maxdepth", "1"])
                    .await
                    .unwrap_or_default();
                ensure!(folders.is_empty(), "workspaces are left on {}: {folders}", host.name());
                let networks = host.docker(&["network", "ls", "--quiet", "--filter", "label=plimsoll.cluster"]).await?;
                ensure!(networks.is_empty(), "networks are left on {}: {networks}", host.name());
            }
            for host in self.cli().json(&["host", "list"]).await?.as_array().context("hosts")? {
                ensure!(host["sandboxes"] == 0, "{} still counts {} sandboxes", host["name"], host["sandboxes"]);
            }
            Ok(())
        })
        .await
    }

    /// After a failure: tries to give the next scenario a clean start.
    pub async fn sweep(&mut self) {
        let _ = self.registry.bring_back().await;
        self.cluster.restart_all();
        let _ = self.cluster.leader().await;
        let _ = self.clear().await;
        for host in self.lab.hosts().iter().filter(|host| host.is_on()) {
            for name in host.docker(&["ps", "--all", "--format", "{{.Names}}"]).await.unwrap_or_default().lines() {
                let _ = host.docker(&["rm", "--force", "--volumes", name]).await;
            }
        }
    }
}
