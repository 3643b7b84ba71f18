//! Readiness: the host answers, and no operator has cordoned it.

use crate::{candidate::Candidate, host::HostView, rejection::Rejection};
use plimsoll_types::Health;

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    of(candidate.host)
}

pub(super) fn of(host: &HostView) -> Option<Rejection> {
    match host.health {
        Health::Lost => Some(Rejection::Lost),
        Health::Unreachable => Some(Rejection::Unreachable),
        Health::Ready if host.cordoned => Some(Rejection::Cordoned),
        Health::Ready => None,
    }
}
