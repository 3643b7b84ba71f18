//! A control plane of such nodes as processes on loopback, founded and joined with the real `plimsoll init` and `plimsoll join`.

use crate::{
    load::Worker,
    node::host_name,
    proc,
    wire::{Target, Wire},
};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use plimsoll_testkit::{lab::Process, ports, wait::wait_for};
use plimsoll_tests::{Cli, cli::binary};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Elections take one to two seconds each.
const PATIENCE: Duration = Duration::from_secs(60);

/// Some node processes with simulated hosts.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<SimNode>,
    cli: Cli,
    folder: PathBuf,
    fleet: Fleet,
}

/// Their simulated hosts.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many.
    pub hosts: u32,
    /// How large each is, in machines of 64 vCPU and 256 GiB.
    pub size: u32,
    /// Creates under way at once on each; 0 starts nothing.
    pub creates: usize,
    /// They remember nothing themselves, so that they add nothing to a node's memory and survive it.
    pub mirror: bool,
}

#[derive(Debug)]
struct SimNode {
    id: u64,
    api: u16,
    raft: u16,
    folder: PathBuf,
    process: Option<Process>,
}

impl Nodes {
    /// Starts `count` nodes with such hosts, all of them ready.
    pub async fn start(folder: &Path, count: usize, fleet: Fleet) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let cli = Cli::new(&[], "", folder);
        let mut cluster = Self { nodes: Vec::new(), cli, folder: folder.to_path_buf(), fleet };
        for index in 0..count {
            cluster.add(index).await?;
        }
        cluster.fill().await?;
        Ok(cluster)
    }

    async fn add(&mut self, index: usize) -> Result<()> {
        let folder = self.folder.join(format!("node-{}", index + 1));
        std::fs::create_dir_all(&folder)?;
        let (api, raft) = (ports::free()?, ports::free()?);
        let config = format!(
            "data_dir = {:?}\n[api]\nlisten = \"127.0.0.1:{api}\"\n[raft]\nlisten = \"127.0.0.1:{raft}\"\n\
             [cluster]\nbase_image = \"debian:12\"\n",
            folder.join("data").display().to_string()
        );
        let file = folder.join("plimsoll.toml");
        std::fs::write(&file, config)?;
        let mut command = Command::new(binary()?);
        command.args([if index == 0 { "init" } else { "join" }, "--output", "json", "--config"]).arg(&file);
        if index > 0 {
            let token = self.cli.json(&["cluster", "token"]).await?;
            command.arg(token["token"].as_str().context("a token")?);
        }
        let output = command.env("HOME", &self.folder).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let id = answer["node"].as_u64().context("a node's number")?;
        let key = answer["key"].as_str().map_or_else(|| self.cli.key().to_owned(), str::to_owned);
        self.nodes.push(SimNode { id, api, raft, folder, process: None });
        self.restart(index)?;
        self.cli = Cli::new(&self.urls(), &key, &self.folder);
        wait_for(format!("node {id} to vote"), PATIENCE, || async {
            let status = self.cli.json(&["cluster", "status"]).await?;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            ensure!(nodes.iter().any(|node| node["id"] == id && node["role"] == "voter"), "{status}");
            anyhow::Ok(())
        })
        .await
    }

    /// Adds the hosts and waits until all of them are ready.
    async fn fill(&self) -> Result<()> {
        let mut wire = self.wire(0);
        for index in 0..self.fleet.hosts {
            let name = host_name(index);
            let host = json!({ "name": name, "address": format!("ssh://sim@{name}:22"), "fingerprint": format!("SHA256:sim-{name}") });
            wire.call(Method::POST, "/v1/hosts", host.to_string().into(), &[]).await?.json()?;
        }
        wait_for("all hosts to be ready", PATIENCE, || async {
            let hosts = self.wire(0).call(Method::GET, "/v1/hosts", Bytes::new(), &[]).await?.json()?.to_string();
            let ready = hosts.matches("\"health\":\"ready\"").count();
            ensure!(ready == self.fleet.hosts as usize, "{ready} are");
            anyhow::Ok(())
        })
        .await
    }

    /// The nodes' URLs, in order.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.api)).collect()
    }

    /// A connection to one node.
    pub fn wire(&self, index: usize) -> Wire {
        Wire::new(Target::url(&self.urls()[index]), Some(self.cli.key()))
    }

    /// The index of the node that leads.
    pub async fn leader(&self) -> Result<usize> {
        wait_for("a leader", PATIENCE, || async {
            let status = self.cli.json(&["cluster", "status"]).await?;
            let leader = status["leader"].as_u64().context("no leader is known")?;
            let index = self.nodes.iter().position(|node| node.id == leader).context("none of ours")?;
            ensure!(self.nodes[index].process.is_some(), "it is down and still counts");
            anyhow::Ok(index)
        })
        .await
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process.take().context("it is not running")?.kill()?;
        Ok(())
    }

    /// Starts a node that does not run.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg("--data-dir").arg(node.folder.join("data"));
        command.arg("--api").arg(format!("127.0.0.1:{}", node.api));
        command.arg("--raft").arg(format!("127.0.0.1:{}", node.raft));
        let fleet = self.fleet;
        command.arg("--hosts").arg(fleet.hosts.to_string()).arg("--size").arg(fleet.size.to_string());
        command.arg("--creates").arg(fleet.creates.to_string()).args(fleet.mirror.then_some("--mirror"));
        node.process = Some(Process::spawn(format!("node {}", node.id), &command, node.folder.join("node.log"))?);
        Ok(())
    }

    /// Waits until every node knows a leader.
    pub async fn wait_all(&self) -> Result<()> {
        for url in self.urls() {
            wait_for("a node to be ready", PATIENCE, || async {
                let status = self.cli.at(&url).json(&["cluster", "status"]).await?;
                ensure!(status["leader"].is_u64(), "no leader is known");
                anyhow::Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The process of a node that runs.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.nodes[index].process.as_ref().map(Process::pid)
    }

    /// The folder of a node's data.
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.nodes[index].folder.join("data")
    }

    /// Resident memory of a node, in MB.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // megabytes
    pub fn memory_mb(&self, index: usize) -> Option<u64> {
        // In whole megabytes, which is as fine as it is steady.
        proc::resident(self.pid(index)?).ok().map(|bytes| (bytes / 1e6) as u64)
    }
}

/// A small sandbox, as it is asked for.
pub fn request() -> Value {
    json!({ "cpu": 0.1, "memory": "64M", "disk": "16M", "lifetime_s": 0 })
}

/// Asks for one placement, or one batch of them, after the other and does not wait until they run.
pub struct Placer {
    wire: Wire,
    path: &'static str,
    body: Bytes,
    batch: u64,
}

impl Placer {
    /// So many, each with a connection of its own to one node.
    pub fn many(nodes: &Nodes, index: usize, count: usize) -> Vec<Self> {
        let body = Bytes::from(request().to_string());
        let make = |_| Self { wire: nodes.wire(index), path: "/v1/placements", body: body.clone(), batch: 1 };
        (0..count).map(make).collect()
    }

    /// The same, each asking for so many placements at once.
    pub fn batches(nodes: &Nodes, index: usize, count: usize, batch: usize) -> Vec<Self> {
        let body = Bytes::from(json!({ "sandboxes": vec![request(); batch] }).to_string());
        let (path, size) = ("/v1/placements:batch", batch as u64);
        (0..count).map(|_| Self { wire: nodes.wire(index), path, body: body.clone(), batch: size }).collect()
    }
}

impl Worker for Placer {
    async fn once(&mut self) -> Result<()> {
        let body = self.body.clone();
        let answer = self.wire.call(Method::POST, self.path, body, &[("prefer", "respond-async")]).await?;
        // Each of a batch that was placed was made by this very call.
        let text = String::from_utf8_lossy(&answer.body);
        let made = text.matches(r#""created":true"#).count() as u64;
        ensure!(
            (200..300).contains(&answer.status) && made == self.batch,
            "HTTP {}: {made} of {} made: {}",
            answer.status,
            self.batch,
            text.chars().take(300).collect::<String>()
        );
        Ok(())
    }

    fn size(&self) -> u64 {
        self.batch
    }
}
