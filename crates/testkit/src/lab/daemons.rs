//! The two daemons of a host, `sshd` and `dockerd`: how they are configured, started and found ready.
//!
//! They are started from inside the host and adopted by its init process. A helper outside would have to be reaped before
//! the host can die, and `nsenter` stops itself when its child is stopped: a frozen host could then never be killed.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    host::{LabHost, SHOWN_LINES},
    process,
};
use crate::wait::wait_for;

/// A daemon is ready in about a second; on a busy two-core machine with many hosts it may take ten times that.
pub(super) const READY: Duration = Duration::from_secs(60);

/// A connection attempt whose first packet was lost would wait longer and longer for a retransmission; a new one is quicker.
const LOOK: Duration = Duration::from_secs(1);

/// Paths are as seen inside a host.
pub(super) const SSHD_CONFIG: &str = "\
Port 22
ListenAddress 0.0.0.0
HostKey /run/lab/host_key
AuthorizedKeysFile /run/lab/authorized_keys
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
";

/// Newer servers shut an address out after a few failed logins, which tests with wrong keys would run into; older ones
/// do not know the option.
const START_SSHD: &str = "
set -- -f /run/lab/sshd_config -o PerSourcePenalties=no
/usr/sbin/sshd -t \"$@\" 2>/dev/null || set -- -f /run/lab/sshd_config
exec /usr/sbin/sshd -D -e \"$@\"";

impl LabHost {
    /// Starts `sshd` and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not answer in time; the message has the end of its log.
    pub async fn start_sshd(&self) -> Result<()> {
        self.daemon("sshd", &["sh", "-c", START_SSHD]).await?;
        let address = self.address();
        self.ready("sshd", move || async move { banner(address).await }).await
    }

    /// Starts `dockerd` and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not answer in time; the message has the end of its log.
    pub async fn start_dockerd(&self) -> Result<()> {
        let parent = format!("/{}", self.cgroup());
        let mut argv = vec!["dockerd", "--config-file", "/run/lab/daemon.json", "--data-root", "/var/lib/docker"];
        argv.extend(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "-H", "unix:///run/docker.sock"]);
        argv.extend(["--cgroup-parent", &parent, "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        argv.extend(self.plan.dockerd.iter().map(String::as_str));
        self.daemon("dockerd", &argv).await?;
        let socket = self.docker_socket()?;
        self.ready("dockerd", move || ping(socket.clone())).await
    }

    /// Starts a daemon in the background of the host; its log is written from outside and survives a power cycle.
    async fn daemon(&self, name: &str, argv: &[&str]) -> Result<()> {
        let log = process::open_log(&self.log(name))?;
        let mut words = vec!["sh", "-c", "setsid \"$@\" </dev/null &", name];
        words.extend(argv);
        let mut command = self.enter(&words)?;
        command.stdout(log.try_clone()?).stderr(log);
        let status = command.status().await.with_context(|| format!("cannot start {name}"))?;
        if !status.success() {
            bail!("cannot start {name} on {}: {}", self.name(), self.log_tail(name, SHOWN_LINES));
        }
        Ok(())
    }

    async fn ready<F, Fut>(&self, daemon: &str, mut condition: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let what = format!("{daemon} on {}", self.name());
        wait_for(what, READY, || {
            let look = timeout(LOOK, condition());
            async move { look.await.context("no answer")? }
        })
        .await
        .with_context(|| format!("its log ends with\n{}", self.log_tail(daemon, SHOWN_LINES)))
    }
}

async fn banner(address: Ipv4Addr) -> Result<()> {
    let mut greeting = [0; 8];
    TcpStream::connect((address, 22)).await?.read_exact(&mut greeting).await?;
    if &greeting == b"SSH-2.0-" { Ok(()) } else { bail!("something else than sshd answers") }
}

/// Asks the daemon the way every Docker client does first.
pub(super) async fn ping(socket: PathBuf) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.split_whitespace().nth(1) == Some("200") { Ok(()) } else { bail!("it answers {answer:?}") }
}
