//! Reads what the measuring scripts print: tolerant of missing files and of busybox.
//!
//! No I/O here.

use std::collections::HashMap;

/// What the script found; a part that could not be read is `None` or zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) time_ms: Option<u64>,
    pub(crate) ticks: Option<Ticks>,
    pub(crate) memory_total: Option<u64>,
    pub(crate) memory_available: Option<u64>,
    /// Hundredths of a percent.
    pub(crate) psi_cpu: u16,
    pub(crate) psi_memory: u16,
    pub(crate) psi_io: u16,
    pub(crate) machine_id: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) disk: Option<Space>,
    pub(crate) inodes: Option<Space>,
    /// Whether the script ran to its end.
    pub(crate) complete: bool,
}

/// The kernel's count of CPU time, all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    all: u64,
    idle: u64,
}

/// Bytes or inodes of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

impl Space {
    pub(crate) fn used_permille(self) -> u16 {
        let used = u128::from(self.total.saturating_sub(self.free)) * 1000;
        used.checked_div(u128::from(self.total)).and_then(|permille| u16::try_from(permille).ok()).unwrap_or(0)
    }
}

impl Ticks {
    /// The busy share since an earlier reading; `None` if they are too close or the machine was restarted in between.
    pub(crate) fn busy_permille_since(self, earlier: Self) -> Option<u64> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        // The kernel's idle count may step back by a tick.
        let idle = self.idle.saturating_sub(earlier.idle).min(all);
        Some((all - idle) * 1000 / all)
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user already.
        let all = fields.iter().take(8).fold(0u64, |sum, field| sum.saturating_add(*field));
        let idle = fields.get(3)?.saturating_add(fields.get(4).copied().unwrap_or(0));
        Some(Self { all, idle })
    }
}

impl Reading {
    pub(crate) fn parse(text: &str) -> Self {
        let mut sections: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut name = "";
        for line in text.lines() {
            match line.strip_prefix('@') {
                Some(next) => {
                    name = next;
                    sections.entry(name).or_default();
                }
                None => sections.entry(name).or_default().push(line),
            }
        }
        let lines = |name: &str| sections.get(name).map(Vec::as_slice).unwrap_or_default();
        let word = |name: &str| lines(name).first().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
        let kib = |key: &str| {
            let line = lines("meminfo").iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Self {
            time_ms: word("time").and_then(|text| time_ms(&text)),
            ticks: lines("stat").first().and_then(|line| Ticks::parse(line)),
            memory_total: kib("MemTotal"),
            memory_available: kib("MemAvailable"),
            psi_cpu: pressure(lines("psi_cpu")),
            psi_memory: pressure(lines("psi_memory")),
            psi_io: pressure(lines("psi_io")),
            machine_id: word("machine_id"),
            hostname: word("hostname"),
            kernel: word("kernel"),
            disk: space(lines("df"), 1024),
            inodes: space(lines("dfi"), 1),
            complete: sections.contains_key("end"),
        }
    }
}

/// Nanoseconds, or only seconds where `date` knows no `%N`.
fn time_ms(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    match digits.len() {
        17.. => digits.parse::<u64>().ok().map(|ns| ns / 1_000_000),
        _ => digits.parse::<u64>().ok()?.checked_mul(1000),
    }
}

/// `some avg10=1.23 …` in hundredths.
fn pressure(lines: &[&str]) -> u16 {
    let value = lines.iter().find_map(|line| {
        let average = line.strip_prefix("some ")?.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
        let (whole, part) = average.split_once('.').unwrap_or((average, "0"));
        let part: u16 = format!("{part:0<2}").get(..2)?.parse().ok()?;
        whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part)
    });
    value.unwrap_or(0)
}

/// The last line of `df -P`: name, total, used, available, capacity, mount point. The name may have blanks, so the numbers are found
/// from the capacity (`12%` or `-`) backwards.
fn space(lines: &[&str], unit: u64) -> Option<Space> {
    let fields: Vec<&str> = lines.last()?.split_whitespace().collect();
    let is_capacity =
        |field: &str| field.strip_suffix('%').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) || field == "-";
    let capacity = fields.iter().enumerate().skip(4).find(|(_, field)| is_capacity(field)).map(|(index, _)| index)?;
    let number = |back: usize| fields.get(capacity - back)?.parse::<u64>().ok()?.checked_mul(unit);
    let (total, free) = (number(3)?, number(1)?);
    // Filesystems without a fixed number of inodes (btrfs) say zero of zero.
    (total > 0).then_some(Space { total, free })
}

/// The value of an option in `sshd -T` or in its configuration files; sshd uses the first of several.
pub(crate) fn sshd_option(text: &str, option: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.trim().splitn(2, |c: char| c.is_whitespace() || c == '=');
        let value = words.next().filter(|name| name.eq_ignore_ascii_case(option)).and(words.next())?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "@time\n1769903999500123456\n@stat\ncpu  100 0 50 800 50 0 0 0 0 0\n@meminfo\nMemTotal:       8000 kB\n\
        MemFree: 1 kB\nMemAvailable:   3000 kB\n@psi_cpu\nsome avg10=1.23 avg60=0.00 avg300=0.00 total=5\n@psi_memory\n@psi_io\n\
        some avg10=100.00 avg60=0 avg300=0 total=1\nfull avg10=0.00\n@machine_id\nabc\n@hostname\nvps-1\n@kernel\n6.1\n@df\n\
        Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/my disk 1000 400 600 40% /var/lib/docker data\n@dfi\n\
        Filesystem Inodes IUsed IFree IUse% Mounted on\n/dev/x 1000 250 750 25% /\n@end\n";

    #[test]
    fn a_machine_is_read() {
        let reading = Reading::parse(SAMPLE);
        assert_eq!(reading.time_ms, Some(1_769_903_999_500));
        assert_eq!(reading.memory_available, Some(3000 << 10));
        assert_eq!((reading.psi_cpu, reading.psi_memory, reading.psi_io), (123, 0, 10_000));
        assert_eq!(reading.disk, Some(Space { total: 1000 << 10, free: 600 << 10 }));
        assert_eq!(reading.inodes.map(Space::used_permille), Some(250));
        assert!(reading.complete && reading.machine_id.as_deref() == Some("abc"));
    }

    #[test]
    fn a_bare_machine_is_read_as_far_as_it_goes() {
        let reading =
            Reading::parse("@time\n1769903999%N\n@stat\n@df\ndf: bad\n@dfi\nFilesystem x\nbtrfs 0 0 0 - /\n@end\n");
        assert_eq!(reading.time_ms, Some(1_769_903_999_000));
        assert_eq!((reading.ticks, reading.disk, reading.inodes), (None, None, None));
        assert!(!Reading::parse("@time\n1\n").complete);
    }

    #[test]
    fn cpu_use_is_a_difference() {
        let (first, second) = (Ticks { all: 1000, idle: 900 }, Ticks { all: 1200, idle: 1050 });
        assert_eq!(second.busy_permille_since(first), Some(250));
        assert_eq!(first.busy_permille_since(second), None, "restarted");
        assert_eq!(first.busy_permille_since(first), None, "too close");
        assert_eq!(Ticks::parse("cpu  100 0 50 800 50 0 0 0 7 7"), Some(Ticks { all: 1000, idle: 850 }));
    }

    #[test]
    fn sshd_says_its_limits_both_ways() {
        assert_eq!(sshd_option("port 22\nmaxsessions 10\n", "maxsessions").as_deref(), Some("10"));
        assert_eq!(
            sshd_option("#MaxStartups 1\nMaxStartups  10:30:100\n", "maxstartups").as_deref(),
            Some("10:30:100")
        );
        assert_eq!(sshd_option("", "maxsessions"), None);
    }
}
