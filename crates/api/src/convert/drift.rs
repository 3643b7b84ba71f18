//! Between drift on the wire and the engine's.

use plimsoll_client::wire::{self, Time};
use plimsoll_engine::{DriftLine, DriftReport, DriftWish, Settled};
use plimsoll_lifecycle::{planner::Verdict, ports::ContainerState};
use plimsoll_state::Hold;

/// What to settle.
pub(crate) fn wish(request: wire::SettleDrift) -> DriftWish {
    DriftWish { adopt: request.adopt, remove_orphans: request.remove_orphans, mark_lost: request.mark_lost }
}

/// A hold, as callers see it.
pub(crate) fn hold(hold: &Hold) -> wire::Hold {
    wire::Hold { since: Time(hold.since), reason: hold.reason.to_string() }
}

/// A comparison, as callers see it.
pub(crate) fn report(report: DriftReport) -> wire::Drift {
    let count = |verdict| report.lines.iter().filter(|line| line.finding.verdict == verdict).count();
    let counts = Verdict::ALL.map(|it| (it.as_str().to_owned(), u64::try_from(count(it)).unwrap_or(u64::MAX)));
    wire::Drift {
        hold: report.hold.as_ref().map(hold),
        hosts: report.answered,
        silent: report.silent.into_iter().map(|(host, why)| wire::SilentHost { host, why }).collect(),
        snapshots_unrecorded: report.unrecorded,
        counts: counts.into(),
        lines: report.lines.into_iter().map(line).collect(),
        settled: report.settled.into_iter().map(settled).collect(),
    }
}

fn line(line: DriftLine) -> wire::DriftLine {
    let finding = line.finding;
    wire::DriftLine {
        verdict: verdict(finding.verdict),
        sandbox: finding.sandbox,
        session: line.session,
        tenant: line.tenant,
        host: line.host,
        generation: finding.generation.0,
        container_state: finding.seen.as_ref().map(|seen| state(seen.state).to_owned()),
        container: finding.seen.map(|seen| seen.id),
        phase: finding.phase,
        why: finding.why,
    }
}

fn settled(it: Settled) -> wire::DriftSettled {
    wire::DriftSettled { verdict: verdict(it.verdict), sandbox: it.sandbox, host: it.host, refused: it.refused }
}

const fn verdict(verdict: Verdict) -> wire::DriftVerdict {
    match verdict {
        Verdict::Adopt => wire::DriftVerdict::Adopt,
        Verdict::Orphan => wire::DriftVerdict::Orphan,
        Verdict::Lost => wire::DriftVerdict::Lost,
        Verdict::Unknown => wire::DriftVerdict::Unknown,
        Verdict::Same => wire::DriftVerdict::Same,
    }
}

const fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::Exited(_) => "exited",
        ContainerState::Dead => "dead",
    }
}
