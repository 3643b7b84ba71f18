//! Starting a container and finding out whether it stays up.

use super::{Api, hardening, logs, network, remove, seen};
use crate::{
    error::{self, DockerError, Refused},
    limits,
};
use bollard::models::ContainerInspectResponse;
use plimsoll_lifecycle::ports::{ContainerSeen, ContainerState, HostError};
use plimsoll_types::Code;
use std::time::{Duration, Instant};

/// Between two looks at a container that is coming up.
const LOOK: Duration = Duration::from_millis(50);
/// Log lines shown when it ended at once.
const LAST_LINES: u32 = 20;

/// Starts it, or finds it running.
pub(crate) async fn start(api: &Api, container: &str) -> Result<ContainerSeen, HostError> {
    // What was made here a moment ago has neither run nor been fenced since.
    let id = if api.known.take_made(container) {
        container.to_owned()
    } else {
        let before = seen::from_inspect(&look(api, container).await?);
        if before.state == ContainerState::Running {
            return Ok(before);
        }
        if before.name.contains(".fenced-") {
            let text = format!("container {} was fenced: a newer incarnation of its sandbox exists", before.name);
            return Err(error::transient(Code::Conflict, text));
        }
        before.id
    };
    let mut refused = ask(api, &id).await?;
    if refused.as_ref().is_some_and(network::is_doubled)
        && let Some(cluster) = seen::from_inspect(&look(api, &id).await?).cluster
    {
        network::remove_doubles(api, cluster).await?;
        refused = ask(api, &id).await?;
    }
    if let Some(refused) = refused {
        return Err(refused_start(api, &id, &refused).await?);
    }
    let started = Instant::now();
    loop {
        let found = look(api, &id).await?;
        let now = seen::from_inspect(&found);
        match now.state {
            ContainerState::Running if hardening::is_idle(&found) || started.elapsed() >= limits::SETTLE => {
                return Ok(now);
            }
            ContainerState::Running | ContainerState::Created => {}
            ContainerState::Paused => return Ok(now),
            ContainerState::Exited(code) => return Err(ended(api, &now, code).await),
            ContainerState::Dead => return Err(ended(api, &now, -1).await),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks Docker to start it; answers what it refused with.
async fn ask(api: &Api, id: &str) -> Result<Option<Refused>, HostError> {
    match api.call().await?.start_container(id, None).await.map_err(DockerError::from) {
        Ok(()) => Ok(None),
        Err(DockerError::Lost(lost)) => Err(lost),
        Err(DockerError::Refused(refused)) => Ok(Some(refused)),
    }
}

/// Why Docker did not start it. One that never ran and whose network is gone never can: the next create makes both anew.
async fn refused_start(api: &Api, id: &str, refused: &Refused) -> Result<HostError, HostError> {
    let container = seen::from_inspect(&look(api, id).await?);
    if network::is_gone(refused) && container.state == ContainerState::Created {
        api.known.forget_networks();
        remove::container(api, id).await?;
        let name = &container.name;
        let text = format!("the network of {name} on host {} was removed before it started; retry", api.name);
        return Ok(error::transient(Code::Conflict, text));
    }
    Ok(refusal(api, &container, refused))
}

async fn look(api: &Api, container: &str) -> Result<ContainerInspectResponse, HostError> {
    seen::details(api, container).await?.ok_or_else(|| {
        error::transient(Code::NotFound, format!("there is no container {container} on host {}", api.name))
    })
}

async fn ended(api: &Api, container: &ContainerSeen, code: i64) -> HostError {
    let lines = logs::last(api, &container.id, LAST_LINES).await.unwrap_or_default();
    let lines = error::tidy(&lines);
    let said = if lines.is_empty() { "it printed nothing".to_owned() } else { format!("its last lines:\n{lines}") };
    let text = format!("container {} on host {} ended at once with exit code {code}; {said}", container.name, api.name);
    error::permanent(Code::StartFailed, text)
}

fn refusal(api: &Api, container: &ContainerSeen, refused: &Refused) -> HostError {
    let message = &refused.message;
    let lower = message.to_ascii_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    let (name, host) = (&container.name, &api.name);
    if error::is_full(message) {
        let text = format!("host {host} has no room to start {name}: {message}; free space there or place elsewhere");
        return error::this_host(Code::HostFull, text);
    }
    if has(&["port is already allocated", "address already in use", "cannot assign requested address"]) {
        let text =
            format!("a port of {name} cannot be published on host {host}: {message}; check the host's publish address");
        return error::this_host(Code::PortClash, text);
    }
    if has(&["unknown runtime", "runtime not found", "docker-init", "runsc"]) {
        let text = format!("host {host} lacks what {name} needs: {message}; install it there");
        return error::this_host(Code::StartFailed, text);
    }
    let text = format!("Docker on host {host} could not start {name}: {message}");
    if error::is_broken(message) {
        return error::this_host(Code::StartFailed, format!("{text}; repair the host"));
    }
    if has(&[
        "executable file not found",
        "unable to find user",
        "no matching entries in",
        "no such file or directory",
        "permission denied",
        "exec format error",
        "is a directory",
        "not a directory",
    ]) {
        let hint = "check the sandbox's command (without one, the image needs /bin/sh) and the image's architecture";
        return error::permanent(Code::StartFailed, format!("{text}; {hint}"));
    }
    error::transient(Code::StartFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use plimsoll_lifecycle::ports::HostFailure::{self, Permanent, ThisHost, Transient};
    use std::{path::Path, sync::Arc};

    #[test]
    fn only_a_broken_host_is_blamed_for_a_start() {
        let api = Api::new("vps-1".to_owned(), Arc::new(Access::local(Path::new("/none"))));
        let container = seen::from_inspect(&ContainerInspectResponse::default());
        let cases: [(&str, HostFailure, Code); 8] = [
            ("write /x: no space left on device", ThisHost, Code::HostFull),
            ("unknown runtime specified runsc", ThisHost, Code::StartFailed),
            ("failed to create endpoint: iptables failed", ThisHost, Code::StartFailed),
            ("Bind for 127.0.0.1:80 failed: port is already allocated", ThisHost, Code::PortClash),
            ("exec: \"/x\": executable file not found in $PATH", Permanent, Code::StartFailed),
            ("unable to find user me: no matching entries in passwd file", Permanent, Code::StartFailed),
            ("exec /x: exec format error", Permanent, Code::StartFailed),
            ("something new", Transient, Code::StartFailed),
        ];
        for (message, failure, code) in cases {
            let said = refusal(&api, &container, &Refused { status: 500, message: message.to_owned() });
            assert_eq!((said.failure, said.code), (failure, code), "{message}");
        }
    }
}
