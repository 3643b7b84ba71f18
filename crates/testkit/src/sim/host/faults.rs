//! Mishaps of a host, scripted by operation and by count or chance.

use plimsoll_lifecycle::ports::HostFailure;
use rand::{Rng, rngs::StdRng};
use std::time::Duration;

/// The operations of the host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostOp {
    /// `survey`.
    Survey,
    /// `measure`.
    Measure,
    /// `ensure_image`.
    EnsureImage,
    /// `create_container`.
    CreateContainer,
    /// `start_container`.
    StartContainer,
    /// `inspect`.
    Inspect,
    /// `list_containers`.
    ListContainers,
    /// `list_workspaces`.
    ListWorkspaces,
    /// `remove_container`.
    RemoveContainer,
    /// `remove_workspace`.
    RemoveWorkspace,
    /// `remove_idle_networks`.
    RemoveIdleNetworks,
    /// `freeze`.
    Freeze,
    /// `thaw`.
    Thaw,
    /// `commit`.
    Commit,
    /// `push`.
    Push,
    /// `pull`.
    Pull,
    /// `fence`.
    Fence,
    /// `list_snapshots`.
    ListSnapshots,
    /// `remove_snapshot`.
    RemoveSnapshot,
    /// `exec`.
    Exec,
    /// `logs`.
    Logs,
    /// `stats`.
    Stats,
    /// Any method of `files`.
    Files,
}

impl HostOp {
    /// The operations that change something on the host, in the order of a sandbox's life.
    pub const MUTATING: [Self; 13] = [
        Self::EnsureImage,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Freeze,
        Self::Thaw,
        Self::Commit,
        Self::Push,
        Self::Pull,
        Self::Fence,
        Self::RemoveContainer,
        Self::RemoveWorkspace,
        Self::RemoveIdleNetworks,
        Self::RemoveSnapshot,
    ];

    /// How long the adapter waits for an answer before it says that the host does not answer.
    pub(super) const fn deadline(self) -> Duration {
        match self {
            Self::Measure
            | Self::Inspect
            | Self::ListContainers
            | Self::ListWorkspaces
            | Self::ListSnapshots
            | Self::Stats => Duration::from_secs(5),
            Self::EnsureImage | Self::Commit | Self::Push | Self::Pull => Duration::from_secs(600),
            Self::Survey
            | Self::CreateContainer
            | Self::StartContainer
            | Self::RemoveContainer
            | Self::RemoveWorkspace
            | Self::RemoveIdleNetworks
            | Self::Freeze
            | Self::Thaw
            | Self::Fence
            | Self::RemoveSnapshot
            | Self::Exec
            | Self::Logs
            | Self::Files => Duration::from_secs(30),
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing is done, and the error says so.
    FailBefore(HostFailure),
    /// It is done, but the answer is lost: unreachable.
    FailAfter,
    /// Nothing is done: unreachable.
    Unreachable,
    /// The host freezes with the request in hand and does it once it is healed; the caller's deadline passes first.
    Hang,
    /// It takes this much longer, before it is done.
    Slow(Duration),
    /// It is done twice, as by a caller who repeats it.
    Twice,
    /// Nothing is done: the caller's own adapter panics, as a defect of it would.
    Panic,
}

/// When a mishap happens, among the calls it is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next so many calls.
    Next(u32),
    /// Every call until healed.
    Always,
    /// So many calls of a thousand, until healed.
    Permille(u32),
}

/// A scripted mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For which operation; every one if `None`.
    pub op: Option<HostOp>,
    /// What goes wrong.
    pub mishap: Mishap,
    /// When.
    pub when: When,
}

/// The mishap of this call, if one is due; counts it off.
pub(super) fn draw(faults: &mut Vec<Fault>, rng: &mut StdRng, op: HostOp) -> Option<Mishap> {
    let due = faults.iter().position(|fault| {
        fault.op.is_none_or(|meant| meant == op)
            && match fault.when {
                When::Next(left) => left > 0,
                When::Always => true,
                When::Permille(chance) => rng.random_range(0..1000) < chance,
            }
    })?;
    let fault = faults.get_mut(due)?;
    let mishap = fault.mishap;
    if let When::Next(left) = &mut fault.when {
        *left -= 1;
        if *left == 0 {
            faults.remove(due);
        }
    }
    Some(mishap)
}
