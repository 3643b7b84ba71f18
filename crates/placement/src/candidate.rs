//! A host as one request sees it: the host's view with what is in flight added. Filters and score read only this.

use crate::{host::HostView, request::Request};
use plimsoll_types::{Bytes, Resources};

/// One host and one request, with everything that depends on both.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The host.
    pub host: &'a HostView,
    /// The request.
    pub request: &'a Request,
    /// Reservations on the host, in-flight ones included.
    pub reserved: Resources,
    /// Sandboxes of the request's tenant on the host, in-flight ones included.
    pub same_tenant: u32,
    /// Whether the host holds one of the request's anti-affinity group, in-flight ones included.
    pub group_present: bool,
}

impl<'a> Candidate<'a> {
    /// The pair with nothing in flight.
    #[must_use]
    pub fn of(host: &'a HostView, request: &'a Request) -> Self {
        let holds =
            |group: &str| host.groups.iter().any(|(tenant, name)| *tenant == request.tenant && **name == *group);
        Self {
            host,
            request,
            reserved: host.reserved,
            same_tenant: host.tenants.get(&request.tenant).copied().unwrap_or(0),
            group_present: request.anti_affinity.as_deref().is_some_and(holds),
        }
    }

    /// Adds a sandbox that is in flight to this host.
    pub(crate) fn add_in_flight(&mut self, resources: Resources, same_tenant: bool, same_group: bool) {
        self.reserved = self.reserved.saturating_add(resources);
        self.same_tenant = self.same_tenant.saturating_add(u32::from(same_tenant));
        self.group_present |= same_tenant && same_group;
    }

    /// Memory in use as measured, or as reserved until it was measured.
    #[must_use]
    pub fn memory_in_use(&self) -> Bytes {
        self.host.measured.map_or(self.reserved.memory, |load| load.memory)
    }
}
