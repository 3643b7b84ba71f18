//! A control plane of real node processes on loopback, made as a person makes one: init, token, join, server.

use crate::cli::{Cli, binary};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{
    lab::{Process, Signal},
    ports,
    wait::wait_for,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Elections take one to two seconds each; a machine that compiles beside the suite makes them slower.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node process with its files.
#[derive(Debug)]
pub struct Node {
    /// Its number in raft.
    pub id: u64,
    /// Its API.
    pub url: String,
    folder: PathBuf,
    process: Option<Process>,
}

/// Some nodes and a command line for them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    cli: Cli,
    folder: PathBuf,
    settings: String,
    made: usize,
}

impl Cluster {
    /// Starts `count` nodes below `folder`; `settings` is added to each node's configuration.
    ///
    /// # Errors
    /// When a node does not come up: says which and shows the end of its log.
    pub async fn start(folder: &Path, count: usize, settings: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut first = Self::prepare(folder, 1, settings)?;
        let init = Command::new(binary()?)
            .args(["init", "--output", "json", "--config"])
            .arg(first.folder.join("plimsoll.toml"))
            .env("HOME", folder)
            .output()
            .context("cannot run plimsoll init")?;
        ensure!(init.status.success(), "plimsoll init: {}", String::from_utf8_lossy(&init.stderr));
        let answer: Value = serde_json::from_slice(&init.stdout).context("plimsoll init prints JSON")?;
        let key = answer["key"].as_str().context("init prints the first key")?.to_owned();
        first.launch(folder)?;
        let cli = Cli::new(std::slice::from_ref(&first.url), &key, folder);
        let mut cluster =
            Self { nodes: vec![first], cli, folder: folder.to_path_buf(), settings: settings.to_owned(), made: 1 };
        cluster.wait_ready(0).await?;
        for _ in 1..count {
            cluster.add_node().await?;
        }
        Ok(cluster)
    }

    /// Adds one node, with a token as a person would, and waits until it votes.
    ///
    /// # Errors
    /// When it does not join.
    pub async fn add_node(&mut self) -> Result<()> {
        self.made += 1;
        let number = self.made;
        let mut node = Self::prepare(&self.folder, number, &self.settings)?;
        let token = self.cli.json(&["cluster", "token"]).await?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        let join = tokio::process::Command::new(binary()?)
            .args(["join", "--output", "json", "--config"])
            .arg(node.folder.join("plimsoll.toml"))
            .arg(&token)
            .env("HOME", &self.folder)
            .output()
            .await?;
        ensure!(join.status.success(), "plimsoll join: {}", String::from_utf8_lossy(&join.stderr));
        let answer: Value = serde_json::from_slice(&join.stdout).context("plimsoll join prints JSON")?;
        node.id = answer["node"].as_u64().context("join prints the node's number")?;
        node.launch(&self.folder)?;
        let id = node.id;
        self.nodes.push(node);
        self.rebind();
        wait_for(format!("node {id} to vote"), PATIENCE, || async {
            let status = self.cli.json(&["cluster", "status"]).await?;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let votes = nodes.iter().any(|node| node["id"].as_u64() == Some(id) && node["role"] == "voter");
            ensure!(votes, "it does not yet: {status}");
            Ok(())
        })
        .await
        .with_context(|| self.logs())?;
        self.wait_ready(self.nodes.len() - 1).await
    }

    fn prepare(folder: &Path, number: usize, settings: &str) -> Result<Node> {
        let folder = folder.join(format!("node-{number}"));
        std::fs::create_dir_all(&folder)?;
        let (api, raft) = (ports::free()?, ports::free()?);
        let url = format!("http://127.0.0.1:{api}");
        let data = folder.join("data");
        let config = format!(
            "data_dir = {:?}\n[api]\nlisten = \"127.0.0.1:{api}\"\nmetrics_public = true\n[raft]\nlisten = \"127.0.0.1:{raft}\"\n{settings}\n",
            data.display().to_string()
        );
        std::fs::write(folder.join("plimsoll.toml"), config)?;
        Ok(Node { id: number as u64, url, folder, process: None })
    }

    fn rebind(&mut self) {
        let urls: Vec<String> = self.nodes.iter().map(|node| node.url.clone()).collect();
        self.cli = Cli::new(&urls, self.cli.key(), &self.folder);
    }

    /// The command line, trying every node.
    #[must_use]
    pub fn cli(&self) -> &Cli {
        &self.cli
    }

    /// The nodes, running or not.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Waits until a node says it is ready.
    ///
    /// # Errors
    /// When it does not: shows the end of its log.
    pub async fn wait_ready(&self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let cli = self.cli.at(&node.url);
        let ready = wait_for(format!("node {} to be ready", node.id), PATIENCE, || async {
            let status = cli.json(&["cluster", "status"]).await?;
            ensure!(status["leader"].is_u64(), "no leader is known");
            anyhow::Ok(())
        });
        ready.await.with_context(|| node.log_tail())
    }

    /// The index of the node that leads, waiting for an election if need be.
    ///
    /// # Errors
    /// When none is elected.
    pub async fn leader(&self) -> Result<usize> {
        wait_for("a leader", PATIENCE, || async {
            let status = self.cli.json(&["cluster", "status"]).await?;
            let leader = status["leader"].as_u64().context("no leader is known")?;
            let index = self.nodes.iter().position(|node| node.id == leader).context("the leader is none of ours")?;
            ensure!(self.nodes[index].process.is_some(), "node {leader} is down and still counts as the leader");
            anyhow::Ok(index)
        })
        .await
    }

    /// Kills a node with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        node.process.take().context("the node is not running")?.kill()?;
        Ok(())
    }

    /// Asks a node to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn stop(&mut self, index: usize) -> Result<()> {
        let mut process = self.nodes[index].process.take().context("the node is not running")?;
        process.signal(Signal::Terminate)?;
        let status = process.wait(PATIENCE).await?;
        ensure!(status.success(), "the node ended with {status}: {}", process.log_tail(20));
        Ok(())
    }

    /// Asks a node to end, without waiting for it.
    ///
    /// # Errors
    /// When it is not running.
    pub fn ask_to_stop(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process.as_mut().context("the node is not running")?.signal(Signal::Terminate)
    }

    /// Starts a node that was killed or stopped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.nodes[index].launch(&self.folder)
    }

    /// Starts every node that is not running, as far as it can be.
    pub fn restart_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.process.is_none()) {
            let _ = node.launch(&self.folder);
        }
    }

    /// Waits until a node has ended by itself; its exit code and the end of its log.
    ///
    /// # Errors
    /// When it goes on running.
    pub async fn wait_ended(&mut self, index: usize) -> Result<(Option<i32>, String)> {
        let mut process = self.nodes[index].process.take().context("the node is not running")?;
        let status = process.wait(PATIENCE).await?;
        Ok((status.code(), process.log_tail(20)))
    }

    /// Kills every node and removes its disk; of all that, one identity file is kept, at `copy`.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn lose_all_but_identity(&mut self, copy: &Path) -> Result<()> {
        std::fs::copy(self.data_dir(0).join("identity"), copy).context("the identity file")?;
        for index in 0..self.nodes.len() {
            self.kill(index)?;
            std::fs::remove_dir_all(self.data_dir(index))?;
        }
        self.nodes.clear();
        Ok(())
    }

    /// Founds a first node again from a backup, as `how` says; answers the new key if it makes one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restore(&mut self, backup: &Path, how: &[&str]) -> Result<Option<String>> {
        self.made += 1;
        let mut node = Self::prepare(&self.folder, self.made, &self.settings)?;
        let mut restore = tokio::process::Command::new(binary()?);
        restore.args(["cluster", "restore", "--output", "json", "--config"]).arg(node.folder.join("plimsoll.toml"));
        restore.args(how).arg(backup).env("HOME", &self.folder);
        let restored = restore.output().await?;
        ensure!(restored.status.success(), "plimsoll cluster restore: {}", String::from_utf8_lossy(&restored.stderr));
        let answer: Value = serde_json::from_slice(&restored.stdout).context("it prints JSON")?;
        node.id = answer["node"].as_u64().context("it prints the node's number")?;
        node.launch(&self.folder)?;
        self.nodes.push(node);
        self.rebind();
        self.wait_ready(0).await?;
        Ok(answer["key"].as_str().map(str::to_owned))
    }

    /// A node's data folder.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.nodes[index].folder.join("data")
    }

    /// A node's log file.
    #[must_use]
    pub fn log(&self, index: usize) -> PathBuf {
        self.nodes[index].folder.join("node.log")
    }

    /// Takes a removed node out of the cluster's list.
    pub fn forget(&mut self, index: usize) {
        self.nodes.remove(index);
        self.rebind();
    }

    /// The ends of all nodes' logs, for the report of a failure.
    #[must_use]
    pub fn logs(&self) -> String {
        self.nodes.iter().map(Node::log_tail).collect::<Vec<_>>().join("\n")
    }
}

impl Node {
    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    fn launch(&mut self, home: &Path) -> Result<()> {
        let mut command = Command::new(binary()?);
        command.args(["server", "--config"]).arg(self.folder.join("plimsoll.toml")).env("HOME", home);
        self.process = Some(Process::spawn(format!("node {}", self.id), &command, self.folder.join("node.log"))?);
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("node.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- node {} ---\n{tail}", self.id)
    }
}
