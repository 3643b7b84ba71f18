//! What a sandbox starts from and what becomes of it: the flags of `create` and `ensure`, and what `inspect` shows of it.

use super::{parse, sandboxes};
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use plimsoll_client::wire::{Awake, CreateSandbox, Sandbox};
use plimsoll_types::{ExpiryAction, HostLossPolicy};
use std::time::Duration;

/// What a sandbox starts from and what becomes of it.
#[derive(Clone, Debug, Default, Args)]
pub struct LastingArgs {
    /// Start from a snapshot (its id or name, see `plimsoll snapshot ls`) instead of an image.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "image")]
    pub snapshot: Option<String>,
    /// Take a checkpoint so often while it runs, such as 10m: what --on-host-loss restore starts from.
    #[arg(long, value_name = "TIME")]
    pub checkpoint_every: Option<String>,
    /// Pause it after so long without CPU use, commands and open streams, such as 30m.
    #[arg(long, value_name = "TIME")]
    pub idle_timeout: Option<String>,
    /// What happens at the end of its lifetime [default: terminate].
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_expiry: Option<OnExpiry>,
    /// What happens when its host is lost [default: hold].
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_host_loss: Option<OnHostLoss>,
}

/// What happens at a sandbox's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExpiry {
    /// It ends, workspace and all.
    Terminate,
    /// It is paused: `plimsoll resume` brings it back.
    Pause,
}

/// What happens to a sandbox whose host is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnHostLoss {
    /// It waits for the host.
    Hold,
    /// It starts elsewhere from its newest snapshot; what it did since is gone.
    Restore,
}

/// A request with these wishes.
///
/// # Errors
/// When a time is none.
pub fn wanted(args: &LastingArgs, request: CreateSandbox) -> Result<CreateSandbox> {
    let seconds = |text: &Option<String>, flag: &'static str| {
        text.as_deref().map(parse::duration).transpose().map(|time| time.map(whole_seconds)).context(flag)
    };
    Ok(CreateSandbox {
        snapshot: args.snapshot.clone(),
        checkpoint_every_s: seconds(&args.checkpoint_every, "--checkpoint-every")?,
        idle_timeout_s: seconds(&args.idle_timeout, "--idle-timeout")?,
        on_expiry: args.on_expiry.map(|what| match what {
            OnExpiry::Terminate => ExpiryAction::Terminate,
            OnExpiry::Pause => ExpiryAction::Pause,
        }),
        on_host_loss: args.on_host_loss.map(|what| match what {
            OnHostLoss::Hold => HostLossPolicy::Hold,
            OnHostLoss::Restore => HostLossPolicy::Restore,
        }),
        ..request
    })
}

/// A time in whole seconds; less than one is one, because zero means never.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    if time.is_zero() { 0 } else { time.as_secs().max(1) }
}

/// Rows of `plimsoll inspect`.
pub(super) fn facts(sandbox: &Sandbox, awake: Option<&Awake>) -> Vec<(&'static str, String)> {
    let every = |seconds: Option<u64>, text: fn(String) -> String| {
        seconds.map(|seconds| text(shown(Duration::from_secs(seconds)))).unwrap_or_default()
    };
    let on_expiry = match sandbox.on_expiry {
        ExpiryAction::Terminate => "terminate",
        ExpiryAction::Pause => "pause",
    };
    let on_host_loss = match sandbox.on_host_loss {
        HostLossPolicy::Hold => "hold: it waits for the host",
        HostLossPolicy::Restore => "restore: it starts elsewhere from its newest snapshot",
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        ("at its end", on_expiry.to_owned()),
        ("if its host is lost", on_host_loss.to_owned()),
        ("checkpoints", every(sandbox.checkpoint_every_s, |time| format!("every {time}"))),
        (
            "restores from",
            text(
                sandbox
                    .checkpoint
                    .as_ref()
                    .map(|it| format!("{}, {} old", it.snapshot, shown(Duration::from_secs(it.age_s)))),
            ),
        ),
        ("pauses", every(sandbox.idle_timeout_s, |time| format!("after {time} idle"))),
        ("awake", text(awake.map(awake_text))),
        ("starts anew from", text(sandbox.base.map(|base| base.to_string()))),
        (
            "under way",
            text(sandbox.work.as_ref().map(|work| {
                let to = work.to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
                let (kind, stage, operation) = (work.kind, work.stage, work.operation);
                format!("{kind}{to}, {stage} {} ({operation}), given up {}", work.snapshot, work.deadline)
            })),
        ),
        ("frozen", text(sandbox.frozen_since.map(|since| format!("since {since}")))),
        ("trouble", text(sandbox.trouble.as_ref().map(|it| format!("{} given up {}: {}", it.kind, it.at, it.reason)))),
        (
            "moved",
            text(sandbox.moved.as_ref().map(|it| {
                let downtime = shown(Duration::from_millis(it.downtime_ms));
                format!("{} from {} to {}, {downtime} down, {} sent and fetched", it.at, it.from, it.to, it.bytes)
            })),
        ),
        (
            "restored",
            text(sandbox.restored.as_ref().map(|it| {
                let window = shown(Duration::from_millis(it.window_ms));
                format!("{} after {} was lost, from {}; {window} of work is gone", it.at, it.from, it.snapshot)
            })),
        ),
    ]
}

fn awake_text(awake: &Awake) -> String {
    if !awake.because.is_empty() {
        return awake.because.join("; ");
    }
    let now = sandboxes::now();
    let idle = awake.idle_since.map(|since| format!("no: idle for {}", sandboxes::ago(since, now)));
    let pauses = awake.pauses_at.map(|at| format!(", pauses {at}")).unwrap_or_default();
    idle.map(|idle| format!("{idle}{pauses}")).unwrap_or_default()
}

/// `1m 20s`, `1s 250ms`.
pub(super) fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_wishes() {
        let args = LastingArgs {
            checkpoint_every: Some("10m".into()),
            idle_timeout: Some("200ms".into()),
            on_expiry: Some(OnExpiry::Pause),
            on_host_loss: Some(OnHostLoss::Restore),
            ..LastingArgs::default()
        };
        let request = wanted(&args, CreateSandbox::default()).expect("fine");
        assert_eq!((request.checkpoint_every_s, request.idle_timeout_s), (Some(600), Some(1)));
        assert_eq!(request.on_expiry, Some(ExpiryAction::Pause));
        let wrong = LastingArgs { idle_timeout: Some("soon".into()), ..LastingArgs::default() };
        let error = wanted(&wrong, CreateSandbox::default()).expect_err("no time");
        assert!(format!("{error:#}").starts_with("--idle-timeout: "), "{error:#}");
    }
}
