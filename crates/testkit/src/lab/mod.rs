//! The lab: several real Docker hosts on one Linux machine, each with an `sshd` and a `dockerd` of its own.
//!
//! A host is a set of namespaces on a private bridge (`10.99.N.0/24`). Nothing in it reaches the internet, and nothing
//! of it is left when the lab stops, is dropped, or is killed (then the next lab cleans up).
//!
//! ```no_run
//! # async fn show() -> anyhow::Result<()> {
//! use plimsoll_testkit::lab::{LAB_IMAGE, Lab, LabOptions};
//!
//! let lab = Lab::start(LabOptions::default()).await?;
//! let host = lab.host(0);
//! host.docker(&["run", "--detach", "--init", LAB_IMAGE]).await?;
//! host.kill().await?;
//! host.start().await?;
//! lab.stop().await?;
//! # Ok(()) }
//! ```

mod cgroup;
mod command;
mod daemons;
mod faults;
mod host;
mod image;
mod keys;
mod network;
mod process;
mod registry;
mod support;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

pub use self::{
    host::LabHost,
    image::{LAB_IMAGE, LAB_IMAGE_EXITS, LAB_USER},
    keys::{HostKey, generate_key},
    process::{Process, Signal},
};
use self::{host::Plan, registry::Registration};

/// More hosts than this would not fit a bridge's 10.99.N.0/24 with room for other addresses.
const MAX_HOSTS: usize = 64;

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// How many hosts.
    pub hosts: usize,
    /// Host names are this and a number from 1.
    pub prefix: String,
    /// Where the lab makes its folder, which it removes at the end. It must be on a real disk, not an overlay.
    pub parent: PathBuf,
    /// Where logs go to survive the lab; otherwise they are in its folder and removed with it.
    pub logs: Option<PathBuf>,
    /// Gives each host a disk of this many bytes for Docker and the workspaces, so that it can be filled.
    pub disk: Option<u64>,
    /// Whether the hosts get the images [`LAB_IMAGE`] and [`LAB_IMAGE_EXITS`].
    pub images: bool,
    /// Additional lines for `sshd_config`, such as `MaxSessions 2`; they win over the lab's own.
    pub sshd: Vec<String>,
    /// Additional arguments for `dockerd`.
    pub dockerd: Vec<String>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            hosts: 3,
            prefix: "vps-".into(),
            parent: std::env::temp_dir(),
            logs: None,
            disk: None,
            images: true,
            sshd: Vec::new(),
            dockerd: Vec::new(),
        }
    }
}

/// A running lab. Dropping it stops it, blocking for a fraction of a second.
#[derive(Debug)]
pub struct Lab {
    subnet: u8,
    folder: PathBuf,
    client_key: PathBuf,
    hosts: Vec<Arc<LabHost>>,
    registration: Arc<Registration>,
}

impl Lab {
    /// Whether this machine can run a lab.
    ///
    /// # Errors
    ///
    /// One line that says what is missing and what to do about it.
    pub fn supported() -> Result<(), String> {
        support::check()
    }

    /// Cleans up after labs whose process is gone, then starts a new one. All hosts are ready when this returns.
    ///
    /// # Errors
    ///
    /// If the machine cannot run a lab or a host does not start; nothing is left behind then.
    pub async fn start(options: LabOptions) -> Result<Self> {
        ensure!((1..=MAX_HOSTS).contains(&options.hosts), "a lab has 1 to {MAX_HOSTS} hosts");
        Self::supported().map_err(anyhow::Error::msg)?;
        let parent = std::path::absolute(&options.parent).context("no current folder")?;
        let (registration, subnet, folder) =
            tokio::task::spawn_blocking(move || Registration::claim(&parent)).await??;
        let client_key = folder.join("client_key");
        let mut lab = Self { subnet, folder, client_key, hosts: Vec::new(), registration: Arc::new(registration) };
        lab.fill(&options).await?;
        Ok(lab)
    }

    /// Stops everything and removes it.
    ///
    /// # Errors
    ///
    /// If something could not be removed.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.registration.clean_up()).await?
    }

    /// All hosts, in order.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<LabHost>] {
        &self.hosts
    }

    /// The host with this index, counted from zero.
    ///
    /// # Panics
    ///
    /// If there are not that many.
    #[must_use]
    pub fn host(&self, index: usize) -> &Arc<LabHost> {
        &self.hosts[index]
    }

    /// This machine's address on the bridge: what the hosts see of a control-plane node.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        network::gateway(self.subnet)
    }

    /// The private key that opens every host.
    #[must_use]
    pub fn client_key(&self) -> &Path {
        &self.client_key
    }

    /// The lab's folder, removed at the end; tests may keep their own files in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    async fn fill(&mut self, options: &LabOptions) -> Result<()> {
        let logs = match &options.logs {
            Some(logs) => std::path::absolute(logs).context("no current folder")?,
            None => self.folder.join("logs"),
        };
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let archive = self.folder.join("images.tar");
        let build = async { if options.images { image::build(&archive).await } else { Ok(()) } };
        let (authorized, ()) = tokio::try_join!(keys::generate_key(&self.client_key), build)?;
        let plans = (0..options.hosts).map(|index| self.plan(options, &logs, index));
        let created = plans.map(|plan| LabHost::create(plan, self.registration.clone(), &authorized));
        self.hosts = try_join_all(created).await?.into_iter().map(Arc::new).collect();
        try_join_all(self.hosts.iter().map(|host| async {
            host.start().await?;
            if options.images {
                host.docker(&["load", "--input", &archive.to_string_lossy()]).await?;
            }
            anyhow::Ok(())
        }))
        .await
        .map(drop)
    }

    fn plan(&self, options: &LabOptions, logs: &Path, index: usize) -> Plan {
        let name = format!("{}{}", options.prefix, index + 1);
        Plan {
            subnet: self.subnet,
            // The number of hosts has been checked against a limit far below this.
            index: u8::try_from(index).unwrap_or(u8::MAX),
            folder: self.folder.join(&name),
            logs: logs.to_owned(),
            client_key: self.client_key.clone(),
            disk: options.disk,
            sshd: options.sshd.clone(),
            dockerd: options.dockerd.clone(),
            name,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.registration.clean_up() {
            eprintln!("the lab could not be cleaned up, the next one will try again: {error:#}");
        }
    }
}
