//! What containers use: one-shot readings, and CPU from the difference of two.

use super::{Api, seen};
use crate::{error, metrics};
use bollard::{
    Docker,
    models::{ContainerMemoryStats, ContainerStatsResponse},
    query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder},
};
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::{
    naming::label,
    ports::{ContainerStats, HostError},
};
use plimsoll_types::{Bytes, Code, MilliCpu, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Readings at once: half of the poll's channels.
const AT_ONCE: usize = 4;
/// How long all readings together may take: 100 containers' worth.
const SWEEP: Duration = Duration::from_secs(30);
/// Readings kept at most: more containers than any host holds.
const MAX_READINGS: usize = 1024;
/// Between the two readings of a container that no poll has read yet.
const APART: Duration = Duration::from_millis(250);

/// The last reading of each container: when, and CPU time used by then.
pub(crate) struct Readings {
    last: Mutex<HashMap<String, Reading>>,
    /// One sweep at a time.
    sweeping: Arc<Semaphore>,
}

impl Default for Readings {
    fn default() -> Self {
        Self { last: Mutex::default(), sweeping: Arc::new(Semaphore::new(1)) }
    }
}

#[derive(Clone, Copy)]
struct Reading {
    at_ms: u64,
    cpu_ns: u64,
    cpu: MilliCpu,
}

/// What one container uses.
pub(crate) async fn stats(api: &Api, readings: &Readings, container: &str) -> Result<ContainerStats, HostError> {
    seen::check_name(container)?;
    let docker = api.call().await?;
    let (id, mut now, cpu) = read(&docker, readings, container).await?;
    now.cpu = match cpu {
        Some(cpu) => cpu,
        None => {
            tokio::time::sleep(APART).await;
            let (_, later, cpu) = read(&docker, readings, &id).await?;
            now = later;
            cpu.unwrap_or_default()
        }
    };
    Ok(now)
}

/// The running containers of ours, whatever the cluster.
pub(crate) async fn running(docker: &Docker) -> Result<Vec<String>, HostError> {
    let filters = HashMap::from([("label", vec![label::CLUSTER]), ("status", vec!["running"])]);
    let options = ListContainersOptionsBuilder::new().filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.map_err(|e| error::docker("list containers", e))?;
    Ok(found.into_iter().filter_map(|container| container.id).collect())
}

/// Reads what these containers use, beside the poll: Docker answers a "one-shot" only at the next tick of its own clock, up to a
/// second later. The next poll starts the next sweep, if this one has ended by then.
pub(crate) fn sweep(api: &Api, docker: &Docker, readings: &Arc<Readings>, ids: Vec<String>) {
    readings.keep(&ids);
    let Ok(alone) = Arc::clone(&readings.sweeping).try_acquire_owned() else { return };
    let (name, docker, readings) = (api.name.clone(), docker.clone(), Arc::clone(readings));
    tokio::spawn(async move {
        let _alone = alone;
        let (mut memory, mut cpu) = (0u64, 0u64);
        let one = |id: String| {
            let (docker, readings) = (docker.clone(), Arc::clone(&readings));
            async move { read(&docker, &readings, &id).await }
        };
        let mut reads = stream::iter(ids).map(one).buffer_unordered(AT_ONCE);
        let all = async {
            // A container that ends meanwhile is left out.
            while let Some(result) = reads.next().await {
                if let Ok((_, now, used)) = result {
                    memory = memory.saturating_add(now.memory.0);
                    cpu = cpu.saturating_add(used.unwrap_or_default().0);
                }
            }
        };
        if tokio::time::timeout(SWEEP, all).await.is_ok() {
            metrics::sandboxes(&name, memory, cpu);
        }
    });
}

/// One reading: the container's full id, what it uses, and CPU if there was an earlier reading.
async fn read(
    docker: &Docker,
    readings: &Readings,
    container: &str,
) -> Result<(String, ContainerStats, Option<MilliCpu>), HostError> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let answer = std::pin::pin!(docker.stats(container, Some(options))).next().await;
    let found = match answer {
        Some(answer) => answer.map_err(|e| error::docker("read a container's stats", e))?,
        None => return Err(error::transient(Code::DockerUnreachable, "Docker answered without stats; retry")),
    };
    let id = found.id.clone().unwrap_or_else(|| container.to_owned());
    let at_ms = found.read.as_deref().and_then(seen::unix_ms).unwrap_or(0);
    let cpu_ns = found.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage).unwrap_or(0);
    let cpu = readings.difference(&id, at_ms, cpu_ns);
    Ok((id, convert(&found, at_ms, cpu_ns), cpu))
}

fn convert(found: &ContainerStatsResponse, at_ms: u64, cpu_ns: u64) -> ContainerStats {
    let sum = |pick: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        Bytes(found.networks.iter().flatten().filter_map(|(_, net)| pick(net)).fold(0, u64::saturating_add))
    };
    let memory = found.memory_stats.as_ref();
    ContainerStats {
        at: Timestamp(at_ms),
        cpu_total_ms: cpu_ns / 1_000_000,
        cpu: MilliCpu::ZERO,
        memory: Bytes(memory.map_or(0, used)),
        memory_limit: Bytes(memory.and_then(|memory| memory.limit).unwrap_or(0)),
        pids: found.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or(0),
        received: sum(|net| net.rx_bytes),
        sent: sum(|net| net.tx_bytes),
    }
}

/// Memory without the page cache that can be dropped at once: named differently by cgroups v1 and v2.
fn used(memory: &ContainerMemoryStats) -> u64 {
    let cache = |name| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let cache = cache("total_inactive_file").or_else(|| cache("inactive_file")).unwrap_or(0);
    memory.usage.unwrap_or(0).saturating_sub(cache)
}

impl Readings {
    fn difference(&self, id: &str, at_ms: u64, cpu_ns: u64) -> Option<MilliCpu> {
        let mut readings = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = match readings.get(id) {
            // Too close together to mean anything: the earlier answer still holds.
            Some(last) if at_ms < last.at_ms.saturating_add(100) && cpu_ns >= last.cpu_ns => return Some(last.cpu),
            // Thousandths of a CPU are nanoseconds of CPU per microsecond.
            Some(last) if at_ms > last.at_ms && cpu_ns >= last.cpu_ns => {
                Some(MilliCpu((cpu_ns - last.cpu_ns) / 1000 / (at_ms - last.at_ms)))
            }
            _ => None,
        };
        if readings.len() < MAX_READINGS || readings.contains_key(id) {
            readings.insert(id.to_owned(), Reading { at_ms, cpu_ns, cpu: cpu.unwrap_or_default() });
        }
        cpu
    }

    fn keep(&self, ids: &[String]) {
        let mut readings = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|id, _| ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_the_difference_of_two_readings() {
        let readings = Readings::default();
        assert_eq!(readings.difference("a", 1000, 5_000_000_000), None);
        assert_eq!(readings.difference("a", 3000, 6_000_000_000), Some(MilliCpu(500)), "one second of CPU in two");
        assert_eq!(readings.difference("a", 3050, 6_050_000_000), Some(MilliCpu(500)), "too close: the last answer");
        assert_eq!(readings.difference("a", 5000, 0), None, "the container was restarted");
        readings.keep(&["b".to_owned()]);
        assert_eq!(readings.difference("a", 9000, 9), None);
    }
}
