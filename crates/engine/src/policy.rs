//! What a policy may say: every limit in one place. It changes nothing by itself.

use plimsoll_state::{Policy, apply::EVENTS_LIMIT};
use plimsoll_types::{HostName, Millis};
use std::ops::RangeInclusive;

/// CPU overcommit in thousandths: below a tenth nothing fits, beyond sixteenfold no sandbox gets on.
pub const OVERCOMMIT_PERMILLE: RangeInclusive<u32> = 100..=16_000;
/// 100 %: a pressure that is never passed.
pub const PRESSURE_MAX: u16 = 10_000;
/// Most sandboxes that may wait for room: each is a record of about a kilobyte on every node.
pub const QUEUE_MAX: u32 = 1_000_000;
/// Longest retention: a year of records that nobody reads but billing.
pub const RETENTION_MAX: Millis = Millis::secs(366 * 24 * 3600);
/// How long idempotency keys are remembered: longer than any caller's retries, short enough that they do not pile up.
pub const IDEMPOTENCY_TTL: RangeInclusive<Millis> = Millis::secs(60)..=Millis::secs(30 * 24 * 3600);

/// Checkpoints kept of a sandbox: each takes room in the registry.
pub const CHECKPOINTS: RangeInclusive<u32> = 1..=100;
/// Moves at once out of one host: beyond this they only wait for its disk and its line.
pub const DRAIN_PARALLEL: RangeInclusive<u32> = 1..=64;
/// Longest deadline of a drain: a month; more is a mistaken unit.
pub const DRAIN_DEADLINE_MAX: Millis = Millis::secs(31 * 24 * 3600);
/// Spreads that a rebalance can get below, in thousandths: below the least, sandboxes would move to and fro.
pub const SPREADS_PERMILLE: RangeInclusive<u32> = 10..=1000;
/// Longest reason that an operator gives, in bytes; it stands in tables.
pub const REASON_MAX: usize = 255;
/// Highest price of a host in thousandths of a currency unit per hour: a million an hour; more is a mistaken unit.
pub const PRICE_MAX_MILLI: u64 = 1_000_000_000;
/// How long an operation may take: the least holds a push of a small sandbox, the most a terabyte's over a slow line.
pub const WORK_BUDGET: RangeInclusive<Millis> = Millis::secs(60)..=Millis::secs(24 * 3600);

/// Every field that breaks a rule, as the API calls it, with what would be right.
#[must_use]
pub fn faults(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut require = |holds: bool, field, rule: String| {
        if !holds {
            found.push((field, rule));
        }
    };
    let line = &policy.load_line;
    let (least, most) = (OVERCOMMIT_PERMILLE.start(), OVERCOMMIT_PERMILLE.end());
    let overcommit = OVERCOMMIT_PERMILLE.contains(&line.cpu_overcommit_permille);
    require(overcommit, "cpu_overcommit_permille", format!("from {least} to {most} thousandths"));
    for (field, max) in [
        ("cpu_pressure_max_centipercent", line.pressure_max.cpu_centipercent),
        ("memory_pressure_max_centipercent", line.pressure_max.memory_centipercent),
        ("io_pressure_max_centipercent", line.pressure_max.io_centipercent),
    ] {
        require(max <= PRESSURE_MAX, field, format!("at most {PRESSURE_MAX} (100 %)"));
    }
    require(policy.queue_limit <= QUEUE_MAX, "queue_limit", format!("at most {QUEUE_MAX}"));
    require(policy.retention <= RETENTION_MAX, "retention_s", format!("at most {} (a year)", RETENTION_MAX.0 / 1000));
    let (least, most) = (IDEMPOTENCY_TTL.start().0 / 1000, IDEMPOTENCY_TTL.end().0 / 1000);
    let ttl = IDEMPOTENCY_TTL.contains(&policy.idempotency_ttl);
    require(ttl, "idempotency_ttl_s", format!("from {least} to {most} seconds"));
    let (least, most) = (CHECKPOINTS.start(), CHECKPOINTS.end());
    require(CHECKPOINTS.contains(&policy.checkpoints_kept), "checkpoints_kept", format!("from {least} to {most}"));
    let kept = policy.superseded_kept <= RETENTION_MAX;
    require(kept, "superseded_kept_s", format!("at most {} (a year)", RETENTION_MAX.0 / 1000));
    let (least, most) = (WORK_BUDGET.start().0 / 1000, WORK_BUDGET.end().0 / 1000);
    require(WORK_BUDGET.contains(&policy.work_budget), "work_budget_s", format!("from {least} to {most} seconds"));
    let (least, most) = (DRAIN_PARALLEL.start(), DRAIN_PARALLEL.end());
    require(DRAIN_PARALLEL.contains(&policy.drain_parallel), "drain_parallel", format!("from {least} to {most}"));
    let events = (1..=EVENTS_LIMIT).contains(&usize::try_from(policy.events_kept).unwrap_or(usize::MAX));
    require(events, "events_kept", format!("from 1 to {EVENTS_LIMIT}"));
    if let Err(error) = HostName::new(&policy.name_prefix) {
        require(false, "name_prefix", error.to_string());
    }
    let rule = "an absolute folder other than /, without '.', '..' and a slash at its end";
    require(is_plain_folder(&policy.data_dir), "data_dir", rule.to_owned());
    found
}

/// Folders below it are removed: it must be exactly what it looks like.
fn is_plain_folder(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else { return false };
    path.len() < 4096
        && !path.chars().any(char::is_control)
        && inner.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_every_fault_names_its_field() {
        assert_eq!(faults(&Policy::default()), []);
        let mut policy =
            Policy { queue_limit: u32::MAX, name_prefix: "-x".into(), events_kept: 0, ..Policy::default() };
        policy.load_line.cpu_overcommit_permille = 0;
        policy.load_line.pressure_max.io_centipercent = 10_001;
        policy.idempotency_ttl = Millis::ZERO;
        policy.retention = Millis(u64::MAX);
        let named = |policy: &Policy| faults(policy).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        let expected = [
            "cpu_overcommit_permille",
            "io_pressure_max_centipercent",
            "queue_limit",
            "retention_s",
            "idempotency_ttl_s",
            "events_kept",
            "name_prefix",
        ];
        assert_eq!(named(&policy), expected);
        for folder in ["", "/", "relative", "/a/../b", "/a/", "//a", "/a\n"] {
            assert_eq!(named(&Policy { data_dir: folder.into(), ..Policy::default() }), ["data_dir"], "{folder:?}");
        }
    }
}
