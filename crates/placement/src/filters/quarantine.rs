//! Quarantine: the host's own creates do not keep failing.

use crate::{candidate::Candidate, host::HostView, rejection::Rejection};

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    of(candidate.host)
}

pub(super) fn of(host: &HostView) -> Option<Rejection> {
    host.quarantined.then_some(Rejection::Quarantined)
}
