//! Measurements of the machine without an agent: one fixed script, and what Docker says of itself.
//!
//! Nothing is written on the machine, and nothing that was read goes into a command.

mod parse;

use crate::{
    access::Class,
    docker::{
        Api,
        stats::{self, Readings},
    },
    error,
};
use parse::{Reading, Ticks};
use plimsoll_lifecycle::ports::{HostError, SurveyReport};
use plimsoll_types::{
    Bytes as ByteCount, Code, HostFacts, ImageRef, MeasuredLoad, MilliCpu, Resources, Timestamp, load::Pressure,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const POLL: &str = include_str!("poll.sh");
const SSHD: &str = include_str!("sshd.sh");
/// Where Docker's data is until Docker has said so.
const DOCKER_ROOT: &str = "/var/lib/docker";
/// Between the two readings of the very first poll: the kernel counts CPU time in steps of 10 ms.
const FIRST_APART: Duration = Duration::from_millis(200);

/// What one poll remembers for the next.
#[derive(Default)]
pub(crate) struct Memory {
    last: Mutex<Last>,
    pub(crate) readings: Arc<Readings>,
}

#[derive(Clone, Default)]
struct Last {
    ticks: Option<Ticks>,
    busy_permille: u64,
    root: Option<String>,
}

/// What a poll found, before it is cut to a port's shape.
struct Poll {
    facts: HostFacts,
    load: MeasuredLoad,
    reading: Reading,
    skew_ms: i64,
}

/// One poll: facts and the measured load of the machine.
pub(crate) async fn measure(api: &Api, memory: &Memory) -> Result<(HostFacts, MeasuredLoad), HostError> {
    poll(api, memory).await.map(|poll| (poll.facts, poll.load))
}

/// Everything `host add` reports.
pub(crate) async fn survey(api: &Api, memory: &Memory, base: Option<&ImageRef>) -> Result<SurveyReport, HostError> {
    let poll = poll(api, memory).await?;
    let base_image_present = match base {
        Some(image) => crate::docker::inspect_image(api, image).await?.is_some(),
        None => false,
    };
    let sshd = match &*api.access {
        crate::access::Access::Ssh(_) => {
            let said = api.access.command(Class::Poll, SSHD, &[]).await?;
            String::from_utf8_lossy(&said.stdout).into_owned()
        }
        crate::access::Access::Local(_) => String::new(),
    };
    Ok(SurveyReport {
        disk_free: poll.reading.disk.map_or(ByteCount::ZERO, |disk| ByteCount(disk.free)),
        inodes_free: poll.reading.inodes.map_or(0, |inodes| inodes.free),
        clock_skew_ms: poll.skew_ms,
        base_image_present,
        max_sessions: parse::sshd_option(&sshd, "maxsessions").and_then(|value| value.parse().ok()),
        max_startups: parse::sshd_option(&sshd, "maxstartups"),
        facts: poll.facts,
        load: poll.load,
    })
}

async fn poll(api: &Api, memory: &Memory) -> Result<Poll, HostError> {
    let result = poll_inner(api, memory).await;
    if result.is_err() {
        // Docker may be another release when it answers again.
        api.renegotiate();
    }
    result
}

async fn poll_inner(api: &Api, memory: &Memory) -> Result<Poll, HostError> {
    let known = memory.last().root;
    let (docker, release) = (api.poll().await?, api.release().await?);
    let (info, reading, running) = tokio::join!(
        docker.info(),
        read(api, memory, known.as_deref().unwrap_or(DOCKER_ROOT)),
        stats::running(&docker)
    );
    let info = info.map_err(|e| error::docker("describe itself", e))?;
    // A Docker that was replaced between two polls without a connection breaking: the next poll agrees anew.
    if info.server_version.as_ref().is_some_and(|engine| *engine != release.engine) {
        api.renegotiate();
    }
    let (mut reading, mut skew_ms) = reading?;
    let running = running?;
    let sandboxes = u32::try_from(running.len()).unwrap_or(u32::MAX);
    stats::sweep(api, &docker, &memory.readings, running);
    let root = info.docker_root_dir.clone().unwrap_or_else(|| DOCKER_ROOT.to_owned());
    if known.as_deref() != Some(root.as_str()) {
        memory.update(|last| last.root = Some(root.clone()));
        if root != DOCKER_ROOT {
            (reading, skew_ms) = read(api, memory, &root).await?;
        }
    }
    let cpu = MilliCpu(api.learn_cpus(info.ncpu).saturating_mul(1000));
    let total = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).or(reading.memory_total).unwrap_or(0);
    let facts = HostFacts {
        machine_id: reading.machine_id.clone().or(info.id).unwrap_or_default(),
        hostname: reading.hostname.clone().or(info.name).unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        docker_version: info.server_version.unwrap_or_default(),
        api_version: release.api.clone(),
        kernel: reading.kernel.clone().or(info.kernel_version).unwrap_or_default(),
        runtimes: sorted(info.runtimes.unwrap_or_default().into_keys()),
        totals: Resources { cpu, memory: ByteCount(total), disk: ByteCount(reading.disk.map_or(0, |disk| disk.total)) },
        docker_root: root,
    };
    let load = MeasuredLoad {
        at: Timestamp(now_ms()),
        cpu: MilliCpu(cpu.0.saturating_mul(memory.last().busy_permille) / 1000),
        memory: ByteCount(reading.memory_available.map_or(0, |available| total.saturating_sub(available))),
        disk: ByteCount(reading.disk.map_or(0, |disk| disk.total.saturating_sub(disk.free))),
        inodes_permille: reading.inodes.map_or(0, |inodes| inodes.used_permille()),
        pressure: Pressure {
            cpu_centipercent: reading.psi_cpu,
            memory_centipercent: reading.psi_memory,
            io_centipercent: reading.psi_io,
        },
        sandboxes,
    };
    Ok(Poll { facts, load, reading, skew_ms })
}

/// Runs the script; on the first poll twice, because CPU use is a difference.
async fn read(api: &Api, memory: &Memory, root: &str) -> Result<(Reading, i64), HostError> {
    let first = memory.last().ticks.is_none();
    let mut result = read_once(api, memory, root).await?;
    if first && result.0.ticks.is_some() {
        tokio::time::sleep(FIRST_APART).await;
        result = read_once(api, memory, root).await?;
    }
    Ok(result)
}

async fn read_once(api: &Api, memory: &Memory, root: &str) -> Result<(Reading, i64), HostError> {
    let before = now_ms();
    let output = api.access.command(Class::Poll, POLL, &[root]).await?;
    let after = now_ms();
    let reading = Reading::parse(&String::from_utf8_lossy(&output.stdout));
    if !reading.complete {
        let stderr = error::tidy(&String::from_utf8_lossy(&output.stderr));
        return Err(error::this_host(
            Code::SshDenied,
            format!("host {} did not run the measuring script (does the login user have a shell?): {stderr}", api.name),
        ));
    }
    if let Some(ticks) = reading.ticks {
        memory.update(|last| {
            if let Some(busy) = last.ticks.and_then(|earlier| ticks.busy_permille_since(earlier)) {
                last.busy_permille = busy;
            }
            last.ticks = Some(ticks);
        });
    }
    // The script reads the clock first thing: the answer is about as old as half the way.
    let skew = reading.time_ms.map_or(0, |theirs| {
        let early = signed(theirs) - signed(before);
        let late = signed(theirs) - signed(after);
        // Anything between is explained by the way there and back.
        if early < 0 { early } else { late.max(0) }
    });
    Ok((reading, skew))
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Memory {
    fn last(&self) -> Last {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Last)) {
        change(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn disk_of(folder: &str) -> Option<parse::Space> {
        let output = Command::new("sh").args(["-c", POLL, "sh", folder]).output().expect("a shell");
        let reading = Reading::parse(&String::from_utf8_lossy(&output.stdout));
        assert!(reading.complete && reading.inodes.is_some() == reading.disk.is_some(), "{reading:?}");
        reading.disk
    }

    /// Docker's folder is invisible where Docker is rootless, in a virtual machine or in another mount namespace.
    #[test]
    fn a_folder_that_is_not_here_is_measured_by_its_nearest_ancestor() {
        let total = |folder| disk_of(folder).map(|disk| disk.total);
        let root = total("/");
        assert!(root.is_some());
        for folder in ["/no/such/folder", "no-such-folder", "C:\\ProgramData\\docker", ""] {
            assert_eq!(total(folder), root, "{folder:?}");
        }
        assert_eq!(total("/proc/no-such-thing/x"), total("/proc"));
        assert_eq!(total("/dev/shm/no such/folder"), total("/dev/shm"));
    }
}
