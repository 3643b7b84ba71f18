//! Reading sandboxes straight from the replicated state: filters and pages.

use crate::{
    auth::Caller,
    convert::sandbox::{self, Around},
    error::{Answer, ApiError},
    extract::Params,
    limits,
    options::Api,
};
use plimsoll_client::wire;
use plimsoll_engine::{Scope, request::no_such_sandbox};
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::{Sandbox, State};
use plimsoll_types::{HostId, Label, Phase, SandboxId, SessionId};
use std::{ops::Bound, sync::Arc};

/// Which sandboxes to list.
pub(crate) struct Filter {
    scope: Scope,
    session: Option<SessionId>,
    phases: Vec<Phase>,
    /// By name or id, as it was written: whether there is such a host is looked up with the records.
    host: Option<String>,
    labels: Vec<Label>,
    all: bool,
    limit: usize,
    after: Option<SandboxId>,
}

impl Filter {
    /// Takes a filter out of the query.
    pub(crate) fn read(caller: &Caller, params: &mut Params) -> Answer<Self> {
        let parse =
            |name: &str, text: &String| text.parse().map_err(|error| ApiError::field(format!("?{name}"), error));
        let phases = params
            .all("phase")
            .iter()
            .flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        let mut labels = Vec::new();
        for name in ["label", "metadata"] {
            for text in params.all(name) {
                labels.push(parse(name, &text)?);
            }
        }
        let limit = params.page()?;
        Ok(Self {
            scope: caller.scope(),
            session: params.get("session")?,
            phases: phases
                .iter()
                .map(|text| text.parse().map_err(|error| ApiError::field("?phase", error)))
                .collect::<Answer<_>>()?,
            host: params.text("host")?,
            labels,
            all: params.flag("all")?,
            limit,
            after: params.get("after")?,
        })
    }

    fn matches(&self, record: &Sandbox, on: Option<HostId>) -> bool {
        let phase = if self.phases.is_empty() {
            self.all || record.phase != Phase::Terminated
        } else {
            self.phases.contains(&record.phase)
        };
        phase
            && self.scope.allows(&record.tenant)
            && self.session.as_ref().is_none_or(|session| *session == record.session)
            && on.is_none_or(|host| record.assignment.is_some_and(|assignment| assignment.host == host))
            && self.labels.iter().all(|label| record.spec.labels.get(&label.key) == Some(&label.value))
    }
}

/// The host of this name or id.
fn host(api: &Api, name: Option<&str>) -> Answer<Option<HostId>> {
    let Some(name) = name else { return Ok(None) };
    let found = ledger::read(api.options.ledger.as_ref(), |state| {
        state.hosts.values().find(|host| host.name.as_str() == name || host.id.to_string() == name).map(|host| host.id)
    });
    let missing = || {
        ApiError::new(
            plimsoll_types::Code::HostNotFound,
            format!("no host {name:?}; `plimsoll host ls` shows those there are"),
        )
    };
    found.map(Some).ok_or_else(missing)
}

/// A page, gathered in short reads so that apply is never held up for long. Whoever wants it linearizable has a barrier behind them.
pub(crate) async fn page(api: &Api, filter: &Filter) -> Answer<wire::Page<wire::Sandbox>> {
    let on = host(api, filter.host.as_deref())?;
    let mut found: Vec<Arc<Sandbox>> = Vec::new();
    let mut after = filter.after;
    let mut more = true;
    // One more than asked for says whether there is a next page.
    while more && found.len() <= filter.limit {
        more = ledger::read(api.options.ledger.as_ref(), |state| scan(state, filter, on, &mut after, &mut found));
        tokio::task::yield_now().await;
    }
    let next = (found.len() > filter.limit).then(|| {
        found.truncate(filter.limit);
        found.last().map(|record| record.id.to_string())
    });
    let now = api.options.clock.now();
    let around: Vec<Around> =
        ledger::read(api.options.ledger.as_ref(), |state| found.iter().map(|it| Around::of(state, it, now)).collect());
    let items = found.iter().zip(&around).map(|(record, around)| sandbox::with(record, around)).collect();
    Ok(wire::Page { items, next: next.flatten() })
}

/// Looks at the next records; whether there may be more.
fn scan(
    state: &State,
    filter: &Filter,
    on: Option<HostId>,
    after: &mut Option<SandboxId>,
    found: &mut Vec<Arc<Sandbox>>,
) -> bool {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut seen = 0;
    for (id, record) in state.sandboxes.range((from, Bound::Unbounded)).take(limits::SCAN) {
        (*after, seen) = (Some(*id), seen + 1);
        if filter.matches(record, on) {
            found.push(record.clone());
            if found.len() > filter.limit {
                return false;
            }
        }
    }
    seen == limits::SCAN
}

/// One sandbox as this node has it.
pub(crate) fn one(api: &Api, scope: &Scope, id: SandboxId) -> Answer<wire::Sandbox> {
    let now = api.options.clock.now();
    let found = ledger::read(api.options.ledger.as_ref(), |state| {
        let record = state.sandboxes.get(&id).filter(|record| scope.allows(&record.tenant))?;
        Some((record.clone(), Around::of(state, record, now)))
    });
    found.map(|(record, around)| sandbox::with(&record, &around)).ok_or_else(|| no_such_sandbox(id).into())
}
