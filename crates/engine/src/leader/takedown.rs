//! What is left of a sandbox on its host is removed, and only then is its reservation released.

use super::job::{Ending, View, is_past};
use crate::node::Node;
use plimsoll_lifecycle::{
    planner::{self, Facts, Step},
    ports::{ContainerSeen, HostDriver, HostError},
};
use plimsoll_state::{Command, Sandbox, command::Advance};
use plimsoll_types::Phase;

/// Removes a terminating sandbox, or what a failed start left behind, and commits that nothing is left.
pub(crate) async fn take_down(node: &Node, view: &View) -> Ending {
    let driver = node.drivers.of(&view.host);
    if let Err(error) = clear(driver.as_ref(), view).await {
        tracing::warn!(sandbox = %view.sandbox.id, host = %view.host.name, code = %error.code, %error, "cleaning up failed");
        return Ending::Again;
    }
    let sandbox = &view.sandbox;
    let shared = |other: &Sandbox| other.id != sandbox.id && other.tenant == sandbox.tenant;
    let last = node.read(|state| !state.on_host(view.host.id).any(|other| shared(other)));
    // The reconciler removes it later if this fails.
    if last && let Err(error) = driver.remove_idle_networks(view.cluster).await {
        tracing::debug!(host = %view.host.name, code = %error.code, %error, "idle networks stay for now");
    }
    let to = if sandbox.phase == Phase::Terminating { Phase::Terminated } else { Phase::Failed };
    let news = Advance {
        sandbox: sandbox.id,
        generation: sandbox.generation,
        to,
        container: None,
        endpoints: Vec::new(),
        release: true,
        reason: sandbox.reason.clone(),
        at: node.now(),
    };
    match node.commit_one(Command::Advance(vec![news])).await {
        Ok(Ok(())) => {
            tracing::info!(sandbox = %sandbox.id, host = %view.host.name, phase = %to, "nothing of it is left");
            Ending::Done
        }
        Ok(Err(refusal)) if is_past(&refusal) => Ending::Later,
        Ok(Err(refusal)) => {
            tracing::warn!(sandbox = %sandbox.id, ?refusal, "the end could not be committed");
            Ending::Again
        }
        Err(error) => {
            tracing::warn!(sandbox = %sandbox.id, %error, "the end could not be committed");
            Ending::Again
        }
    }
}

/// Removes every container of the sandbox and then its workspace. Of one that is to live, only its present generation's: a fenced
/// copy of an older one is kept for its time.
pub(crate) async fn clear(driver: &dyn HostDriver, view: &View) -> Result<(), HostError> {
    let sandbox = &view.sandbox;
    let mut seen: Vec<ContainerSeen> = driver.list_containers(view.cluster).await?;
    let ends = matches!(sandbox.phase, Phase::Terminating | Phase::Failed);
    seen.retain(|seen| seen.sandbox == Some(sandbox.id) && (ends || seen.generation == Some(sandbox.generation)));
    let gone = Sandbox { phase: Phase::Terminating, ..(**sandbox).clone() };
    let plan = planner::plan(Facts {
        cluster: view.cluster,
        policy: &view.policy,
        sandbox: &gone,
        host: Some(&view.host),
        base: None,
        seen: &seen,
        predecessor: None,
    });
    tracing::debug!(sandbox = %sandbox.id, host = %view.host.name, %plan, "taking down");
    for planned in &plan.steps {
        match &planned.step {
            Step::RemoveContainer(id) => driver.remove_container(id).await?,
            Step::RemoveWorkspace(mount) => driver.remove_workspace(mount, view.cluster).await?,
            // The caller commits, because only it knows whether the sandbox ends as failed or as terminated.
            Step::Commit(..) => {}
            Step::Await(_)
            | Step::EnsureImage(_)
            | Step::CreateContainer(_)
            | Step::StartContainer(_)
            | Step::WriteSecrets(_)
            | Step::AwaitReady(_)
            | Step::Freeze(_)
            | Step::Thaw(_)
            | Step::CommitImage(_)
            | Step::PushImage(_)
            | Step::RecordSnapshot
            | Step::PullImage(_)
            | Step::Switch
            | Step::GiveUp(_)
            | Step::Fence(..)
            | Step::RemoveImage(_)
            | Step::Lose(..)
            | Step::Fail(..) => {}
        }
    }
    Ok(())
}
