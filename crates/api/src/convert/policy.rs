//! Between the policy on the wire and the replicated one.

use super::rules::Rules;
use crate::error::Answer;
use plimsoll_client::wire::{self, Size};
use plimsoll_state::Policy;
use plimsoll_types::{LoadLine, Millis, Pressure};
use sha2::{Digest, Sha256};

/// Checks a request and turns it into a policy.
pub(crate) fn wanted(request: wire::Policy) -> Answer<Policy> {
    let mut rules = Rules::default();
    for name in request.unknown.keys() {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        rules.broken(pointer, "this release knows no such rule");
    }
    let time = |rules: &mut Rules, pointer: &str, seconds: u64| {
        let milliseconds = seconds.checked_mul(1000);
        rules.require(milliseconds.is_some(), pointer, "too long");
        Millis(milliseconds.unwrap_or_default())
    };
    let retention = time(&mut rules, "/retention_s", request.retention_s);
    let idempotency_ttl = time(&mut rules, "/idempotency_ttl_s", request.idempotency_ttl_s);
    let superseded_kept = time(&mut rules, "/superseded_kept_s", request.superseded_kept_s);
    let work_budget = time(&mut rules, "/work_budget_s", request.work_budget_s);
    let policy = Policy {
        load_line: LoadLine {
            cpu_overcommit_permille: request.cpu_overcommit_permille,
            memory_reserve: request.memory_reserve.0,
            disk_reserve: request.disk_reserve.0,
            pressure_max: Pressure {
                cpu_centipercent: request.cpu_pressure_max_centipercent,
                memory_centipercent: request.memory_pressure_max_centipercent,
                io_centipercent: request.io_pressure_max_centipercent,
            },
        },
        queue_limit: request.queue_limit,
        retention,
        idempotency_ttl,
        events_kept: request.events_kept,
        name_prefix: request.name_prefix.into(),
        data_dir: request.data_dir.into(),
        checkpoints_kept: request.checkpoints_kept,
        superseded_kept,
        work_budget,
        drain_parallel: request.drain_parallel,
        base_image: request.base_image,
    };
    for (field, rule) in plimsoll_engine::policy::faults(&policy) {
        rules.broken(format!("/{field}"), rule);
    }
    rules.end()?;
    Ok(policy)
}

/// The policy with its revision.
pub(crate) fn shown(policy: &Policy) -> wire::Policy {
    wire::Policy { revision: Some(revision(policy)), ..document(policy) }
}

/// What tells this policy from every other: equal ones have equal revisions, whoever set them.
pub(crate) fn revision(policy: &Policy) -> String {
    // Our own types always serialize.
    let text = serde_json::to_vec(&document(policy)).unwrap_or_default();
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn document(policy: &Policy) -> wire::Policy {
    let line = &policy.load_line;
    wire::Policy {
        revision: None,
        cpu_overcommit_permille: line.cpu_overcommit_permille,
        memory_reserve: Size(line.memory_reserve),
        disk_reserve: Size(line.disk_reserve),
        cpu_pressure_max_centipercent: line.pressure_max.cpu_centipercent,
        memory_pressure_max_centipercent: line.pressure_max.memory_centipercent,
        io_pressure_max_centipercent: line.pressure_max.io_centipercent,
        queue_limit: policy.queue_limit,
        retention_s: policy.retention.0 / 1000,
        idempotency_ttl_s: policy.idempotency_ttl.0 / 1000,
        events_kept: policy.events_kept,
        name_prefix: policy.name_prefix.to_string(),
        data_dir: policy.data_dir.to_string(),
        checkpoints_kept: policy.checkpoints_kept,
        superseded_kept_s: policy.superseded_kept.0 / 1000,
        work_budget_s: policy.work_budget.0 / 1000,
        drain_parallel: policy.drain_parallel,
        base_image: policy.base_image.clone(),
        unknown: std::collections::BTreeMap::new(),
    }
}
