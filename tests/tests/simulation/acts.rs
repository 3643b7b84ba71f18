//! What the platform asks of a sandbox that is there, and what it remembers of the answers.

use super::world::{BUDGET, World, sandbox};
use futures_util::stream;
use plimsoll_engine::{ClusterOperations, Error, NewSandbox, SandboxProvider, Scope, Wait};
use plimsoll_lifecycle::ports::{ByteStream, WriteOptions};
use plimsoll_state::Snapshot;
use plimsoll_testkit::sim::SimHost;
use plimsoll_types::{HostId, HostLossPolicy, Millis, Phase, SandboxId, SnapshotName};
use std::sync::Arc;

const WAIT: Wait = Wait::Upto(BUDGET);

/// A sandbox with a secret, so that every start has to bring it again.
pub(crate) fn secretive(session: &str) -> NewSandbox {
    let mut request = sandbox(session);
    request.secret_env.0.insert("TOKEN".into(), "secret".into());
    request
}

/// A sandbox that begins again elsewhere when its host is lost; with checkpoints so often.
pub(crate) fn restorable(session: &str, checkpoint_seconds: Option<u64>) -> NewSandbox {
    let mut request = secretive(session);
    request.spec.on_host_loss = HostLossPolicy::Restore;
    request.spec.checkpoint_every = checkpoint_seconds.map(Millis::secs);
    request
}

impl World {
    /// Writes a new file with a number in it; if the caller was told that it is there, the oracle remembers.
    pub(crate) async fn write(&self, first: usize, id: SandboxId, folder: &str) -> Result<(), Error> {
        let number = self.number();
        let path = format!("{folder}/n{number}");
        let standing = || {
            let state = self.cluster.committed();
            let sandbox = state.sandboxes.get(&id).filter(|sandbox| sandbox.phase == Phase::Running);
            sandbox.map(|sandbox| (sandbox.generation, sandbox.container.clone()))
        };
        let before = standing();
        let answer = self
            .call(first, async |it| {
                let body: ByteStream = Box::pin(stream::iter([Ok(number.to_string().into())]));
                it.write_file(&Scope::All, id, &path, WriteOptions::default(), body).await
            })
            .await;
        self.note(format!("write {path} in {id}: {answer:?}"));
        // What is told while the sandbox changes its place may be of either.
        if answer.is_ok() && before.is_some() && before == standing() {
            self.oracle.written(id, &path, number, self.now());
        }
        answer
    }

    /// A file in the workspace and one outside of it.
    pub(crate) async fn write_both(&self, id: SandboxId) {
        for folder in ["/workspace", "/opt"] {
            self.write(1, id, folder).await.expect("written");
        }
    }

    pub(crate) async fn pause(&self, first: usize, id: SandboxId) -> Result<(), Error> {
        let answer = self.call(first, async |it| it.pause(&Scope::All, id, WAIT).await).await.map(drop);
        self.note(format!("pause {id}: {answer:?}"));
        answer
    }

    pub(crate) async fn resume(&self, first: usize, id: SandboxId, to: Option<&str>) -> Result<(), Error> {
        let answer = self.call(first, async |it| it.resume(&Scope::All, id, to, None, WAIT).await).await.map(drop);
        self.note(format!("resume {id} on {to:?}: {answer:?}"));
        answer
    }

    pub(crate) async fn migrate(&self, first: usize, id: SandboxId, to: Option<&str>) -> Result<(), Error> {
        let answer = self.call(first, async |it| it.migrate(&Scope::All, id, to, WAIT).await).await.map(drop);
        self.note(format!("migrate {id} to {to:?}: {answer:?}"));
        answer
    }

    pub(crate) async fn snapshot(
        &self,
        first: usize,
        id: SandboxId,
        name: Option<&str>,
    ) -> Result<Arc<Snapshot>, Error> {
        let name = name.map(|name| SnapshotName::new(name).expect("a name"));
        let answer = self.call(first, async |it| it.snapshot(&Scope::All, id, name.clone(), WAIT).await).await;
        self.note(format!("snapshot {id}: {:?}", answer.as_ref().map(|it| it.id)));
        answer
    }

    pub(crate) async fn freeze(&self, first: usize, id: SandboxId, frozen: bool) -> Result<(), Error> {
        let answer = self.call(first, async |it| it.freeze(&Scope::All, id, frozen).await).await.map(drop);
        self.note(format!("freeze {id} {frozen}: {answer:?}"));
        answer
    }

    /// Deletes the oldest snapshot that was taken of a sandbox, if there is one.
    pub(crate) async fn delete_one_of(&self, first: usize, id: SandboxId) {
        let state = self.cluster.committed();
        let Some(snapshot) = state.snapshots_of(id).next().map(|snapshot| snapshot.id) else { return };
        let answer = self.call(first, async |it| it.delete_snapshot(&Scope::All, snapshot).await).await;
        self.note(format!("delete {snapshot} of {id}: {answer:?}"));
    }

    /// The id of a machine's host.
    pub(crate) async fn host_id(&self, machine: &SimHost) -> HostId {
        self.provider(self.follower()).host(machine.name()).await.expect("a known host").host.id
    }

    /// The machine that a sandbox has room on.
    pub(crate) fn home(&self, id: SandboxId) -> SimHost {
        let state = self.cluster.committed();
        let assignment = self.record(id).assignment.expect("a host");
        self.fleet.at(&state.hosts[&assignment.host].address).expect("a machine")
    }

    /// How many containers of it there are, on all hosts.
    pub(crate) fn copies(&self, id: SandboxId) -> usize {
        let of = |host: &SimHost| host.containers().iter().filter(|found| found.seen.sandbox == Some(id)).count();
        self.fleet.hosts().iter().map(of).sum()
    }

    /// Whether no host has anything of it: containers, or volumes.
    pub(crate) fn is_nowhere(&self, id: SandboxId) -> bool {
        let session = self.record(id).session.to_string();
        self.fleet.hosts().iter().all(|host| {
            host.containers().iter().all(|found| found.seen.sandbox != Some(id))
                && host.volumes().keys().all(|volume| !volume.contains(&session))
        })
    }
}
