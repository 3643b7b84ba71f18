//! Runtime: the host offers the OCI runtime that is to isolate the sandbox.

use crate::{candidate::Candidate, rejection::Rejection};

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    let runtime = candidate.request.runtime;
    (!candidate.host.runtimes.contains(&runtime)).then_some(Rejection::Runtime(runtime))
}
