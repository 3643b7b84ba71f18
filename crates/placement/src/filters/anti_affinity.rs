//! Anti-affinity: no sandbox of the same tenant and group is on the host or on its way there.

use crate::{candidate::Candidate, rejection::Rejection};

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    let group = candidate.request.anti_affinity.as_ref()?;
    candidate.group_present.then(|| Rejection::AntiAffinity(group.clone()))
}
