//! Steps and plans as values that print.

use crate::ports::{CommitPlan, ContainerPlan, Mount, SnapshotImage};
use plimsoll_types::{Generation, ImageRef, Phase, SandboxId};
use std::fmt;

/// One thing to do. Each is idempotent: done twice is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done before another sandbox with the same names is gone.
    Await(SandboxId),
    /// Commit that the sandbox entered a phase; nothing that follows may happen before.
    Commit(Phase, String),
    /// Make sure that the image is on the host.
    EnsureImage(ImageRef),
    /// Create the container with its network and workspace, or find the one made before.
    CreateContainer(Box<ContainerPlan>),
    /// Start the container that was created.
    StartContainer(String),
    /// Write the secret environment into memory inside the container.
    WriteSecrets(String),
    /// Wait until it runs and each of these ports is published.
    AwaitReady(Vec<u16>),
    /// Hold the container's processes still.
    Freeze(String),
    /// Let them go on.
    Thaw(String),
    /// Make one image of the container and its workspace.
    CommitImage(Box<CommitPlan>),
    /// Push it.
    PushImage(Box<CommitPlan>),
    /// Commit that the snapshot is in the registry.
    RecordSnapshot,
    /// Make sure that the snapshot is on the host.
    PullImage(Box<SnapshotImage>),
    /// Commit that the sandbox runs on its new host.
    Switch,
    /// Commit that the operation is given up.
    GiveUp(String),
    /// Stop a replaced container and rename it.
    Fence(String, String),
    /// Remove a snapshot image by its local name.
    RemoveImage(String),
    /// Remove a container by its full id.
    RemoveContainer(String),
    /// Remove the workspace: volume and folder.
    RemoveWorkspace(Mount),
    /// Commit that a running incarnation was stopped from outside and has to be started again.
    Lose(SandboxId, Generation, String),
    /// Commit that a running incarnation died.
    Fail(SandboxId, Generation, String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Await(sandbox) => write!(f, "wait for {sandbox} to be taken down"),
            Self::Commit(phase, reason) if reason.is_empty() => write!(f, "commit {phase}"),
            Self::Commit(phase, reason) => write!(f, "commit {phase}: {reason}"),
            Self::EnsureImage(image) => write!(f, "ensure image {image}"),
            Self::CreateContainer(plan) => {
                write!(f, "create container {} with workspace {}", plan.name, plan.workspace.source)
            }
            Self::StartContainer(name) => write!(f, "start container {name}"),
            Self::WriteSecrets(name) => write!(f, "write secrets into {name}"),
            Self::AwaitReady(ports) if ports.is_empty() => write!(f, "wait until it runs"),
            Self::AwaitReady(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                write!(f, "wait until it runs with ports {}", ports.join(", "))
            }
            Self::Freeze(id) => write!(f, "freeze container {}", short(id)),
            Self::Thaw(id) => write!(f, "thaw container {}", short(id)),
            Self::CommitImage(plan) => write!(f, "commit container {} as {}", short(&plan.container), plan.snapshot),
            Self::PushImage(plan) => write!(f, "push {} to {}", plan.snapshot, plan.repository),
            Self::RecordSnapshot => write!(f, "commit the snapshot"),
            Self::PullImage(image) => write!(f, "pull {} by {}", image.snapshot, image.digest),
            Self::Switch => write!(f, "commit the move"),
            Self::GiveUp(reason) => write!(f, "commit that it is given up: {reason}"),
            Self::Fence(id, name) => write!(f, "stop container {} and keep it as {name}", short(id)),
            Self::RemoveImage(name) => write!(f, "remove image {name}"),
            Self::RemoveContainer(id) => write!(f, "remove container {}", short(id)),
            Self::RemoveWorkspace(mount) => write!(f, "remove workspace {}", mount.source),
            Self::Lose(sandbox, generation, reason) => {
                write!(f, "start {sandbox} generation {generation} again: {reason}")
            }
            Self::Fail(sandbox, generation, reason) => write!(f, "fail {sandbox} generation {generation}: {reason}"),
        }
    }
}

/// Which of a migration's two hosts a step is done on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sandbox's own host.
    Here,
    /// Where it goes.
    There,
}

/// A step and why it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where.
    pub side: Side,
    /// What to do.
    pub step: Step,
    /// Why, in a few words.
    pub because: String,
}

/// Steps in the order they are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Planned>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step at the end.
    pub(crate) fn push(&mut self, step: Step, because: impl Into<String>) {
        self.steps.push(Planned { side: Side::Here, step, because: because.into() });
    }

    /// Adds a step that is done where the sandbox goes.
    pub(crate) fn push_there(&mut self, step: Step, because: impl Into<String>) {
        self.steps.push(Planned { side: Side::There, step, because: because.into() });
    }
}

/// One line a step, numbered from one; `nothing to do` for none.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to do");
        }
        for (i, planned) in self.steps.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            let there = if planned.side == Side::There { "there: " } else { "" };
            write!(f, "{newline}{}. {there}{} ({})", i + 1, planned.step, planned.because)?;
        }
        Ok(())
    }
}

/// Docker's short form of a container id, for people only: ids are compared whole.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
