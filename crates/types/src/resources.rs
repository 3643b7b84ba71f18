//! The three things a sandbox needs from a host, together.

use crate::units::{Bytes, MilliCpu};
use serde::{Deserialize, Serialize};
use std::fmt;

/// CPU, memory and disk: what a sandbox asks for, what a host has, what is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu: MilliCpu,
    /// Memory in bytes.
    pub memory: Bytes,
    /// Disk in bytes.
    pub disk: Bytes,
}

impl Resources {
    /// Nothing at all.
    pub const ZERO: Self = Self { cpu: MilliCpu::ZERO, memory: Bytes::ZERO, disk: Bytes::ZERO };

    /// What a sandbox gets unless it asks otherwise: 2 vCPU, 3 GiB. With the default load line this gives the counts the
    /// first provider's users know: two on a CPX31, four on a CPX41, eight on a CPX51.
    pub const DEFAULT_SANDBOX: Self = Self { cpu: MilliCpu(2000), memory: Bytes::gib(3), disk: Bytes::gib(5) };

    /// The sum, or `None` if any part overflows.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            cpu: self.cpu.checked_add(other.cpu)?,
            memory: self.memory.checked_add(other.memory)?,
            disk: self.disk.checked_add(other.disk)?,
        })
    }

    /// The sum, each part at most its largest value.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
        }
    }

    /// The difference, each part at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
        }
    }

    /// Whether each part is at most its counterpart.
    #[must_use]
    pub const fn fits_in(self, room: Self) -> bool {
        self.cpu.0 <= room.cpu.0 && self.memory.0 <= room.memory.0 && self.disk.0 <= room.disk.0
    }
}

/// `2 vCPU, 3 GiB`: disk is left out, as people name sandboxes by the other two.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.cpu, self.memory)
    }
}
