//! What a process uses, as the kernel counts it.

use anyhow::{Context as _, Result};

/// The kernel's ticks in a second, as user space sees them on every architecture of Linux.
const TICKS: f64 = 100.0;

/// CPU time that a process has used since it started, in seconds.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name is in parentheses and may hold anything; what follows are numbers.
    let (_, rest) = text.rsplit_once(')').context("a process's name")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || anyhow::Ok(fields.next().context("a process's times")?.parse::<f64>()?);
    Ok((ticks()? + ticks()?) / TICKS)
}

/// Memory of a process that is resident now, in bytes.
pub fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its resident memory")?;
    Ok(line.split_whitespace().next().context("a number")?.parse::<f64>()? * 1024.0)
}
