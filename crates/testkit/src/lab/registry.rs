//! What each lab on this machine has made, written down so that the next one can clean up after a lab that was killed.
//!
//! There is one clean-up, for a lab that stops, one that is dropped and one that is found dead. It touches nothing that
//! is not in a record or named like a lab's bridge.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{cgroup, network};

/// Where the records are. It is a tmpfs on every Linux system, so a reboot, which ends all labs, also forgets them.
const FOLDER: &str = "/run/plimsoll-lab";

/// A killed host is gone in well under a second; after this long the kernel is stuck, and saying so is better.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// A process, told apart from a later one that got the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: u32,
    started_ticks: u64,
}

impl Identity {
    /// The process with this number, if there is one that still runs.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may itself contain spaces and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let started_ticks = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started_ticks })
    }

    fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills the process and waits until it is gone. For the first process of a pid namespace that means that all
    /// others in it are gone as well, those included that a freezer in this cgroup holds still.
    pub(super) fn kill(self, group: &str) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let deadline = Instant::now() + DEATH_LIMIT;
        while self.lives() {
            // It may end between the look and the signal; the next look tells.
            let _ = kill_process(pid, Signal::KILL);
            // After the signal: what is let go dies before it does anything.
            cgroup::thaw(group);
            if Instant::now() > deadline {
                bail!("process {} does not die", self.pid);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Everything one lab has made on the machine.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    owner: Identity,
    /// The third byte of the lab's addresses; bridge, veths and cgroup are named after it.
    subnet: u8,
    folder: PathBuf,
    /// The first process of each running host.
    hosts: Vec<Identity>,
}

/// A lab's entry in the registry.
#[derive(Debug)]
pub(super) struct Registration {
    file: PathBuf,
    /// `None` after clean-up.
    record: Mutex<Option<Record>>,
}

impl Registration {
    /// Sweeps dead labs, claims a free subnet with its bridge and a folder under `parent`, and writes it all down.
    pub(super) fn claim(parent: &Path) -> Result<(Self, u8, PathBuf)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let owner = Identity::of(std::process::id()).context("cannot read /proc/self/stat")?;
        let _lock = lock()?;
        sweep()?;
        let subnet = network::claim_subnet()?;
        let folder = parent.join(format!("plimsoll-lab-{subnet}-{}", owner.pid));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = Path::new(FOLDER).join(format!("{}-{}-{number}.json", owner.pid, owner.started_ticks));
        let record = Record { owner, subnet, folder: folder.clone(), hosts: Vec::new() };
        save(&file, &record)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok((Self { file, record: Mutex::new(Some(record)) }, subnet, folder))
    }

    pub(super) fn add_host(&self, init: Identity) -> Result<()> {
        self.change(|hosts| hosts.push(init))
    }

    pub(super) fn remove_host(&self, init: Identity) -> Result<()> {
        self.change(|hosts| hosts.retain(|host| *host != init))
    }

    /// Removes everything the lab has made; the second call does nothing.
    pub(super) fn clean_up(&self) -> Result<()> {
        let Some(record) = self.record.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let _lock = lock()?;
        clean_up(&record, &self.file)
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Identity>)) -> Result<()> {
        let mut guard = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let record = guard.as_mut().context("the lab has been stopped")?;
        edit(&mut record.hosts);
        save(&self.file, record)
    }
}

/// Only one process at a time claims or removes; the lock goes with the file handle, so a killed holder frees it.
fn lock() -> Result<File> {
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot create {FOLDER}"))?;
    let file = File::create(Path::new(FOLDER).join("lock")).context("cannot open the lock of the lab registry")?;
    file.lock().context("cannot take the lock of the lab registry")?;
    Ok(file)
}

/// Cleans up after labs whose process is gone. Needs the lock.
fn sweep() -> Result<()> {
    let mut living = Vec::new();
    for entry in fs::read_dir(FOLDER)?.flatten() {
        let file = entry.path();
        if file.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let bytes = fs::read(&file)?;
        let record: Record = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a record of a lab; look at it and remove it", file.display()))?;
        if record.owner.lives() {
            living.push(record.subnet);
        } else {
            clean_up(&record, &file)
                .with_context(|| format!("cannot clean up after a dead lab, {}", file.display()))?;
        }
    }
    // A lab killed between making its bridge and writing its record left only the bridge.
    network::remove_bridges_except(&living)
}

fn clean_up(record: &Record, file: &Path) -> Result<()> {
    let group = cgroup::name(record.subnet);
    for host in &record.hosts {
        host.kill(&group)?;
    }
    network::remove_bridge(record.subnet)?;
    cgroup::remove(&group)?;
    remove_tree(&record.folder)?;
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn save(file: &Path, record: &Record) -> Result<()> {
    let draft = file.with_extension("draft");
    fs::write(&draft, serde_json::to_vec(record)?).with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, file).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_identity_lives_as_long_as_its_process() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.lives());
        assert!(!Identity { started_ticks: identity.started_ticks + 1, ..identity }.lives());
        identity.kill("plimsoll-lab-none").unwrap();
        assert!(!identity.lives());
        child.wait().unwrap();
        assert_eq!(Identity::of(child.id()), None);
    }
}
