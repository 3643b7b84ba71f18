//! Why a request was refused, in one sentence, and what a dry run would have done with every host.

use crate::{candidate::Candidate, filters, rejection::Rejection, request::Request, score::Score};
use plimsoll_types::{HostId, HostName, Resources};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, fmt};

/// No host fits. `Display` is the sentence that the API, the CLI and the log show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// What was asked for.
    pub resources: Resources,
    /// How many hosts were passed over for which reason: most frequent first, ties in the filters' order.
    pub tally: Vec<(Rejection, u32)>,
}

impl Refusal {
    /// Counts reasons, one per host.
    pub(crate) fn count(resources: Resources, reasons: impl IntoIterator<Item = Rejection>) -> Self {
        let mut tally: Vec<(Rejection, u32)> = Vec::new();
        for reason in reasons {
            // Reasons are few (a request has a handful of constraints), so a scan beats a map.
            match tally.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => tally.push((reason, 1)),
            }
        }
        tally.sort_by(|(left, many), (right, more)| (Reverse(many), left).cmp(&(Reverse(more), right)));
        Self { resources, tally }
    }
}

/// `no host fits 2 vCPU, 3 GiB: 7 lack memory, 3 cordoned, 1 unreachable`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no host fits {}: ", self.resources)?;
        if self.tally.is_empty() {
            return f.write_str("the cluster has no hosts; add one with `plimsoll host add`");
        }
        for (position, (reason, hosts)) in self.tally.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            reason.tell(f, *hosts)?;
        }
        Ok(())
    }
}

/// What a dry run says of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which host.
    pub host: HostId,
    /// What the operator calls it.
    pub name: HostName,
    /// How good it would be, or why it is passed over.
    pub result: Result<Score, Rejection>,
}

/// A dry run: every host's verdict. `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked for.
    pub request: Request,
    /// The hosts that fit, best first, then those passed over, by id.
    pub verdicts: Vec<Verdict>,
}

impl Explanation {
    /// Judges every candidate; all must be for this request.
    pub(crate) fn judge<'a>(request: &Request, candidates: impl IntoIterator<Item = Candidate<'a>>) -> Self {
        let judged = candidates.into_iter().map(|candidate| {
            let result = match filters::reject(&candidate) {
                None => Ok(Score::of(&candidate)),
                Some(reason) => Err(reason),
            };
            Verdict { host: candidate.host.id, name: candidate.host.name.clone(), result }
        });
        let mut verdicts: Vec<Verdict> = judged.collect();
        verdicts.sort_by_key(|verdict| (verdict.result.is_err(), verdict.result.as_ref().ok().copied(), verdict.host));
        Self { request: request.clone(), verdicts }
    }

    /// The hosts that fit, with their scores, best first: the first is where it would go, the others are runners-up.
    pub fn fitting(&self) -> impl Iterator<Item = (&Verdict, Score)> {
        self.verdicts.iter().filter_map(|verdict| verdict.result.as_ref().ok().map(|score| (verdict, *score)))
    }

    /// Where it would go, and how good that is.
    #[must_use]
    pub fn chosen(&self) -> Option<(&Verdict, Score)> {
        self.fitting().next()
    }

    /// The refusal, if no host fits.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        if self.chosen().is_some() {
            return None;
        }
        let reasons = self.verdicts.iter().filter_map(|verdict| verdict.result.as_ref().err().cloned());
        Some(Refusal::count(self.request.resources, reasons))
    }
}

/// The refusal's sentence, or `2 vCPU, 3 GiB fits 3 of 7 hosts: best is a, 51.2 % full with it`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((best, score)) = self.chosen() else {
            return self.refusal().map_or(Ok(()), |refusal| refusal.fmt(f));
        };
        let (fitting, all) = (self.fitting().count(), self.verdicts.len());
        let hosts = if all == 1 { "host" } else { "hosts" };
        write!(f, "{} fits {fitting} of {all} {hosts}: best is {}, {score} with it", self.request.resources, best.name)
    }
}
