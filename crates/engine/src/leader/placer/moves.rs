//! Hosts for sandboxes that exist: resumed, restored, moved. What is decided here is judged again by apply, as every decision.

use super::{Answer, Placing, batch::Entry};
use crate::{
    Error,
    leader::{
        desk::{MigrateWish, MoveQuery, RestoreWish, ResumeWish},
        hold,
        yard::{ARCHITECTURE, request, request_to_move},
    },
    questions::WireExplained,
    request::no_such_sandbox,
};
use plimsoll_placement::{Rejection, Request};
use plimsoll_state::{
    Assignment, Command, Sandbox, WorkKind,
    command::{Assign, Begin, RestoreFrom},
};
use plimsoll_types::{Code, Generation, HostId, Phase, SandboxId, SnapshotId};
use std::sync::Arc;

impl Placing {
    /// Gives a paused sandbox a host: the one that has its snapshot, if it fits there.
    pub(super) fn resume(&mut self, wish: &ResumeWish, reply: impl FnOnce(Result<HostId, Error>) + Send + 'static) {
        let chosen = self.existing(wish.sandbox, Phase::Paused).and_then(|sandbox| {
            let (request, near) = self.ask_from(&sandbox, sandbox.base);
            let generation = sandbox.generation.next();
            Ok((self.near(&sandbox, generation, &request, near, wish.to)?, generation))
        });
        self.assign(wish.sandbox, chosen, wish.deadline, None, reply);
    }

    /// Gives a sandbox on a lost host another one.
    pub(super) fn restore(&mut self, wish: &RestoreWish, reply: impl FnOnce(Result<HostId, Error>) + Send + 'static) {
        let chosen = self.existing(wish.sandbox, Phase::Lost).and_then(|sandbox| {
            let (request, near) = self.ask_from(&sandbox, Some(wish.snapshot));
            let generation = sandbox.generation.next();
            Ok((self.near(&sandbox, generation, &request, near, None)?, generation))
        });
        let from = RestoreFrom { snapshot: wish.snapshot, last_seen: wish.last_seen };
        self.assign(wish.sandbox, chosen, None, Some(from), reply);
    }

    /// Chooses where a running sandbox goes, and begins the move.
    pub(super) fn migrate(&mut self, wish: MigrateWish, reply: impl FnOnce(Result<HostId, Error>) + Send + 'static) {
        let chosen = self.existing(wish.sandbox, Phase::Running).and_then(|sandbox| {
            if sandbox.generation != wish.generation {
                return Err(Error::new(Code::Conflict, Code::Conflict.meaning()).about(sandbox.id));
            }
            let request = self.node.read(|state| request_to_move(state, &sandbox));
            let generation = sandbox.generation.next();
            let here = sandbox.assignment.map(|assignment| assignment.host);
            match wish.to {
                Some(to) if Some(to) == here => Err(same_host(sandbox.id)),
                Some(to) => self.on(to, sandbox.id, generation, &request),
                None => self
                    .yard
                    .choose_but(here.as_slice(), sandbox.id, generation, &request)
                    .map_err(|refusal| nowhere(refusal.map(|refusal| refusal.to_string()))),
            }
        });
        let host = match chosen {
            Ok(host) => host,
            Err(error) => return reply(Err(error)),
        };
        let at = self.node.now();
        let budget = self.node.read(|state| state.policy.work_budget);
        let begin = Begin {
            sandbox: wish.sandbox,
            generation: wish.generation,
            operation: wish.operation,
            kind: WorkKind::Migrate,
            snapshot: wish.snapshot,
            name: None,
            to: Some(host),
            if_deadline: None,
            deadline: at.plus(budget),
            at,
        };
        let answer: Answer = Box::new(move |answer| reply(answer.map(|()| host)));
        let entry = Entry::Assigned { sandboxes: vec![wish.sandbox], reply: Some(answer) };
        self.propose(Command::Begin(Box::new(begin)), entry);
    }

    /// Says where a sandbox that exists would go; nothing is taken.
    pub(super) fn explain_move(&mut self, query: &MoveQuery) -> Result<WireExplained, Error> {
        self.yard.follow(&self.node, &self.leading.loads);
        let sandbox = self.node.read(|state| state.sandboxes.get(&query.sandbox).cloned());
        let sandbox = sandbox.ok_or_else(|| no_such_sandbox(query.sandbox))?;
        let here = sandbox.assignment.map(|assignment| assignment.host);
        let request = self.node.read(|state| match here {
            Some(_) => request_to_move(state, &sandbox),
            None => request(state, &sandbox.spec, &sandbox.tenant, sandbox.base),
        });
        let admits = |host| Some(host) != here && query.to.is_none_or(|to| to == host);
        Ok(self.yard.explain(&request, admits))
    }

    /// The sandbox, if it is in this phase and nothing is decided for it already.
    fn existing(&mut self, id: SandboxId, phase: Phase) -> Result<Arc<Sandbox>, Error> {
        hold::refuse(&self.node)?;
        self.yard.follow(&self.node, &self.leading.loads);
        let sandbox = self.node.read(|state| state.sandboxes.get(&id).cloned()).ok_or_else(|| no_such_sandbox(id))?;
        if self.yard.is_in_flight(id) {
            return Err(Error::new(Code::Conflict, "a host is being chosen for it already").about(id));
        }
        if let Some(work) = &sandbox.work {
            let message = format!("{} of {id} is under way as {}; wait for it", work.kind, work.operation);
            return Err(Error::new(Code::OperationUnderWay, message).about(id));
        }
        if sandbox.phase != phase {
            let message = format!("{id} is {}; this works only while it is {phase}", sandbox.phase);
            return Err(Error::new(Code::WrongPhase, message).about(id));
        }
        Ok(sandbox)
    }

    /// What is asked for a start from a snapshot, and the host that has its layers.
    fn ask_from(&self, sandbox: &Sandbox, base: Option<SnapshotId>) -> (Request, Option<HostId>) {
        self.node.read(|state| {
            let stored = base.and_then(|base| state.snapshots.get(&base)).and_then(|it| it.stored.as_ref());
            (request(state, &sandbox.spec, &sandbox.tenant, base), stored.map(|stored| stored.host))
        })
    }

    fn near(
        &mut self,
        sandbox: &Sandbox,
        generation: Generation,
        request: &Request,
        near: Option<HostId>,
        to: Option<HostId>,
    ) -> Result<HostId, Error> {
        if let Some(to) = to {
            return self.on(to, sandbox.id, generation, request);
        }
        let chosen = near.and_then(|near| self.yard.choose_on(near, sandbox.id, generation, request).ok());
        chosen
            .or_else(|| self.yard.choose(sandbox.id, generation, request))
            .ok_or_else(|| nowhere(Some(self.yard.refusal(request).to_string())))
    }

    fn on(&mut self, to: HostId, id: SandboxId, generation: Generation, request: &Request) -> Result<HostId, Error> {
        self.yard.choose_on(to, id, generation, request).map_err(|rejection| match rejection {
            Some(rejection) => unfit(rejection, self.node.read(|state| name_of(state, to))).about(id),
            None => Error::new(Code::HostNotFound, format!("there is no {to}")).about(id),
        })
    }

    fn assign(
        &mut self,
        sandbox: SandboxId,
        chosen: Result<(HostId, Generation), Error>,
        deadline: Option<plimsoll_types::Timestamp>,
        restore: Option<RestoreFrom>,
        reply: impl FnOnce(Result<HostId, Error>) + Send + 'static,
    ) {
        let (host, generation) = match chosen {
            Ok(chosen) => chosen,
            Err(error) => return reply(Err(error)),
        };
        let assignment = Assignment { host, generation };
        let assign = Assign { sandbox, assignment, deadline, restore, at: self.node.now() };
        let answer: Answer = Box::new(move |answer| reply(answer.map(|()| host)));
        self.propose(Command::Assign(vec![assign]), Entry::Assigned { sandboxes: vec![sandbox], reply: Some(answer) });
    }
}

fn name_of(state: &plimsoll_state::State, host: HostId) -> String {
    state.hosts.get(&host).map_or_else(|| host.to_string(), |host| host.name.to_string())
}

fn unfit(rejection: Rejection, host: String) -> Error {
    let code = match &rejection {
        Rejection::Constraint(plimsoll_types::Constraint::Equals { key, .. }) if **key == *ARCHITECTURE => {
            Code::ArchitectureMismatch
        }
        Rejection::Lost
        | Rejection::Unreachable
        | Rejection::Cordoned
        | Rejection::Quarantined
        | Rejection::Constraint(_)
        | Rejection::Runtime(_)
        | Rejection::AntiAffinity(_)
        | Rejection::Cpu
        | Rejection::Memory
        | Rejection::Disk
        | Rejection::MeasuredMemory
        | Rejection::CpuPressure
        | Rejection::MemoryPressure
        | Rejection::IoPressure
        | Rejection::DiskFull
        | Rejection::Inodes => Code::NoCapacity,
    };
    Error::new(code, format!("host {host} does not take it: {rejection}"))
}

fn nowhere(refusal: Option<String>) -> Error {
    let sentence = refusal.filter(|text| !text.is_empty());
    Error::new(Code::NoCapacity, sentence.unwrap_or_else(|| "there is no other host".to_owned()))
}

fn same_host(id: SandboxId) -> Error {
    Error::new(Code::SameHost, format!("{id} is on that host already; name another, or none")).about(id)
}
