//! Backups, and the hold under which a cluster that was restored from one is looked at.

use super::VpsClusterProvider;
use crate::policy::REASON_MAX;
use crate::{Error, cluster::Backup, spec};
use plimsoll_lifecycle::planner::Verdict;
use plimsoll_state::{Command, backup::Header, command::SetHold};
use plimsoll_types::Code;

impl VpsClusterProvider {
    /// Everything acknowledged before the call is in it: the copy is taken behind a barrier.
    pub(super) async fn copy_state(&self) -> Result<Backup, Error> {
        self.barrier().await?;
        // The clone copies pointers; whoever writes it out holds nothing up.
        let state = self.node.read(Clone::clone);
        let secret = self.node.options.secret.fingerprint();
        let header = Header::of(&state, self.node.now(), env!("CARGO_PKG_VERSION"), secret);
        let header = header.ok_or_else(|| Error::new(Code::NoQuorum, "the cluster's founding is not finished"))?;
        tracing::info!(applied = header.applied, "a backup is taken");
        Ok(Backup { header, state })
    }

    pub(super) async fn put_on_hold(&self, reason: &str) -> Result<(), Error> {
        if reason.is_empty() || reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
            let rule = format_args!("use 1 to {REASON_MAX} bytes without control characters");
            return Err(spec::invalid("reason", rule));
        }
        let set = SetHold { reason: Some(reason.into()), at: self.node.now() };
        self.node.commit(Command::SetHold(set)).await?;
        tracing::warn!(reason, "the cluster is on hold");
        Ok(())
    }

    pub(super) async fn end_hold(&self, force: bool) -> Result<(), Error> {
        self.barrier().await?;
        if self.node.read(|state| state.hold.is_none()) {
            return Ok(());
        }
        if !force {
            self.nothing_open().await?;
        }
        self.node.commit(Command::SetHold(SetHold { reason: None, at: self.node.now() })).await?;
        tracing::warn!(force, "the hold has ended: the leader makes hosts as state says");
        Ok(())
    }

    /// What would be removed, or begun anew, the moment the hold ends.
    async fn nothing_open(&self) -> Result<(), Error> {
        let report = self.compare().await?;
        let count = |verdict| report.lines.iter().filter(|line| line.finding.verdict == verdict).count();
        let open: Vec<String> = [Verdict::Adopt, Verdict::Lost, Verdict::Unknown]
            .into_iter()
            .filter_map(|verdict| Some((verdict, count(verdict))).filter(|(_, count)| *count > 0))
            .map(|(verdict, count)| format!("{count} {verdict}"))
            .chain((!report.silent.is_empty()).then(|| format!("{} hosts that do not answer", report.silent.len())))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} are not settled: containers that are not taken over are removed, and what is lost is started again; see \
             `plimsoll cluster drift`, or resume with --force",
            open.join(", ")
        );
        Err(Error::new(Code::Conflict, message))
    }
}
