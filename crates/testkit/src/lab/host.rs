//! One host of the lab: namespaces that look like a machine, with an `sshd` and a `dockerd` of its own.
//!
//! Its daemons are in `daemons.rs`, what a test does to it is in `faults.rs`.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::process::Command;

use super::{
    cgroup,
    command::{self, require, run},
    daemons::{READY, SSHD_CONFIG},
    keys::{self, HostKey},
    network,
    process::{self, Process},
    registry::{Identity, Registration},
};
use crate::wait::wait_for;

/// What programs inside a host find, whatever the shell that started the lab had.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lines of a log that are shown when something does not start.
pub(super) const SHOWN_LINES: usize = 15;

/// What a host is made with; a copy of what the lab's options say about hosts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) subnet: u8,
    pub(super) index: u8,
    pub(super) folder: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) client_key: PathBuf,
    pub(super) disk: Option<u64>,
    pub(super) sshd: Vec<String>,
    pub(super) dockerd: Vec<String>,
}

/// One host. All methods take `&self`; faults may be injected from any task.
#[derive(Debug)]
pub struct LabHost {
    pub(super) plan: Plan,
    registration: Arc<Registration>,
    key: Mutex<HostKey>,
    /// `None` while the power is off.
    machine: Mutex<Option<Machine>>,
}

#[derive(Debug)]
struct Machine {
    init: u32,
    identity: Identity,
    /// Waits for init; ends when the whole host has ended.
    _supervisor: Process,
}

impl LabHost {
    /// Makes the host's folder, keys and disk. It is powered off.
    pub(super) async fn create(plan: Plan, registration: Arc<Registration>, authorized: &str) -> Result<Self> {
        let folder = &plan.folder;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let key = keys::generate_host_key(&folder.join("host_key")).await?;
        let machine_id: [u8; 16] = rand::random();
        let machine_id: String = machine_id.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(folder.join("machine-id"), machine_id + "\n")?;
        std::fs::write(folder.join("daemon.json"), "{}\n")?;
        std::fs::write(folder.join("authorized_keys"), authorized)?;
        if let Some(bytes) = plan.disk {
            make_disk(&folder.join("disk.img"), bytes).await?;
        }
        // sshd takes the first value it sees, so the test's own lines win.
        std::fs::write(folder.join("sshd_config"), format!("{}\n{SSHD_CONFIG}", plan.sshd.join("\n")))?;
        Ok(Self { plan, registration, key: Mutex::new(key), machine: Mutex::new(None) })
    }

    /// Its name, which is also its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Its address on the lab's bridge.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        network::host_address(self.plan.subnet, self.plan.index)
    }

    /// What `plimsoll host add` takes.
    #[must_use]
    pub fn ssh_url(&self) -> String {
        format!("ssh://root@{}:22", self.address())
    }

    /// The private key that opens it.
    #[must_use]
    pub fn identity_file(&self) -> &Path {
        &self.plan.client_key
    }

    /// Its current host key.
    #[must_use]
    pub fn host_key(&self) -> HostKey {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Docker's socket as seen from this machine. It changes when the host is powered on again.
    ///
    /// # Errors
    ///
    /// If the host is powered off.
    pub fn docker_socket(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("run/docker.sock"))
    }

    /// The host's root folder as seen from this machine, for looking at files such as its workspaces.
    ///
    /// # Errors
    ///
    /// If the host is powered off.
    pub fn root(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root", self.init()?)))
    }

    /// Whether the power is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Runs the docker command line against this host's daemon, not over SSH: what the host says itself.
    ///
    /// # Errors
    ///
    /// If docker fails; the message has what it printed.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        command::text(self.docker_command(args)?).await.with_context(|| format!("on {}", self.name()))
    }

    /// Like [`docker`](Self::docker), for looking at a failure.
    ///
    /// # Errors
    ///
    /// If docker cannot be run at all.
    pub async fn docker_output(&self, args: &[&str]) -> Result<Output> {
        command::output(self.docker_command(args)?).await
    }

    /// Runs a program inside the host, as root and not over SSH. It also works while the host is frozen or partitioned.
    ///
    /// # Errors
    ///
    /// If the program fails; the message has what it printed.
    pub async fn sh(&self, argv: &[&str]) -> Result<String> {
        command::text(self.enter(argv)?).await.with_context(|| format!("on {}", self.name()))
    }

    /// Runs a shell command over SSH, with the system's client and the host's key pinned.
    ///
    /// # Errors
    ///
    /// If ssh or the command fails; the message has what they printed.
    pub async fn ssh(&self, line: &str) -> Result<String> {
        let known = self.plan.folder.join("known_hosts");
        std::fs::write(&known, format!("{} {}\n", self.address(), self.host_key().public))?;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes"]);
        ssh.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", &format!("UserKnownHostsFile={}", known.display())]);
        ssh.arg("-i").arg(self.identity_file()).arg(format!("root@{}", self.address())).arg(line);
        command::text(ssh).await
    }

    /// The end of a daemon's log (`boot`, `sshd` or `dockerd`).
    #[must_use]
    pub fn log_tail(&self, daemon: &str, lines: usize) -> String {
        process::tail(&self.log(daemon), lines)
    }

    /// Turns the power on: the host boots from its disk, with its old keys, and is ready when this returns.
    ///
    /// # Errors
    ///
    /// If it is already on, or something in it does not start.
    pub async fn start(&self) -> Result<()> {
        if self.is_on() {
            bail!("{} is already on", self.name());
        }
        self.boot().await.with_context(|| {
            format!("{} does not boot; its log ends with\n{}", self.name(), self.log_tail("boot", SHOWN_LINES))
        })?;
        tokio::try_join!(self.start_sshd(), self.start_dockerd()).map(drop)
    }

    /// Turns the power off without warning: everything in the host is gone when this returns. The disk stays.
    ///
    /// # Errors
    ///
    /// If the kernel does not let go of it.
    pub async fn kill(&self) -> Result<()> {
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(machine) = machine else { return Ok(()) };
        let cable = network::cable(self.plan.subnet, self.plan.index);
        let group = self.cgroup();
        tokio::task::spawn_blocking(move || {
            machine.identity.kill(&group)?;
            network::remove_link(&cable)?;
            cgroup::remove(&group)?;
            anyhow::Ok(machine.identity)
        })
        .await?
        .and_then(|identity| self.registration.remove_host(identity))
    }

    pub(super) fn init(&self) -> Result<u32> {
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.as_ref().map(|machine| machine.init).with_context(|| format!("{} is powered off", self.plan.name))
    }

    pub(super) fn set_host_key(&self, key: HostKey) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    pub(super) fn enter(&self, argv: &[&str]) -> Result<Command> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.init()?.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]);
        nsenter.args(argv).env_clear().env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C");
        Ok(nsenter)
    }

    fn docker_command(&self, args: &[&str]) -> Result<Command> {
        let mut docker = Command::new(require("docker")?);
        docker.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY").env("DOCKER_CONFIG", &self.plan.folder);
        docker.env("DOCKER_HOST", format!("unix://{}", self.docker_socket()?.display())).args(args);
        Ok(docker)
    }

    async fn boot(&self) -> Result<()> {
        let up = self.plan.folder.join("up");
        let _ = std::fs::remove_file(&up);
        let mut unshare = std::process::Command::new(require("unshare")?);
        unshare.args([
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
        ]);
        unshare.arg(include_str!("host-init.sh")).arg("host-init").arg(&self.plan.folder).arg(self.name());
        unshare.arg(require("docker-init")?).env_clear().env("PATH", PATH);
        let mut supervisor = Process::spawn(self.name(), &unshare, self.log("boot"))?;
        let pid = supervisor.pid();
        let ended = &mut supervisor;
        let init = wait_for("the host's first process", READY, || {
            let init = match ended.exited() {
                Ok(None) => only_child(pid).filter(|_| up.exists()).map(Ok),
                Ok(Some(status)) => Some(Err(anyhow!("it ended with {status}"))),
                Err(error) => Some(Err(error)),
            };
            async move { init }
        })
        .await??;
        let identity = Identity::of(init).context("it ended at once")?;
        self.registration.add_host(identity)?;
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Machine { init, identity, _supervisor: supervisor });
        network::plug(self.plan.subnet, self.plan.index, init).await
    }

    pub(super) fn cgroup(&self) -> String {
        format!("{}/{}", cgroup::name(self.plan.subnet), self.name())
    }

    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.plan.logs.join(format!("{}-{daemon}.log", self.name()))
    }
}

/// The pid of the one child that `unshare` has.
fn only_child(parent: u32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?.trim().parse().ok()
}

/// A sparse file with an ext4 file system of that size, all of it usable.
async fn make_disk(image: &Path, bytes: u64) -> Result<()> {
    let file = std::fs::File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    file.set_len(bytes)?;
    let options = ["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"].map(AsRef::as_ref);
    run(require("mkfs.ext4")?, options.into_iter().chain([image.as_os_str()])).await.map(drop)
}
