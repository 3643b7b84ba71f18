//! What can go wrong with a host, on demand. Each fault returns once it is in force.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{
    daemons::ping,
    host::LabHost,
    keys::{self, HostKey},
    network,
};
use crate::wait::wait_for;

/// A daemon that was told to end has done so well before this.
const END: Duration = Duration::from_secs(30);

/// Silence in both directions, before connection tracking and Docker's own rules see a packet.
const SILENCE: [[&str; 6]; 2] =
    [["raw", "PREROUTING", "-i", "eth0", "-j", "DROP"], ["mangle", "POSTROUTING", "-o", "eth0", "-j", "DROP"]];

/// The listener and all connections, until none is left. `comm` is cut at 15 characters, none of these is longer.
const KILL_SSHD: &str = r#"
found=yes
while [ -n "$found" ]; do
    found=
    for process in /proc/[0-9]*; do
        case "$(cat "$process/comm" 2>/dev/null)" in
        sshd | sshd-session | sshd-auth)
            found=yes
            kill -KILL "${process#/proc/}" 2>/dev/null || true
            ;;
        esac
    done
done"#;

/// Takes what is free in one piece, then the crumbs; both are meant to end with "no space left".
const FILL_DISK: &str = "
fallocate -l $(df --output=avail -B1 /var | tail -n 1) /var/filler-1 2>/dev/null
dd if=/dev/zero of=/var/filler-2 bs=4k 2>/dev/null
sync -f /var
df --output=avail -B1 /var | tail -n 1";

impl LabHost {
    /// Cuts the network without a trace: packets vanish, connections hang. A power cycle heals it.
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn partition(&self) -> Result<()> {
        self.heal().await?;
        self.silence("-I").await
    }

    /// Undoes [`partition`](Self::partition); no error if there was none.
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn heal(&self) -> Result<()> {
        if self.silence("-C").await.is_ok() {
            self.silence("-D").await?;
        }
        Ok(())
    }

    /// Pulls the cable: this machine notices that nobody answers at the address ("no route to host").
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn unplug(&self) -> Result<()> {
        network::set_cable(&network::cable(self.plan.subnet, self.plan.index), false).await
    }

    /// Undoes [`unplug`](Self::unplug).
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn plug_in(&self) -> Result<()> {
        network::set_cable(&network::cable(self.plan.subnet, self.plan.index), true).await
    }

    /// Stops every process of the host, containers too, without ending any: it hangs, its kernel still answers pings.
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn freeze(&self) -> Result<()> {
        // Everything in the pid namespace but init and the shell that says it.
        self.sh(&["sh", "-c", "kill -STOP -1"]).await.map(drop)
    }

    /// Undoes [`freeze`](Self::freeze) and [`freeze_dockerd`](Self::freeze_dockerd).
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn thaw(&self) -> Result<()> {
        self.sh(&["sh", "-c", "kill -CONT -1"]).await.map(drop)
    }

    /// Makes only `dockerd` hang: SSH works, Docker takes connections and never answers.
    ///
    /// # Errors
    ///
    /// If the host is off or `dockerd` is not running.
    pub async fn freeze_dockerd(&self) -> Result<()> {
        self.signal_dockerd("STOP").await
    }

    /// Ends `dockerd` in order, its containers with it: SSH works, Docker's socket is refused.
    ///
    /// # Errors
    ///
    /// If it was not running or does not end.
    pub async fn stop_dockerd(&self) -> Result<()> {
        self.end_dockerd("TERM").await
    }

    /// Kills `dockerd`; its containers go on without it until it is started again.
    ///
    /// # Errors
    ///
    /// If it was not running.
    pub async fn kill_dockerd(&self) -> Result<()> {
        self.end_dockerd("KILL").await
    }

    /// Ends `sshd` and cuts every SSH connection: new ones are refused until it is started again.
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn stop_sshd(&self) -> Result<()> {
        self.sh(&["sh", "-c", KILL_SSHD]).await.map(drop)
    }

    /// Cuts every SSH connection; new ones are welcome.
    ///
    /// # Errors
    ///
    /// If `sshd` does not start again.
    pub async fn restart_sshd(&self) -> Result<()> {
        self.stop_sshd().await?;
        self.start_sshd().await
    }

    /// Gives the host a new key and cuts every SSH connection, as if somebody else's machine had taken its address.
    ///
    /// # Errors
    ///
    /// If `sshd` does not start again.
    pub async fn change_host_key(&self) -> Result<HostKey> {
        let key = keys::generate_host_key(&self.plan.folder.join("host_key")).await?;
        self.set_host_key(key.clone());
        self.restart_sshd().await?;
        Ok(key)
    }

    /// Replaces the list of client keys that may log in. Open connections stay.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn set_authorized_keys(&self, lines: &str) -> Result<()> {
        std::fs::write(self.plan.folder.join("authorized_keys"), lines).context("cannot write authorized_keys")
    }

    /// Leaves no free byte where Docker and the workspaces are.
    ///
    /// # Errors
    ///
    /// If the lab was not given disks of limited size, because then it would be this machine's disk.
    pub async fn fill_disk(&self) -> Result<()> {
        if self.plan.disk.is_none() {
            bail!("{} uses this machine's disk; set LabOptions::disk to be able to fill it", self.name());
        }
        let free = self.sh(&["sh", "-c", FILL_DISK]).await?;
        if free.trim() == "0" { Ok(()) } else { bail!("{} still has {free} bytes free", self.name()) }
    }

    /// Undoes [`fill_disk`](Self::fill_disk).
    ///
    /// # Errors
    ///
    /// If the host is off.
    pub async fn free_disk(&self) -> Result<()> {
        self.sh(&["rm", "-f", "/var/filler-1", "/var/filler-2"]).await.map(drop)
    }

    async fn silence(&self, action: &str) -> Result<()> {
        for [table, chain, rule @ ..] in SILENCE {
            let mut argv = vec!["iptables", "--wait", "-t", table, action, chain];
            argv.extend(rule);
            self.sh(&argv).await?;
        }
        Ok(())
    }

    async fn signal_dockerd(&self, signal: &str) -> Result<()> {
        self.sh(&["sh", "-c", &format!("kill -{signal} \"$(cat /run/docker.pid)\"")]).await.map(drop)
    }

    async fn end_dockerd(&self, signal: &str) -> Result<()> {
        let root = self.root()?;
        let pid = std::fs::read_to_string(root.join("run/docker.pid")).context("dockerd is not running")?;
        self.signal_dockerd(signal).await?;
        let socket = self.docker_socket()?;
        wait_for(format!("dockerd on {} to end", self.name()), END, || {
            let gone = !root.join("proc").join(pid.trim()).exists();
            let socket = socket.clone();
            async move { gone && ping(socket).await.is_err() }
        })
        .await
    }
}
