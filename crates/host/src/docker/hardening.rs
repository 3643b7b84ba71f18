//! What every sandbox's container is allowed: as little as possible, and the same for all.
//!
//! Never privileged, never the Docker socket, never a host path but its workspace, never an unconfined profile.

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig, Mount as DockerMount, MountType,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use plimsoll_lifecycle::{
    naming::{SECRETS_DIR, label},
    ports::ContainerPlan,
};
use plimsoll_types::MilliCpu;
use std::collections::HashMap;

/// The user of every sandbox, whatever user its image names: workspace and secrets belong to it, and the platform expects it.
pub(crate) const SANDBOX_UID: u32 = 1000;
/// Keeps a sandbox without a main process of its own alive in any image that has a shell. The shell waits in the background, so
/// that a stop is obeyed at once and not after the sleep.
const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
/// Log files of one container: three of 10 MiB, so that no sandbox fills the disk by talking.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// The secrets' tmpfs: an environment is a few KiB.
const SECRETS_SIZE: &str = "1m";

/// The sandboxes' user and group, as Docker writes them.
pub(crate) fn sandbox_user() -> String {
    format!("{SANDBOX_UID}:{SANDBOX_UID}")
}

/// Everything Docker is told about a sandbox's container, on a host with so many CPUs (zero if it does not say).
pub(crate) fn body(plan: &ContainerPlan, network: &str, cpus: u64) -> ContainerCreateBody {
    let (entrypoint, cmd) = match plan.command.as_deref() {
        Some([program, args @ ..]) => (vec![program.clone()], args.to_vec()),
        Some([]) | None => (vec!["/bin/sh".to_owned(), "-c".to_owned(), IDLE.to_owned()], Vec::new()),
    };
    ContainerCreateBody {
        hostname: Some(plan.hostname.clone()),
        user: Some(sandbox_user()),
        env: Some(plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        image: Some(plan.image.as_str().to_owned()),
        entrypoint: Some(entrypoint),
        cmd: Some(cmd),
        labels: Some(labels(plan)),
        exposed_ports: Some(plan.ports.ports.iter().map(|port| format!("{port}/tcp")).collect()),
        host_config: Some(host_config(plan, network, cpus)),
        ..ContainerCreateBody::default()
    }
}

/// Whether a container's main process is our idle one, which never ends by itself.
pub(crate) fn is_idle(found: &ContainerInspectResponse) -> bool {
    found.args.as_ref().and_then(|args| args.last()).is_some_and(|last| last == IDLE)
}

/// Ours win over the plan's, and both over the image's: a container made from a snapshot inherits the snapshot's labels.
fn labels(plan: &ContainerPlan) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = plan.labels.clone().into_iter().collect();
    labels.extend([
        (label::CLUSTER.to_owned(), plan.cluster.to_string()),
        (label::SANDBOX.to_owned(), plan.sandbox.to_string()),
        (label::GENERATION.to_owned(), plan.generation.to_string()),
        (label::OPERATION.to_owned(), plan.operation.to_string()),
    ]);
    labels
}

/// Docker refuses a limit above what the host has, which a load line with overcommit allows; all of it is all that could be used.
fn nano_cpus(limit: MilliCpu, cpus: u64) -> i64 {
    const NANO: u64 = 1_000_000;
    let most = if cpus == 0 { u64::MAX } else { cpus.saturating_mul(1000 * NANO) };
    i64::try_from(limit.0.saturating_mul(NANO).min(most)).unwrap_or(i64::MAX)
}

fn host_config(plan: &ContainerPlan, network: &str, cpus: u64) -> HostConfig {
    let memory = i64::try_from(plan.memory.0).unwrap_or(i64::MAX);
    // The host picks the port: a port chosen here could be taken by then.
    let binding =
        || Some(vec![PortBinding { host_ip: Some(plan.ports.address.to_string()), host_port: Some(String::new()) }]);
    let secrets = format!("rw,noexec,nosuid,nodev,size={SECRETS_SIZE},mode=0700,uid={SANDBOX_UID},gid={SANDBOX_UID}");
    HostConfig {
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // The default seccomp and AppArmor profiles stay on by not being named.
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        init: Some(true),
        memory: Some(memory),
        // Equal to memory: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus(plan.cpu, cpus)),
        pids_limit: Some(i64::from(plan.pids_limit)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_SIZE.to_owned()),
                ("max-file".to_owned(), LOG_FILES.to_owned()),
            ])),
        }),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        network_mode: Some(network.to_owned()),
        port_bindings: Some(plan.ports.ports.iter().map(|port| (format!("{port}/tcp"), binding())).collect()),
        mounts: Some(vec![DockerMount {
            typ: Some(MountType::VOLUME),
            source: Some(plan.workspace.volume.clone()),
            target: Some(plan.workspace.target.clone()),
            ..DockerMount::default()
        }]),
        tmpfs: Some(HashMap::from([(SECRETS_DIR.to_owned(), secrets)])),
        runtime: Some(plan.runtime.as_str().to_owned()),
        ipc_mode: Some("private".to_owned()),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_limit_is_never_above_what_the_host_has() {
        for (limit, cpus, nano) in [
            (500, 2, 500_000_000),
            (2000, 2, 2_000_000_000),
            (4000, 2, 2_000_000_000),
            (4000, 0, 4_000_000_000),
            (u64::MAX, 0, i64::MAX),
        ] {
            assert_eq!(nano_cpus(MilliCpu(limit), cpus), nano, "{limit} of {cpus}");
        }
    }
}
