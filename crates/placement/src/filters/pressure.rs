//! Pressure: the host's tasks do not already wait for CPU, memory or disk, and its disk is not about to fill up. A host
//! that was not measured yet, or whose kernel has no PSI, is not under pressure.

use crate::{candidate::Candidate, host::HostView, rejection::Rejection};
use plimsoll_types::MeasuredLoad;

/// The last tenth of a disk goes fast (one image, one build), and a full disk still answers `docker info`.
pub const DISK_USED_MAX_PERMILLE: u16 = 900;
/// `node_modules` uses inodes by the hundred thousand; past this mark a few sandboxes use up the rest.
pub const INODES_USED_MAX_PERMILLE: u16 = 950;

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    of(candidate.host)
}

pub(super) fn of(host: &HostView) -> Option<Rejection> {
    let load = host.measured.as_ref()?;
    let (now, most) = (load.pressure, host.pressure_max);
    if now.cpu_centipercent > most.cpu_centipercent {
        Some(Rejection::CpuPressure)
    } else if now.memory_centipercent > most.memory_centipercent {
        Some(Rejection::MemoryPressure)
    } else if now.io_centipercent > most.io_centipercent {
        Some(Rejection::IoPressure)
    } else if disk_nearly_full(host, load) {
        Some(Rejection::DiskFull)
    } else if load.inodes_permille >= INODES_USED_MAX_PERMILLE {
        Some(Rejection::Inodes)
    } else {
        None
    }
}

/// A host whose disk's size is not known (zero) is not judged by it.
fn disk_nearly_full(host: &HostView, load: &MeasuredLoad) -> bool {
    let total = u128::from(host.totals.disk.0);
    total > 0 && u128::from(load.disk.0) * 1000 >= total * u128::from(DISK_USED_MAX_PERMILLE)
}
