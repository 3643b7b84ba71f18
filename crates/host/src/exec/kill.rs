//! Kills a process in a container with all its children.
//!
//! Docker has no such call. Every process we start carries a random marker in its environment, which its children inherit; a second
//! process of the same user kills whatever has it, and whatever is in a session with it (a child may clear its
//! environment, and the program itself may be `env -i`).

use super::{
    run,
    start::{self, Spec},
};
use crate::{access::Class, docker::Api, error, limits};
use plimsoll_lifecycle::ports::{HostError, HostFailure};
use plimsoll_types::Code;
use rand::Rng;
use std::{sync::Arc, time::Duration};

const SCRIPT: &str = include_str!("kill.sh");
/// The process's id as its container sees it: the last one of the line. $1: its id on the machine.
const INNER_PID: &str =
    "while read -r key rest; do [ \"$key\" = NSpid: ] && echo \"${rest##*[[:space:]]}\"; done < \"/proc/$1/status\"\n";
/// The environment variable that marks a process.
const VARIABLE: &str = "PLIMSOLL_EXEC";
/// A sandbox at its limit of processes has no room for the killer until one of them ends.
const TRIES: u32 = 10;
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// Rounds of tries while the host is away: together about as long as a reboot takes.
const ROUNDS: u32 = 20;
const ROUND_PAUSE: Duration = Duration::from_secs(15);
/// How late Docker may start a process whose caller has left: starting takes 40 ms, and seconds on a loaded host.
const LATE: Duration = Duration::from_secs(5);

/// What it takes to find a process again.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) api: Arc<Api>,
    pub(crate) container: String,
    pub(crate) user: Option<String>,
    pub(crate) marker: String,
    /// Docker's id of the exec, once there is one.
    pub(crate) exec: Option<String>,
}

/// A marker nobody can guess: 128 random bits.
pub(crate) fn marker() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The marker as an environment entry.
pub(crate) fn entry(marker: &str) -> String {
    format!("{VARIABLE}={marker}")
}

/// Kills it and its children; success if none is left.
pub(crate) async fn kill(target: &Target) -> Result<(), HostError> {
    limits::within(&target.api.name, "kill", limits::KILL, async {
        let mut last = None;
        for _ in 0..TRIES {
            match once(target).await {
                Ok(()) => return Ok(()),
                // With the container, the process is gone.
                Err(error) if matches!(error.code, Code::WrongPhase | Code::NotFound) => return Ok(()),
                Err(error) if error.failure == HostFailure::Permanent => return Err(error),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        Err(last.unwrap_or_else(|| error::transient(Code::ExecFailed, "the process could not be killed")))
    })
    .await
}

/// Kills it, however long the host cannot be reached; for processes nobody waits for any more.
pub(crate) async fn kill_in_the_end(target: Target) {
    for round in 1..=ROUNDS {
        match kill(&target).await {
            Ok(()) => return,
            Err(error) => {
                let Target { api, container, .. } = &target;
                tracing::warn!(host = api.name, container, round, of = ROUNDS, %error, "a process was not killed yet");
                if error.failure == HostFailure::Permanent {
                    return;
                }
            }
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// A process that may have been started and that nobody can hear: killed when this is dropped.
pub(crate) struct Unheard(Option<Target>);

impl Unheard {
    pub(crate) const fn new(target: Target) -> Self {
        Self(Some(target))
    }

    /// It is heard now, has ended, or never began.
    pub(crate) fn settled(mut self) {
        self.0 = None;
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let (Some(target), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                kill_in_the_end(target.clone()).await;
                // Docker may only have been about to start it.
                tokio::time::sleep(LATE).await;
                kill_in_the_end(target).await;
            });
        }
    }
}

/// Whether an error says that no process was started.
pub(crate) const fn never_began(error: &HostError) -> bool {
    !matches!(error.failure, HostFailure::Unreachable)
}

async fn once(target: &Target) -> Result<(), HostError> {
    let session = session(target).await.unwrap_or_default();
    let argv = ["sh", "-c", SCRIPT, "sh", &target.marker, &session];
    let spec = Spec { argv: argv.map(str::to_owned).to_vec(), user: target.user.clone(), ..Spec::default() };
    let done = run::plain(&target.api, &target.container, spec, None, 1024).await?;
    if done.code == 0 {
        return Ok(());
    }
    let stderr = error::tidy(&String::from_utf8_lossy(&done.stderr));
    Err(error::transient(Code::ExecFailed, format!("not every process could be killed: {stderr}")))
}

/// The session of the process itself, which it leads: known from its id inside the container, as long as it runs.
async fn session(target: &Target) -> Option<String> {
    let found = start::inspect(&target.api, target.exec.as_deref()?).await.ok()?;
    let pid = found.pid.filter(|pid| found.running == Some(true) && *pid > 1)?;
    let said = target.api.access.command(Class::Call, INNER_PID, &[&pid.to_string()]).await.ok()?;
    let inner = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    // Session 1 is the sandbox's own main process.
    inner.parse::<u32>().is_ok_and(|inner| inner > 1).then_some(inner)
}
