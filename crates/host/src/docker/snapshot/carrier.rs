//! The carrier: a helper container, made from the committed root filesystem, that replaces its own workspace by a copy of the volume.
//!
//! It never runs anything of the sandbox's but the shell and the file tools of its image, as root with the few capabilities that copying
//! needs, without a network; the volume is read-only to it.

use super::{
    super::{Api, helper, logs},
    attributes,
};
use crate::error;
use bollard::{
    models::{ContainerCreateBody, HostConfig, Mount as DockerMount, MountType, MountVolumeOptions},
    query_parameters::CreateContainerOptionsBuilder,
};
use plimsoll_lifecycle::{
    naming::{self, PLATFORM_ENV_FILE, SECRETS_DIR, label},
    ports::{CommitPlan, HostError},
};
use plimsoll_types::{Bytes, Code};

const SCRIPT: &str = include_str!("carrier.sh");
/// What an older layer holds may not be in a snapshot.
const FLATTEN: i64 = 10;
/// The disk is full.
const FULL: i64 = 28;
/// Copying needs little; the page cache gives way.
const MEMORY: Bytes = Bytes::mib(512);
/// The list of files with several names, and Docker's default beside it.
const SHM: i64 = 256 << 20;
/// The script runs a few processes at a time.
const PIDS: i64 = 64;
/// To give files any owner and mode, and to read what only their owner may.
const CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD"];
/// Lines shown when it fails.
const LAST_LINES: u32 = 10;

/// What became of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// The carrier can be committed.
    Done,
    /// And then must be squashed: a file that may not be in a snapshot is in a layer below.
    Flatten,
}

/// Its name: a second try finds what a first one left.
pub(super) fn name(plan: &CommitPlan) -> String {
    naming::carrier(plan.snapshot)
}

/// Creates and runs it on this image, and waits for its end. It is there to be committed afterwards. What an earlier try left of it must be
/// gone.
pub(super) async fn run(api: &Api, plan: &CommitPlan, image: &str) -> Result<Carried, HostError> {
    let name = name(plan);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let made = api.call().await?.create_container(Some(options), body(plan, image)).await;
    made.map_err(|e| error::docker("create a helper container", e))?;
    match helper::wait(api, &name).await.map_err(|error| not_started(api, error))? {
        0 => Ok(Carried::Done),
        FLATTEN => Ok(Carried::Flatten),
        code => Err(failed(api, code, &logs::last(api, &name, LAST_LINES).await.unwrap_or_default())),
    }
}

fn body(plan: &CommitPlan, image: &str) -> ContainerCreateBody {
    let words = |all: &[&str]| Some(all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let labels = [
        (label::CLUSTER, plan.cluster.to_string()),
        (label::SANDBOX, plan.sandbox.to_string()),
        // Inherited otherwise, and then it would pass for a container of that incarnation.
        (label::GENERATION, String::new()),
        (label::OPERATION, String::new()),
    ];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]),
        entrypoint: words(&["/bin/sh", "-c"]),
        // The volume appears where the sandbox has its tmpfs: a folder that is in every committed image and always empty there.
        cmd: words(&[SCRIPT, "sh", SECRETS_DIR, &plan.workspace.target, PLATFORM_ENV_FILE, attributes::KEPT]),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        host_config: Some(HostConfig {
            mounts: Some(vec![DockerMount {
                typ: Some(MountType::VOLUME),
                source: Some(plan.workspace.volume.clone()),
                target: Some(SECRETS_DIR.to_owned()),
                read_only: Some(true),
                volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
                ..DockerMount::default()
            }]),
            network_mode: Some("none".to_owned()),
            cap_drop: words(&["ALL"]),
            cap_add: words(&CAPABILITIES),
            security_opt: words(&["no-new-privileges:true"]),
            memory: i64::try_from(MEMORY.0).ok(),
            shm_size: Some(SHM),
            pids_limit: Some(PIDS),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn not_started(api: &Api, error: HostError) -> HostError {
    // A Docker that is shutting down misses files of its own.
    let lower = error.message.to_ascii_lowercase();
    let missing = lower.contains("executable file not found") || lower.contains("no such file or directory");
    if missing && lower.contains("/bin/sh") {
        let text =
            format!("a sandbox on host {} cannot be snapshot: its image lacks /bin/sh: {}", api.name, error.message);
        return error::permanent(Code::SnapshotFailed, text);
    }
    error
}

fn failed(api: &Api, code: i64, said: &str) -> HostError {
    let said = error::tidy(said);
    if code == FULL || error::is_full(&said) {
        let text = format!("host {} has no room to copy the workspace: {said}; free disk space there", api.name);
        return error::this_host(Code::HostFull, text);
    }
    let text = format!("the workspace could not be copied on host {}: exit code {code}: {said}", api.name);
    match code {
        126 | 127 => error::permanent(
            Code::SnapshotFailed,
            format!("{text}; the image needs sh, cp, rm, mkdir, chown, chmod, stat and touch"),
        ),
        _ => error::transient(Code::SnapshotFailed, text),
    }
}
