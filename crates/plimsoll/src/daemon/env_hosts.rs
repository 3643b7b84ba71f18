//! The hosts that `VPS_HOST` names: added once, by whichever node leads, without any other configuration.

use plimsoll_engine::{ClusterOperations as _, NewHost, VpsClusterProvider};
use plimsoll_lifecycle::ports::{Ledger, ledger};
use plimsoll_types::{Code, HostAddress, HostName, Identity, Labels, PublishAddress};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Between two tries of a host that could not be added: it may still be booting.
const RETRY: Duration = Duration::from_secs(10);

/// Adds each of them once this node leads; one that cannot be reached is tried again until it can.
pub(super) async fn add_all(
    provider: Arc<VpsClusterProvider>,
    ledger: Arc<dyn Ledger>,
    mut hosts: Vec<HostAddress>,
    shutdown: CancellationToken,
) {
    while !hosts.is_empty() {
        let mut view = ledger.leader();
        while !view.is_self {
            tokio::select! {
                () = shutdown.cancelled() => return,
                now = ledger.leader_changed(view) => view = now,
            }
        }
        let mut left = Vec::new();
        for address in hosts {
            if !add(&provider, ledger.as_ref(), &address).await {
                left.push(address);
            }
        }
        hosts = left;
        if !hosts.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

/// Adds one host; whether that is settled.
async fn add(provider: &VpsClusterProvider, ledger: &dyn Ledger, address: &HostAddress) -> bool {
    if ledger::read(ledger, |state| state.hosts.values().any(|host| host.address == *address)) {
        return true;
    }
    let Some(name) = name_of(address) else {
        tracing::error!(%address, "VPS_HOST: no host name can be made of this address; add it with `plimsoll host add NAME`");
        return true;
    };
    let mut host = NewHost {
        name,
        address: address.clone(),
        identity: Identity::NodeDefault,
        fingerprint: None,
        labels: Labels::new(),
        price_milli_per_hour: 0,
        publish: PublishAddress::default(),
        advertise: None,
    };
    let added = async {
        // The variables have no place for a fingerprint: the first key seen is pinned, and said loudly.
        host.fingerprint = provider.check_host(&host).await?.host_key.map(|(_, fingerprint)| fingerprint);
        provider.add_host(host.clone()).await
    };
    match added.await {
        Ok(_) => {
            let fingerprint = host.fingerprint.as_deref().unwrap_or("none");
            tracing::warn!(host = %host.name, fingerprint, "VPS_HOST: the host was added and the key it showed was pinned; compare it");
            true
        }
        Err(error) if matches!(error.code, Code::HostExists | Code::SameMachine) => {
            tracing::warn!(host = %host.name, code = %error.code, "VPS_HOST: the host was not added: {error}");
            true
        }
        Err(error) => {
            tracing::error!(host = %host.name, code = %error.code, "VPS_HOST: the host could not be added and is tried again: {error}");
            false
        }
    }
}

/// A name for a host that has none: its address, or `local`.
fn name_of(address: &HostAddress) -> Option<HostName> {
    let text = match address {
        HostAddress::Ssh { addr, port: 22, .. } => addr.replace(':', "-"),
        HostAddress::Ssh { addr, port, .. } => format!("{}-{port}", addr.replace(':', "-")),
        HostAddress::Unix { .. } => "local".to_owned(),
    };
    HostName::new(text.trim_matches(['-', '.'])).ok()
}
