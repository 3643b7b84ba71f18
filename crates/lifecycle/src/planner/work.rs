//! Operations on a running sandbox as lists of steps: snapshot, checkpoint, pause, migration. Each step is idempotent, and what is
//! left of an operation is derived from its committed stage alone, so that whoever leads goes on where the last leader stopped.
//!
//! Until the snapshot is recorded nothing has changed for the sandbox but that it stood still for a while: [`undo`] gives that back.

use super::{
    sandbox::{container_plan, snapshot_image},
    step::{Plan, Step},
};
use crate::{
    naming,
    ports::{CommitPlan, ContainerPlan, ContainerSeen},
};
use plimsoll_state::{Host, Policy, Sandbox, Snapshot, Stage, Work, WorkKind};
use plimsoll_types::{ClusterId, Phase};

/// What an operation's plan is derived from.
#[derive(Clone, Copy, Debug)]
pub struct WorkFacts<'a> {
    /// The cluster whose labels containers and images get.
    pub cluster: ClusterId,
    /// The rules for names and folders.
    pub policy: &'a Policy,
    /// The sandbox as it is committed.
    pub sandbox: &'a Sandbox,
    /// The operation's snapshot.
    pub snapshot: &'a Snapshot,
    /// Where a migration goes.
    pub target: Option<&'a Host>,
    /// The sandbox's containers seen on its own host.
    pub here: &'a [ContainerSeen],
    /// The sandbox's containers seen where it goes.
    pub there: &'a [ContainerSeen],
}

/// The steps that are left of a sandbox's operation.
#[must_use]
pub fn work(facts: WorkFacts<'_>) -> Plan {
    let mut plan = Plan::default();
    let (Some(work), Some(container)) = (&facts.sandbox.work, facts.sandbox.container.as_deref()) else { return plan };
    match work.stage {
        Stage::Taking => take(&mut plan, facts, work, container),
        Stage::Taken => match work.kind {
            // Recorded at once with the snapshot; nothing is left.
            WorkKind::Snapshot | WorkKind::Checkpoint => {}
            WorkKind::Pause => leave(&mut plan, facts),
            WorkKind::Migrate => arrive(&mut plan, facts, work, container),
        },
    }
    plan
}

fn take(plan: &mut Plan, facts: WorkFacts<'_>, work: &Work, container: &str) {
    let sandbox = facts.sandbox;
    let commit = Box::new(CommitPlan {
        container: container.to_owned(),
        cluster: facts.cluster,
        sandbox: sandbox.id,
        generation: sandbox.generation,
        snapshot: work.snapshot,
        workspace: naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session, sandbox.generation),
        repository: naming::repository(facts.cluster, &sandbox.tenant, sandbox.id),
    });
    plan.push(Step::Freeze(container.to_owned()), "files and workspace must be of one moment");
    plan.push(Step::CommitImage(commit.clone()), format!("{} is made of both", work.snapshot));
    let goes_on = matches!(work.kind, WorkKind::Snapshot | WorkKind::Checkpoint) && sandbox.frozen_since.is_none();
    if goes_on {
        plan.push(Step::Thaw(container.to_owned()), "the sandbox goes on");
    }
    plan.push(Step::PushImage(commit), "it must outlive this host");
    plan.push(Step::RecordSnapshot, "from here on it is what the sandbox can come back from");
}

/// A pause after its snapshot is safe: nothing may be left on the host.
fn leave(plan: &mut Plan, facts: WorkFacts<'_>) {
    let sandbox = facts.sandbox;
    for seen in facts.here.iter().filter(|seen| is_ours(seen, facts)) {
        plan.push(Step::RemoveContainer(seen.id.clone()), "its snapshot is safe");
    }
    let workspace = naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session, sandbox.generation);
    plan.push(Step::RemoveWorkspace(workspace), "it is in the snapshot");
    plan.push(Step::Commit(Phase::Paused, String::new()), "it holds no room any more");
}

/// A migration after its snapshot is safe. The source stands still until the switch and is what is gone back to if anything fails.
fn arrive(plan: &mut Plan, facts: WorkFacts<'_>, work: &Work, source: &str) {
    let sandbox = facts.sandbox;
    let (Some(target), Some(assignment)) = (facts.target, work.target) else { return };
    let Some(image) = snapshot_image(facts.cluster, facts.snapshot) else { return };
    let plain = container_plan((facts.cluster, facts.policy), sandbox, assignment.generation, target, Some(&image));
    let container = ContainerPlan { operation: work.operation, ..plain };
    let name = container.name.clone();
    // An earlier migration that was given up has the same generation, and older files.
    let stale = |seen: &&ContainerSeen| is_ours(seen, facts) && seen.operation != Some(work.operation);
    let mut stale = facts.there.iter().filter(stale).peekable();
    if stale.peek().is_some() {
        for seen in stale {
            plan.push_there(Step::RemoveContainer(seen.id.clone()), "a move that was given up left it");
        }
        plan.push_there(Step::RemoveWorkspace(container.workspace.clone()), "a move that was given up left it");
    }
    plan.push_there(Step::PullImage(Box::new(image)), format!("the sandbox starts from it on {}", target.name));
    plan.push_there(Step::CreateContainer(Box::new(container)), format!("generation {}", assignment.generation));
    plan.push(Step::Freeze(source.to_owned()), "never do two copies run");
    plan.push_there(Step::StartContainer(name.clone()), "the source stands still");
    if sandbox.spec.sealed_env.is_some() {
        plan.push_there(Step::WriteSecrets(name), "secrets live in memory only");
    }
    plan.push_there(
        Step::AwaitReady(sandbox.spec.ports.iter().copied().collect()),
        "callers are told where its ports are",
    );
    plan.push(Step::Switch, "from here on it is there");
    plan.push(Step::RemoveContainer(source.to_owned()), "it is not here any more");
    let workspace = naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session, sandbox.generation);
    plan.push(Step::RemoveWorkspace(workspace), "it is not here any more");
}

/// The steps that give an operation up and leave the sandbox as it was.
#[must_use]
pub fn undo(facts: WorkFacts<'_>, reason: &str) -> Plan {
    let mut plan = Plan::default();
    let sandbox = facts.sandbox;
    let (Some(work), Some(container)) = (&sandbox.work, sandbox.container.as_deref()) else { return plan };
    if let Some(target) = work.target {
        for seen in facts.there.iter().filter(|seen| is_ours(seen, facts)) {
            plan.push_there(Step::RemoveContainer(seen.id.clone()), "it must not run beside the source");
        }
        let workspace = naming::workspace(facts.policy, &sandbox.tenant, &sandbox.session, target.generation);
        plan.push_there(Step::RemoveWorkspace(workspace), "it goes with its container");
    }
    if sandbox.frozen_since.is_none() {
        plan.push(Step::Thaw(container.to_owned()), "the sandbox goes on as it was");
    }
    plan.push(Step::GiveUp(reason.to_owned()), "it runs again");
    plan
}

fn is_ours(seen: &ContainerSeen, facts: WorkFacts<'_>) -> bool {
    seen.cluster == Some(facts.cluster) && seen.sandbox == Some(facts.sandbox.id)
}
