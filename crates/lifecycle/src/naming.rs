//! The deterministic names of what stands on hosts for a sandbox. Names are the compare-and-swap: of many creators one wins.
//!
//! Nothing here looks anything up; the same sandbox has the same names in every incarnation and on every host.

use crate::ports::{Mount, NetworkPlan};
use plimsoll_state::Policy;
use plimsoll_types::{ClusterId, Generation, SandboxId, SessionId, SnapshotId, TenantId};

/// Where the workspace appears inside a sandbox.
pub const WORKSPACE: &str = "/workspace";

/// The memory-only folder inside a sandbox that secrets are written to; no image or commit ever contains it.
pub const SECRETS_DIR: &str = "/run/plimsoll";

/// The file with the secret environment: one `NAME=value` a line, `\` and line breaks in values written as `\\`, `\n`, `\r`.
pub const SECRETS_FILE: &str = "/run/plimsoll/env";

/// Where the platform expects the environment it writes, as JSON.
pub const PLATFORM_ENV_FILE: &str = "/tmp/.proliferate_env.json";

/// Labels of every container, volume and network of ours.
pub mod label {
    /// The cluster that owns it.
    pub const CLUSTER: &str = "plimsoll.cluster";
    /// The sandbox it is for.
    pub const SANDBOX: &str = "plimsoll.sandbox";
    /// The incarnation it was made for.
    pub const GENERATION: &str = "plimsoll.generation";
    /// The operation that made it.
    pub const OPERATION: &str = "plimsoll.operation";
    /// The platform's key of the sandbox, for operators to filter by.
    pub const SESSION: &str = "plimsoll.session";
    /// Whose it is, for operators to filter by.
    pub const TENANT: &str = "plimsoll.tenant";
}

/// `<prefix>-session-<session>`, followed by `..<tenant>` for tenants other than the default.
#[must_use]
pub fn container(policy: &Policy, tenant: &TenantId, session: &SessionId) -> String {
    format!("{}-session-{}", policy.name_prefix, key(tenant, session))
}

/// The workspace: `<data dir>/<session>[..<tenant>]`, and the volume that stands for it. Later incarnations have one of their own,
/// `<session>..<tenant>..g<generation>`: Docker fills only an empty one from the snapshot, and what an earlier incarnation left on a
/// host that was lost must neither be mixed in nor be overwritten.
#[must_use]
pub fn workspace(policy: &Policy, tenant: &TenantId, session: &SessionId, generation: Generation) -> Mount {
    let key = if generation <= Generation::FIRST {
        key(tenant, session)
    } else {
        format!("{session}..{tenant}..g{generation}")
    };
    Mount {
        source: format!("{}/{key}", policy.data_dir.trim_end_matches('/')),
        target: WORKSPACE.to_owned(),
        volume: format!("{}-session-{key}-workspace", policy.name_prefix),
    }
}

/// The name that a container gets when its incarnation was replaced: it is stopped, kept for a while and found by its labels.
#[must_use]
pub fn fenced(name: &str, generation: Generation) -> String {
    format!("{name}.fenced-g{generation}")
}

/// Whether a container was put aside for a later incarnation.
#[must_use]
pub fn is_fenced(name: &str) -> bool {
    name.rsplit_once(".fenced-g")
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Where a sandbox's snapshots are in the registry: a repository of its own, below its tenant's, below the cluster's. Repository
/// names are lower case, so other tenants' names are written in hexadecimal.
#[must_use]
pub fn repository(cluster: ClusterId, tenant: &TenantId, sandbox: SandboxId) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let tenant = tenant.as_str();
    let folder = if tenant.bytes().all(plain) {
        format!("t-{tenant}")
    } else {
        tenant.bytes().fold("x-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    };
    format!("plimsoll/{cluster}/{folder}/{sandbox}")
}

/// First part of the names that hosts know the cluster's snapshots by.
#[must_use]
pub fn snapshot_images(cluster: ClusterId) -> String {
    format!("plimsoll-snapshot/{cluster}")
}

/// The name that a host knows a snapshot by, wherever it came from.
#[must_use]
pub fn snapshot_image(cluster: ClusterId, snapshot: SnapshotId) -> String {
    format!("{}:{snapshot}", snapshot_images(cluster))
}

/// Starts the name of every container that copies a workspace for a snapshot.
const CARRIER: &str = "plimsoll-carrier-";

/// The container that copies a sandbox's workspace for this snapshot, on the sandbox's own host, while the snapshot is made.
#[must_use]
pub fn carrier(snapshot: SnapshotId) -> String {
    format!("{CARRIER}{snapshot}")
}

/// Whether a container's name is that of some snapshot's carrier.
#[must_use]
pub fn is_carrier(name: &str) -> bool {
    name.starts_with(CARRIER)
}

/// The tenant's network.
#[must_use]
pub fn network(policy: &Policy, tenant: &TenantId) -> NetworkPlan {
    NetworkPlan { name: format!("{}-net-{tenant}", policy.name_prefix) }
}

/// The sandbox's hostname: its session, as far as a hostname may look like it.
#[must_use]
pub fn hostname(session: &SessionId) -> String {
    /// Linux's HOST_NAME_MAX is 64, a DNS label ends at 63.
    const MAX: usize = 63;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = session.as_str().chars().take(MAX).map(plain).collect();
    text.trim_end_matches('-').to_owned()
}

/// A session cannot contain `..` and a tenant no dot at all, so the two parts never run into each other.
fn key(tenant: &TenantId, session: &SessionId) -> String {
    if *tenant == TenantId::default_tenant() { session.to_string() } else { format!("{session}..{tenant}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(text: &str) -> SessionId {
        SessionId::new(text).expect("a session")
    }

    #[test]
    fn operators_find_the_names_they_know() {
        let (policy, tenant) = (Policy::default(), TenantId::default_tenant());
        let id = session("abc123");
        assert_eq!(container(&policy, &tenant, &id), "shadow-session-abc123");
        let mount = workspace(&policy, &tenant, &id, Generation::FIRST);
        assert_eq!((mount.source.as_str(), mount.target.as_str()), ("/var/shadow/sandboxes/abc123", "/workspace"));
        assert_eq!(mount.volume, "shadow-session-abc123-workspace");
        assert_eq!(network(&policy, &tenant).name, "shadow-net-default");
    }

    #[test]
    fn tenants_never_share_a_name() {
        let policy = Policy::default();
        let acme = TenantId::new("acme").expect("a tenant");
        assert_eq!(container(&policy, &acme, &session("a")), "shadow-session-a..acme");
        let names =
            [("a", "acme"), ("a.", "acme"), ("a.acme", "default"), ("a", "default"), ("a", "g2"), ("a.g2", "default")];
        let of = |id, tenant, generation| {
            workspace(&policy, &TenantId::new(tenant).expect("a tenant"), &session(id), Generation(generation)).source
        };
        let mut all: Vec<_> = names.iter().flat_map(|(id, tenant)| [1, 2].map(|g| of(id, tenant, g))).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2 * names.len());
    }

    #[test]
    fn repositories_are_lower_case_and_one_tenants() {
        let of = |tenant| {
            repository(
                ClusterId::from_parts(1, 1),
                &TenantId::new(tenant).expect("a tenant"),
                SandboxId::from_parts(1, 1),
            )
        };
        assert_eq!(of("acme"), "plimsoll/cl-00000000010000000000000001/t-acme/sb-00000000010000000000000001");
        assert!(of("Acme").contains("/x-41636d65/") && of("a-").contains("/x-612d/"));
    }

    #[test]
    fn a_hostname_is_always_a_dns_label() {
        assert_eq!(hostname(&session("User_7.x-")), "user-7-x");
        assert!(hostname(&session(&"x".repeat(64))).len() <= 63);
    }
}
