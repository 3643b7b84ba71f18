//! The oracle: every host asked in turn. Slow and obviously right; tests and benches measure the index against it.

use crate::{candidate::Candidate, filters, host::HostView, request::Request, score::Score};

/// The best score among these hosts, or `None` if none fits.
pub fn place<'a>(hosts: impl IntoIterator<Item = &'a HostView>, request: &Request) -> Option<Score> {
    hosts
        .into_iter()
        .map(|host| Candidate::of(host, request))
        .filter(|candidate| filters::reject(candidate).is_none())
        .map(|candidate| Score::of(&candidate))
        .min()
}
