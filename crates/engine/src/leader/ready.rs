//! A container that was started: waiting until it serves, and where it is reached then.

use plimsoll_lifecycle::ports::{ContainerSeen, ContainerState, HostDriver, HostError, HostFailure};
use plimsoll_state::Host;
use plimsoll_types::{Code, Endpoint, HostAddress};
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use tokio::time;

/// How long a started container may take until Docker shows it running with its ports.
const READY: Duration = Duration::from_secs(30);
/// Between looks while it is not ready; a look costs about 3 ms.
const READY_POLL: Duration = Duration::from_millis(200);

/// Looks until the container runs with these ports; `made` is what was seen last.
pub(super) async fn await_ready(
    driver: &dyn HostDriver,
    ports: &[u16],
    made: &mut Option<ContainerSeen>,
) -> Result<(), HostError> {
    let wait = async {
        loop {
            let Some(seen) = made.as_ref() else { return Err(vanished()) };
            if let ContainerState::Exited(code) = seen.state {
                let message = format!(
                    "the container ended with exit code {code} right after its start; see its image and command"
                );
                return Err(HostError::new(HostFailure::Permanent, Code::StartFailed, message));
            }
            let published = ports.iter().all(|port| seen.ports.iter().any(|(inside, ..)| inside == port));
            if seen.state == ContainerState::Running && published {
                return Ok(());
            }
            let id = seen.id.clone();
            time::sleep(READY_POLL).await;
            *made = driver.inspect(&id).await?;
        }
    };
    time::timeout(READY, wait).await.unwrap_or_else(|_| {
        let message = format!("the container did not run with its ports published within {READY:?}");
        Err(HostError::new(HostFailure::Transient, Code::StartFailed, message))
    })
}

fn vanished() -> HostError {
    HostError::new(HostFailure::Transient, Code::StartFailed, "the container vanished while it started")
}

/// Where the ports that were asked for are reached.
pub(crate) fn endpoints(host: &Host, ports: &BTreeSet<u16>, seen: &ContainerSeen) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (port, ip, host_port) in &seen.ports {
        // Docker may list a port once for IPv4 and once for IPv6.
        if ports.contains(port) && !endpoints.iter().any(|known| known.port == *port) {
            endpoints.push(Endpoint { port: *port, address: public_address(host, *ip), host_port: *host_port });
        }
    }
    endpoints.sort();
    endpoints
}

/// What callers use: the advertised name, else the address the port listens on, else (for all addresses) the host's own.
fn public_address(host: &Host, ip: IpAddr) -> Box<str> {
    if let Some(advertise) = &host.advertise {
        return advertise.clone();
    }
    match &host.address {
        HostAddress::Ssh { addr, .. } if ip.is_unspecified() => addr.clone(),
        HostAddress::Unix { .. } if ip.is_unspecified() => "127.0.0.1".into(),
        HostAddress::Ssh { .. } | HostAddress::Unix { .. } => ip.to_string().into(),
    }
}
