//! The filters, in order. Each is a pure function that checks one thing and says why not; none looks past its candidate.

mod anti_affinity;
mod constraints;
mod pressure;
mod quarantine;
mod readiness;
mod resources;
mod runtime;

use crate::{candidate::Candidate, rejection::Rejection};
pub use pressure::{DISK_USED_MAX_PERMILLE, INODES_USED_MAX_PERMILLE};

/// A filter: `None` lets the candidate through.
pub type Filter = fn(&Candidate<'_>) -> Option<Rejection>;

/// Every filter, in the order in which they are asked.
pub const ALL: [Filter; 7] = [
    readiness::check,
    quarantine::check,
    constraints::check,
    runtime::check,
    anti_affinity::check,
    resources::check,
    pressure::check,
];

/// The first filter's reason, or `None` if the host can take the sandbox.
#[must_use]
pub fn reject(candidate: &Candidate<'_>) -> Option<Rejection> {
    ALL.iter().find_map(|filter| filter(candidate))
}

/// What of a host no request can change: the index leaves such hosts out altogether. Must agree with the filters above.
pub(crate) fn open_to_any(host: &crate::host::HostView) -> bool {
    readiness::of(host).is_none() && quarantine::of(host).is_none() && pressure::of(host).is_none()
}
