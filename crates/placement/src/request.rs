//! What is asked of placement: the parts of a sandbox's specification that decide where it may go.

use plimsoll_types::{Constraint, ImageRef, Resources, Runtime, SandboxSpec, TenantId};
use serde::{Deserialize, Serialize};

/// A sandbox that needs a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it starts from; hosts that have it win ties.
    pub image: ImageRef,
    /// What is reserved for it.
    pub resources: Resources,
    /// Which OCI runtime isolates it.
    pub runtime: Runtime,
    /// What its host's labels must satisfy.
    pub constraints: Vec<Constraint>,
    /// No two sandboxes of the tenant with the same group share a host.
    pub anti_affinity: Option<Box<str>>,
}

impl Request {
    /// What this specification asks for, on behalf of this tenant.
    #[must_use]
    pub fn of(spec: &SandboxSpec, tenant: TenantId) -> Self {
        Self {
            tenant,
            image: spec.image.clone(),
            resources: spec.resources,
            runtime: spec.runtime,
            constraints: spec.constraints.clone(),
            anti_affinity: spec.anti_affinity.clone(),
        }
    }
}
