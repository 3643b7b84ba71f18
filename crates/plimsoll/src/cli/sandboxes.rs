//! `plimsoll create`, `ensure`, `ls`, `inspect`, `logs`, `stats`, `extend`, `rm` and `place`.

use super::{
    args::{CreateArgs, EnsureArgs, LsArgs, Output, PlaceArgs},
    lasting, parse, print, spec,
};
use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, stream};
use plimsoll_client::{
    Client, LogOptions, SandboxFilter, Wait,
    wire::{Explanation, ExtendSandbox, Provided, Sandbox, Time},
};
use plimsoll_types::{Phase, SandboxId, Timestamp};
use std::{io::Write as _, time::SystemTime};

/// Sandboxes in one page of a list: the most the API gives.
const PAGE: u32 = 1000;
/// How many sandboxes `plimsoll rm` takes down at once.
const REMOVALS: usize = 16;

/// `plimsoll create`
pub async fn create(client: &Client, output: Output, args: &CreateArgs) -> Result<()> {
    let mut request = spec::sandbox(&args.sandbox)?;
    request.session.clone_from(&args.session);
    let spinner = print::spinner("placing and starting".into());
    let made = client.create(&request, wait(args.sandbox.no_wait), args.idempotency_key.as_deref()).await;
    spinner.finish_and_clear();
    print::result(output, &made?, provided)
}

/// `plimsoll ensure`
pub async fn ensure(client: &Client, output: Output, args: &EnsureArgs) -> Result<()> {
    let mut request = spec::sandbox(&args.sandbox)?;
    request.session = Some(args.session.clone());
    let spinner = print::spinner(format!("ensuring {}", args.session));
    let made = client.ensure(&request, wait(args.sandbox.no_wait)).await;
    spinner.finish_and_clear();
    print::result(output, &made?, provided)
}

pub(super) fn wait(no_wait: bool) -> Wait {
    if no_wait { Wait::No } else { Wait::Default }
}

pub(super) fn provided(provided: &Provided) -> String {
    let sandbox = &provided.sandbox;
    let host = sandbox.host.as_ref().map_or_else(|| "no host yet".to_owned(), |host| format!("on {host}"));
    let mut lines = vec![format!("{}  {} {host}{}", sandbox.id, sandbox.phase, how(provided))];
    lines.extend(sandbox.endpoints.iter().map(|endpoint| format!("  port {}  {}", endpoint.port, endpoint.url)));
    lines.join("\n")
}

fn how(provided: &Provided) -> &'static str {
    match (provided.created, provided.recovered) {
        (true, _) => "",
        (false, true) => " (brought back)",
        (false, false) => " (was there)",
    }
}

/// `plimsoll ls`
pub async fn list(client: &Client, output: Output, args: &LsArgs) -> Result<()> {
    let filter = SandboxFilter {
        session: args.session.as_ref().map(ToString::to_string),
        phases: args.phase.into_iter().collect(),
        host: args.host.as_ref().map(ToString::to_string),
        labels: args.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect(),
        all: args.all,
        ..SandboxFilter::default()
    };
    let all = every(client, filter).await?;
    print::result(output, &all, |all| {
        let header = ["SANDBOX", "SESSION", "PHASE", "HOST", "CPU", "MEMORY", "AGE", "EXPIRES"];
        let now = now();
        print::table(&header, all.iter().map(|sandbox| row(sandbox, now)))
    })
}

/// Every sandbox that passes a filter, page by page.
pub(super) async fn every(client: &Client, mut filter: SandboxFilter) -> Result<Vec<Sandbox>> {
    filter.limit = Some(PAGE);
    let mut all = Vec::new();
    loop {
        let page = client.sandboxes(&filter).await?;
        all.extend(page.items);
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(all);
        }
    }
}

fn row(sandbox: &Sandbox, now: Timestamp) -> Vec<String> {
    // A sandbox made without a session has its id for one: once is enough.
    let own = sandbox.session.as_str() == sandbox.id.to_string();
    vec![
        sandbox.id.to_string(),
        if own { "-".into() } else { sandbox.session.to_string() },
        if sandbox.frozen_since.is_some() { "frozen".into() } else { sandbox.phase.to_string() },
        sandbox.host.as_ref().map_or_else(|| "-".into(), ToString::to_string),
        sandbox.resources.cpu.to_string(),
        sandbox.resources.memory.to_string(),
        ago(sandbox.created_at, now),
        sandbox.deadline.map_or_else(|| "never".into(), |deadline| until(deadline, now)),
    ]
}

/// Now, by this machine's clock.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `3m 20s`, to the second.
pub(super) fn ago(then: Time, now: Timestamp) -> String {
    humantime::format_duration(std::time::Duration::from_secs(now.since(then.0).0 / 1000)).to_string()
}

fn until(deadline: Time, now: Timestamp) -> String {
    if deadline.0 <= now { "now".into() } else { format!("in {}", ago(Time(now), deadline.0)) }
}

/// `plimsoll inspect`
pub async fn inspect(client: &Client, output: Output, id: SandboxId) -> Result<()> {
    let sandbox = client.sandbox(id).await?;
    // Only the leader knows; whatever else there is to say does not wait for one.
    let asked = output == Output::Table && sandbox.idle_timeout_s.is_some() && sandbox.phase == Phase::Running;
    let awake = if asked { client.awake(id).await.ok() } else { None };
    print::result(output, &sandbox, |sandbox| {
        let text = |value: &Option<Time>| value.map(|time| time.to_string()).unwrap_or_default();
        let pairs = |map: Vec<String>| map.join(" ");
        let ports = sandbox.endpoints.iter().map(|endpoint| format!("{}→{}", endpoint.port, endpoint.url));
        let mut rows = vec![
            ("sandbox", sandbox.id.to_string()),
            ("session", sandbox.session.to_string()),
            ("tenant", sandbox.tenant.to_string()),
            ("phase", sandbox.phase.to_string()),
            ("wanted", sandbox.desired.to_string()),
            ("reason", sandbox.reason.clone()),
            ("host", sandbox.host.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("generation", sandbox.generation.to_string()),
            ("container", sandbox.container.clone().unwrap_or_default()),
            ("image", sandbox.image.to_string()),
            ("command", pairs(sandbox.command.clone().unwrap_or_default())),
            (
                "resources",
                format!("{}, {}, {} disk", sandbox.resources.cpu, sandbox.resources.memory, sandbox.resources.disk),
            ),
            ("runtime", sandbox.runtime.to_string()),
            ("labels", pairs(sandbox.labels.iter().map(|(key, value)| format!("{key}={value}")).collect())),
            ("ports", pairs(ports.collect())),
            ("created", sandbox.created_at.to_string()),
            ("started", text(&sandbox.started_at)),
            ("ended", text(&sandbox.ended_at)),
            ("expires", sandbox.deadline.map_or_else(|| "never".into(), |time| time.to_string())),
        ];
        rows.extend(lasting::facts(sandbox, awake.as_ref()));
        print::facts(&rows)
    })
}

/// `plimsoll logs`
pub async fn logs(client: &Client, id: SandboxId, follow: bool, tail: Option<u32>) -> Result<()> {
    let mut stream = client.logs(id, LogOptions { follow, tail }).await?;
    let mut stdout = std::io::stdout();
    while let Some(chunk) = stream.next().await {
        match stdout.write_all(&chunk?).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            other => other?,
        }
    }
    Ok(())
}

/// `plimsoll stats`
pub async fn stats(client: &Client, output: Output, id: SandboxId) -> Result<()> {
    let stats = client.stats(id).await?;
    print::result(output, &stats, |stats| {
        print::facts(&[
            ("cpu", stats.cpu.to_string()),
            ("cpu time", humantime::format_duration(std::time::Duration::from_millis(stats.cpu_total_ms)).to_string()),
            ("memory", format!("{} of {}", stats.memory, stats.memory_limit)),
            ("processes", stats.pids.to_string()),
            ("received", stats.received.to_string()),
            ("sent", stats.sent.to_string()),
        ])
    })
}

/// `plimsoll extend`
pub async fn extend(client: &Client, output: Output, id: SandboxId, lifetime: &str) -> Result<()> {
    let lifetime = parse::lifetime(lifetime)?.map_or(0, |lifetime| (lifetime.0 / 1000).max(1));
    let sandbox = client.extend(id, &ExtendSandbox { lifetime_s: Some(lifetime), deadline: None }).await?;
    print::result(output, &sandbox, |sandbox| {
        sandbox.deadline.map_or_else(|| "never expires".into(), |deadline| format!("expires {deadline}"))
    })
}

/// `plimsoll rm`
pub async fn remove(client: &Client, output: Output, ids: &[SandboxId], no_wait: bool) -> Result<()> {
    let spinner = print::spinner(format!("terminating {}", ids.len()));
    let removals = ids.iter().map(|id| async move {
        client.terminate(*id, wait(no_wait)).await.with_context(|| id.to_string()).map(|()| *id)
    });
    let done: Vec<Result<SandboxId>> = stream::iter(removals).buffer_unordered(REMOVALS).collect().await;
    spinner.finish_and_clear();
    let mut removed = Vec::new();
    let mut failed = None;
    for result in done {
        match result {
            Ok(id) => removed.push(id.to_string()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    removed.sort();
    print::result(output, &removed, |removed| removed.join("\n"))?;
    failed.map_or(Ok(()), Err)
}

/// `plimsoll place --dry-run`
pub async fn place(client: &Client, output: Output, args: &PlaceArgs) -> Result<()> {
    let explanation = client.explain(&spec::spec(&args.spec)?).await?;
    print::result(output, &explanation, |explanation: &Explanation| {
        let rows = explanation.hosts.iter().map(|verdict| {
            let score = verdict.score_ppm.map(|ppm| format!("{}.{} %", ppm / 10_000, ppm % 10_000 / 1000));
            let chosen = explanation.chosen.as_ref() == Some(&verdict.host);
            vec![
                verdict.host.to_string(),
                score.unwrap_or_else(|| "-".into()),
                verdict.rejection.clone().unwrap_or_else(|| if chosen { "chosen".into() } else { "fits".into() }),
            ]
        });
        format!("{}\n{}", explanation.sentence, print::table(&["HOST", "LOAD AFTER", "VERDICT"], rows))
    })
}
