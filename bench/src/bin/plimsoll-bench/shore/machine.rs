//! What the measuring scripts print on a simulated machine: a CPX41 that is busy a quarter of its time.

use super::Host;
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a dozen short programs take on a small machine.
const TAKES: Duration = Duration::from_millis(6);
/// Lines of /proc/meminfo, most of which nobody reads, as on a real machine.
const MEMINFO: &[&str] = &[
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Unevictable",
    "Mlocked",
    "SwapTotal",
    "SwapFree",
    "Zswap",
    "Zswapped",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "NFS_Unstable",
    "Bounce",
    "WritebackTmp",
    "CommitLimit",
    "Committed_AS",
    "VmallocTotal",
    "VmallocUsed",
    "VmallocChunk",
    "Percpu",
    "HardwareCorrupted",
    "AnonHugePages",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "FileHugePages",
    "FilePmdMapped",
    "CmaTotal",
    "CmaFree",
    "HugePages_Total",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "Hugepagesize",
    "Hugetlb",
    "DirectMap4k",
    "DirectMap2M",
    "DirectMap1G",
];

/// Runs one of the driver's scripts.
pub async fn run(host: &Host, script: &[u8]) -> String {
    let measures = script.windows(b"/proc/stat".len()).any(|part| part == b"/proc/stat");
    if !measures {
        return "maxsessions 10\nmaxstartups 10:30:100\n".to_owned();
    }
    host.polled();
    tokio::time::sleep(TAKES).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ticks = now.as_millis() / 10 * 8;
    let (busy, idle) = (ticks / 4, ticks - ticks / 4);
    let mut text = format!(
        "@time\n{}\n@stat\ncpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n@meminfo\nMemTotal:       16000000 kB\nMemAvailable:   9000000 kB\n",
        now.as_nanos()
    );
    for line in MEMINFO {
        let _ = writeln!(text, "{:<16}{:>8} kB", format!("{line}:"), 123_456);
    }
    for kind in ["cpu", "memory", "io"] {
        let _ = write!(
            text,
            "@psi_{kind}\nsome avg10=0.00 avg60=0.00 avg300=0.00 total=1234567\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1234567\n"
        );
    }
    let _ = write!(text, "@machine_id\n{:032x}\n@hostname\n{}\n", host.index + 1, super::name(host.index));
    text.push_str("@kernel\n6.1.0-28-amd64\n");
    text.push_str("@df\nFilesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/sda1        251658240 62914560 188743680      25% /\n");
    text.push_str("@dfi\nFilesystem       Inodes  IUsed    IFree IUse% Mounted on\n/dev/sda1      15728640 524288 15204352    4% /\n@end\n");
    text
}
