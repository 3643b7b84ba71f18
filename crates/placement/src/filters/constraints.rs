//! Constraints: the host's labels satisfy each condition. The first one broken, in the request's order, is named.

use crate::{candidate::Candidate, rejection::Rejection};

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    let broken = candidate.request.constraints.iter().find(|constraint| !constraint.matches(&candidate.host.labels));
    broken.cloned().map(Rejection::Constraint)
}
