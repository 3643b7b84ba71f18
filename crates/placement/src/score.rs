//! The score: how loaded a host would be with the sandbox on it, and what breaks ties. Integers only.

use crate::candidate::Candidate;
use plimsoll_types::HostId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One million: shares are in parts of it.
const PPM: u64 = 1_000_000;

/// How good a host is for a request: the smallest is the best. The order of the fields is the order of judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// The dominant share after placing, in millionths of the host's totals: see [`dominant_share_ppm`].
    pub load_ppm: u64,
    /// Whether the image is yet to be pulled.
    pub image_missing: bool,
    /// Sandboxes of the same tenant already there, in-flight ones included.
    pub same_tenant: u32,
    /// The host's price in thousandths of a currency unit per hour.
    pub price_milli_per_hour: u64,
    /// The host itself, so that no two scores are equal.
    pub host: HostId,
}

impl Score {
    /// The score of a candidate that no filter rejects.
    #[must_use]
    pub fn of(candidate: &Candidate<'_>) -> Self {
        Self {
            load_ppm: dominant_share_ppm(candidate),
            image_missing: !candidate.host.images.contains(&candidate.request.image),
            same_tenant: candidate.same_tenant,
            price_milli_per_hour: candidate.host.price_milli_per_hour,
            host: candidate.host.id,
        }
    }
}

/// `51.2 % full`: one decimal, rounded down.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = self.load_ppm / 1000;
        write!(f, "{}.{} % full", permille / 10, permille % 10)
    }
}

/// The largest of the shares of CPU, memory and disk after placing. Each share is `share_ppm(used) + share_ppm(asked)`,
/// where used is the larger of reserved and measured: **both parts are rounded down by themselves**, so that shares add
/// up exactly and the index may keep the first part. What is lost is less than two millionths. Past `u32::MAX` (4,294 times
/// the totals, which no load line allows) all are alike.
#[must_use]
pub fn dominant_share_ppm(candidate: &Candidate<'_>) -> u64 {
    let (totals, reserved, asked) = (candidate.host.totals, candidate.reserved, candidate.request.resources);
    let measured = candidate.host.measured.unwrap_or_default();
    let after = |used: u64, measured: u64, asked: u64, total: u64| {
        share_ppm(used.max(measured), total).saturating_add(share_ppm(asked, total))
    };
    let cpu = after(reserved.cpu.0, measured.cpu.0, asked.cpu.0, totals.cpu.0);
    let memory = after(reserved.memory.0, measured.memory.0, asked.memory.0, totals.memory.0);
    let disk = after(reserved.disk.0, measured.disk.0, asked.disk.0, totals.disk.0);
    u64::from(cpu.max(memory).max(disk))
}

/// `amount / total` in millionths, rounded down, at most `u32::MAX` (4,294 times the total). Of nothing, nothing is a
/// share of zero and anything else the largest.
#[must_use]
#[inline]
pub fn share_ppm(amount: u64, total: u64) -> u32 {
    if total == 0 {
        return if amount == 0 { 0 } else { u32::MAX };
    }
    // Up to 16 TiB the product fits 64 bits, whose division is several times faster than that of 128.
    let share = match amount.checked_mul(PPM) {
        Some(product) => product / total,
        None => u64::try_from(u128::from(amount) * u128::from(PPM) / u128::from(total)).unwrap_or(u64::MAX),
    };
    u32::try_from(share).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::share_ppm;

    #[test]
    fn shares_round_down_and_never_overflow() {
        assert_eq!(share_ppm(2000, 4000), 500_000);
        assert_eq!(share_ppm(1, 3), 333_333);
        assert_eq!((share_ppm(0, 0), share_ppm(1, 0)), (0, u32::MAX));
        assert_eq!(share_ppm(u64::MAX, u64::MAX), 1_000_000, "past 64 bits of product");
        assert_eq!(share_ppm(u64::MAX, 1), u32::MAX);
    }
}
