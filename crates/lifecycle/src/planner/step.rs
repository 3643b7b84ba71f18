//! Steps and plans as values that print.

use crate::ports::{ContainerPlan, Mount};
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
    /// Remove a container by its full id.
    RemoveContainer(String),
    /// Remove the workspace: volume and folder.
    RemoveWorkspace(Mount),
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
            Self::RemoveContainer(id) => write!(f, "remove container {}", short(id)),
            Self::RemoveWorkspace(mount) => write!(f, "remove workspace {}", mount.source),
            Self::Fail(sandbox, generation, reason) => write!(f, "fail {sandbox} generation {generation}: {reason}"),
        }
    }
}

/// A step and why it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
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
        self.steps.push(Planned { step, because: because.into() });
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
            write!(f, "{newline}{}. {} ({})", i + 1, planned.step, planned.because)?;
        }
        Ok(())
    }
}

/// Docker's short form of a container id, for people only: ids are compared whole.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
