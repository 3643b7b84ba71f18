//! What a host's last poll measured, in integers so that placement stays exact.

use crate::units::{Bytes, MilliCpu, Timestamp};
use serde::{Deserialize, Serialize};

/// One host's load. The leader keeps it in memory only: a new leader measures again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredLoad {
    /// When it was read.
    pub at: Timestamp,
    /// CPU in use on the whole machine.
    pub cpu: MilliCpu,
    /// Memory in use on the whole machine: total − available.
    pub memory: Bytes,
    /// Bytes used on the filesystem that holds Docker's data.
    pub disk: Bytes,
    /// Inodes used there, in thousandths of all.
    pub inodes_permille: u16,
    /// Pressure-stall "some" averages over 10 s, in hundredths of a percent; zero where the kernel has no PSI.
    pub pressure: Pressure,
    /// Running containers of ours that were seen.
    pub sandboxes: u32,
}

/// Pressure-stall information: the share of time in which some task waited for the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pressure {
    /// For CPU, in hundredths of a percent.
    pub cpu_centipercent: u16,
    /// For memory, in hundredths of a percent.
    pub memory_centipercent: u16,
    /// For disk, in hundredths of a percent.
    pub io_centipercent: u16,
}
