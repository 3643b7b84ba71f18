//! Why a host cannot take a sandbox, as a type, and how it is said for one host and for many.

use plimsoll_types::{Constraint, Runtime};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first reason, in the filters' order, for which a host was passed over. The order of the variants is that order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// It has not answered for long; its sandboxes' recovery policies act.
    Lost,
    /// It does not answer at present.
    Unreachable,
    /// An operator wants nothing new there.
    Cordoned,
    /// Its own creates keep failing.
    Quarantined,
    /// Its labels break this condition.
    Constraint(Constraint),
    /// It does not offer this runtime.
    Runtime(Runtime),
    /// It holds a sandbox of the same tenant and this anti-affinity group.
    AntiAffinity(Box<str>),
    /// Not enough CPU is left under the load line.
    Cpu,
    /// Not enough memory is left under the load line.
    Memory,
    /// Not enough disk is left under the load line.
    Disk,
    /// More memory is in use than is reserved, and what is left is not enough.
    MeasuredMemory,
    /// Its tasks wait for CPU.
    CpuPressure,
    /// Its tasks wait for memory.
    MemoryPressure,
    /// Its tasks wait for disk.
    IoPressure,
    /// Its disk is nearly full.
    DiskFull,
    /// Its disk has nearly no inodes left.
    Inodes,
}

impl Rejection {
    /// The reason as part of a sentence about so many hosts: `1 lacks memory`, `7 lack memory`, `3 cordoned`.
    pub fn tell(&self, f: &mut fmt::Formatter<'_>, hosts: u32) -> fmt::Result {
        write!(f, "{hosts} ")?;
        self.predicate(f, hosts == 1)
    }

    fn predicate(&self, f: &mut fmt::Formatter<'_>, one: bool) -> fmt::Result {
        let verb = |one_host, many| if one { one_host } else { many };
        let (lack, do_not, have, hold) =
            (verb("lacks", "lack"), verb("does not", "do not"), verb("has", "have"), verb("holds", "hold"));
        match self {
            Self::Lost => f.write_str("lost"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Quarantined => f.write_str("quarantined"),
            Self::Constraint(constraint) => write!(f, "{do_not} match {constraint}"),
            Self::Runtime(runtime) => write!(f, "{do_not} offer {runtime}"),
            Self::AntiAffinity(group) => write!(f, "already {hold} one of anti-affinity group {group}"),
            Self::Cpu => write!(f, "{lack} CPU"),
            Self::Memory => write!(f, "{lack} memory"),
            Self::Disk => write!(f, "{lack} disk"),
            Self::MeasuredMemory => write!(f, "{have} too little unused memory"),
            Self::CpuPressure => f.write_str("under CPU pressure"),
            Self::MemoryPressure => f.write_str("under memory pressure"),
            Self::IoPressure => f.write_str("under I/O pressure"),
            Self::DiskFull => write!(f, "{have} a nearly full disk"),
            Self::Inodes => f.write_str("nearly out of inodes"),
        }
    }
}

/// Said of one host: `lacks memory`, `cordoned`.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.predicate(f, true)
    }
}
