//! A child process that writes to a log file, is killed by its pid and never outlives the process that started it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, kill_process};

use crate::wait::wait_for;

/// Spawns that may wait for the spawner thread at the same time; more callers simply wait their turn.
const SPAWN_QUEUE: usize = 16;

/// How much of the end of a log is read for an error message.
const TAIL_BYTES: usize = 64 * 1024;

/// What to tell a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please end (`SIGTERM`).
    Terminate,
    /// End now (`SIGKILL`).
    Kill,
    /// Hang (`SIGSTOP`).
    Stop,
    /// Go on (`SIGCONT`).
    Continue,
}

/// A running child. Dropping it kills it and collects it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` with both its outputs appended to `log`. It gets a process group of its own, so an interrupt
    /// typed at the terminal reaches only the program that owns it.
    ///
    /// # Errors
    ///
    /// If the log cannot be opened or the program cannot be started.
    pub fn spawn(name: impl Into<String>, command: &Command, log: impl Into<PathBuf>) -> Result<Self> {
        let (name, log) = (name.into(), log.into());
        let mut command = bound_to_parent(command);
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let out = open_log(&log)?;
        let err = out.try_clone().context("cannot share the log between both outputs")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = spawn_on_lasting_thread(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, log, child })
    }

    /// What the process is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with everything the process printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask about {}", self.name))
    }

    /// Sends a signal; a process that has ended is an error.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exited()? {
            bail!("{} has already ended with {status}", self.name);
        }
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
        };
        // Until `try_wait` has collected it, the pid cannot belong to anybody else.
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills at once and collects; no error if it has already ended.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot collect {}", self.name))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// If it is still running after `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let child = &mut self.child;
        wait_for(what, timeout, || {
            let status = child.try_wait();
            async move { status.map_err(|error| error.to_string())?.ok_or_else(|| "it still runs".to_owned()) }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing useful can be done about a failure here, and killing an ended child is not one.
        let _ = self.kill();
    }
}

/// The last lines of a file, or an empty text if it cannot be read.
pub(super) fn tail(file: &Path, lines: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

pub(super) fn open_log(path: &Path) -> Result<File> {
    let log = File::options().create(true).append(true).open(path);
    log.with_context(|| format!("cannot write the log {}", path.display()))
}

/// The same command, killed by the kernel when its parent dies, where the system can do that.
fn bound_to_parent(command: &Command) -> Command {
    let mut bound = if cfg!(target_os = "linux") {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    bound.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// The kernel's "parent died" signal is sent when the *thread* that spawned the child ends, and a runtime ends idle
/// threads. All children therefore come from one thread that lives as long as the process.
fn spawn_on_lasting_thread(command: Command) -> Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::SyncSender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<Job>(SPAWN_QUEUE);
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Every caller blocks on the reply, so somebody always takes the child.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::sync_channel(1);
    spawner.send((command, reply)).ok().context("the spawner thread has ended")?;
    Ok(answer.recv().context("the spawner thread has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logs_both_outputs_and_reports_the_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::spawn("talker", &command, dir.path().join("a/talker.log")).unwrap();
        let status = process.wait(Duration::from_secs(10)).await.unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.log_tail(5), "out\nerr");
        assert_eq!(process.log_tail(1), "err");
    }

    #[tokio::test]
    async fn dropping_kills() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = Process::spawn("sleeper", &command, dir.path().join("log")).unwrap();
        let pid = Pid::from_child(&process.child);
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err(), "{pid:?} is still there");
    }
}
