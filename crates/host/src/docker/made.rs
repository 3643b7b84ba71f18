//! What a container was made with, read back from Docker: for a sandbox of which nothing but its container is known.

use super::{Api, hardening, seen};
use bollard::models::ContainerInspectResponse;
use plimsoll_lifecycle::ports::{ContainerMade, HostError};
use plimsoll_types::{Bytes, ImageRef, MilliCpu, Runtime, SandboxSpec};

/// Docker counts CPUs in billionths.
const NANO_PER_MILLI: u64 = 1_000_000;

/// Looks at one container; `None` if there is none, or it has no limits such as we set.
pub(crate) async fn made_with(api: &Api, container: &str) -> Result<Option<ContainerMade>, HostError> {
    Ok(seen::details(api, container).await?.as_ref().and_then(read))
}

fn read(found: &ContainerInspectResponse) -> Option<ContainerMade> {
    let (config, limits) = (found.config.as_ref()?, found.host_config.as_ref()?);
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let argv = || {
        let parts = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
        parts.cloned().collect::<Vec<_>>()
    };
    let pair = |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let runsc = limits.runtime.as_deref() == Some(Runtime::Runsc.as_str());
    Some(ContainerMade {
        image: ImageRef::new(config.image.as_deref()?).ok()?,
        command: (!hardening::is_idle(found)).then(argv),
        env: config.env.iter().flatten().filter_map(pair).collect(),
        cpu: MilliCpu(positive(limits.nano_cpus)? / NANO_PER_MILLI),
        memory: Bytes(positive(limits.memory)?),
        pids_limit: positive(limits.pids_limit)
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(SandboxSpec::DEFAULT_PIDS),
        runtime: if runsc { Runtime::Runsc } else { Runtime::Runc },
    })
}
