//! Resources: reservations and request stay under the load line, measured memory and request under the usable memory.

use crate::{candidate::Candidate, rejection::Rejection};

pub(super) fn check(candidate: &Candidate<'_>) -> Option<Rejection> {
    let (host, reserved, asked) = (candidate.host, candidate.reserved, candidate.request.resources);
    if !fits(reserved.cpu.0, asked.cpu.0, host.line.cpu.0) {
        Some(Rejection::Cpu)
    } else if !fits(reserved.memory.0, asked.memory.0, host.line.memory.0) {
        Some(Rejection::Memory)
    } else if !fits(reserved.disk.0, asked.disk.0, host.line.disk.0) {
        Some(Rejection::Disk)
    } else if !fits(candidate.memory_in_use().0, asked.memory.0, host.usable_memory.0) {
        Some(Rejection::MeasuredMemory)
    } else {
        None
    }
}

/// A sum past `u64::MAX` fits nowhere.
fn fits(held: u64, asked: u64, limit: u64) -> bool {
    held.checked_add(asked).is_some_and(|sum| sum <= limit)
}
