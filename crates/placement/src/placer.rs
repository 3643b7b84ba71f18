//! The placer: knows every host and every reservation in flight, decides where a sandbox goes, and takes the room.
//!
//! How room is accounted for: [`Placer::place`] takes it under a [`Ticket`], apart from what state has reserved. When the
//! log entry was applied, either [`Placer::confirm`] moves it into the host's reservations, or the host is upserted from
//! state (which has it now) and **then** the ticket is settled. When the entry was refused or dropped, settling gives the
//! room back. Between upsert and settle it counts twice, never zero times: nothing is oversold.

use crate::{
    candidate::Candidate,
    explanation::{Explanation, Refusal},
    filters,
    host::HostView,
    index::{Found, Index, Presence},
    rejection::Rejection,
    request::Request,
    score::Score,
    tickets::{Held, Ticket, Tickets},
};
use plimsoll_types::{HostId, MeasuredLoad};
use std::collections::BTreeMap;

/// Where a sandbox goes. The reservation is taken; the ticket says until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where.
    pub host: HostId,
    /// How good that was.
    pub score: Score,
    /// The reservation in flight.
    pub ticket: Ticket,
}

/// All hosts, all reservations in flight, and the index over them.
#[derive(Clone, Debug, Default)]
pub struct Placer {
    /// By slot: in the order of (price, id) while the index is in order.
    views: Vec<HostView>,
    /// By slot: places of the tickets on the host. Apart from the views, which a decision has no need to touch.
    on_host: Vec<Vec<u32>>,
    slots: BTreeMap<HostId, u32>,
    tickets: Tickets,
    index: Index,
    /// Whether slots or the index must be made anew before the next decision. Hosts come in bursts (a new leader learns of
    /// all of them), so the work is done once, when it is needed.
    out_of_order: bool,
}

impl Placer {
    /// A placer that knows no host.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host, or replaces all that is known of it. Reservations in flight to it stay counted.
    pub fn upsert(&mut self, view: HostView) {
        let Some(&slot) = self.slots.get(&view.id) else {
            self.slots.insert(view.id, self.views.len() as u32);
            self.views.push(view);
            self.on_host.push(Vec::new());
            self.out_of_order = true;
            return;
        };
        let old = std::mem::replace(&mut self.views[slot as usize], view);
        let new = &self.views[slot as usize];
        // Nothing but these decides slots and selections; they change by an operator's hand, not by load.
        self.out_of_order |= old.price_milli_per_hour != new.price_milli_per_hour
            || old.labels != new.labels
            || old.runtimes != new.runtimes;
        if !self.out_of_order {
            self.index.replace(slot, &old, new);
            self.out_of_order = self.index.cluttered();
        }
    }

    /// Forgets a host and what is in flight to it: its tickets end here.
    pub fn remove(&mut self, host: HostId) {
        if let Some(slot) = self.slots.remove(&host) {
            self.views.remove(slot as usize);
            self.on_host.remove(slot as usize).into_iter().for_each(|index| self.tickets.end_at(index));
            for later in self.slots.values_mut().filter(|later| **later > slot) {
                *later -= 1;
            }
            self.out_of_order = true;
        }
    }

    /// Replaces a host's measured load. False if there is no such host.
    pub fn set_load(&mut self, host: HostId, measured: Option<MeasuredLoad>) -> bool {
        let Some(&slot) = self.slots.get(&host) else { return false };
        let view = &mut self.views[slot as usize];
        view.measured = measured;
        if !self.out_of_order {
            self.index.refresh(slot, view);
        }
        true
    }

    /// What is known of a host, without what is in flight to it.
    #[must_use]
    pub fn host(&self, host: HostId) -> Option<&HostView> {
        self.slots.get(&host).map(|slot| &self.views[*slot as usize])
    }

    /// Every host, without what is in flight.
    pub fn hosts(&self) -> impl Iterator<Item = &HostView> {
        self.slots.values().map(|slot| &self.views[*slot as usize])
    }

    /// How many decisions are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.tickets.len()
    }

    /// Decides, and takes the reservation as in flight.
    ///
    /// # Errors
    /// When no host fits: why, counted over all hosts (which costs a pass over them; [`Placer::try_place`] does without).
    pub fn place(&mut self, request: &Request) -> Result<Decision, Refusal> {
        self.try_place(request).ok_or_else(|| self.refusal(request))
    }

    /// As [`Placer::place`], without counting why not: for those who wait in the queue and ask again and again.
    pub fn try_place(&mut self, request: &Request) -> Option<Decision> {
        if self.out_of_order {
            self.put_in_order();
        }
        let found = self.index.find(request)?;
        Some(self.take(found, request))
    }

    /// Decides for one host, if it fits, and takes the reservation as in flight: for those who must or would rather go there.
    ///
    /// # Errors
    /// Why it does not fit; `None` if there is no such host.
    pub fn try_place_on(&mut self, host: HostId, request: &Request) -> Result<Decision, Option<Rejection>> {
        if self.out_of_order {
            self.put_in_order();
        }
        let slot = *self.slots.get(&host).ok_or(None)?;
        let candidate = self.candidates(request).nth(slot as usize).ok_or(None)?;
        if let Some(rejection) = filters::reject(&candidate) {
            return Err(Some(rejection));
        }
        let found = Found::named(slot, Score::of(&candidate), self.index.tenant(&request.tenant));
        Ok(self.take(found, request))
    }

    fn take(&mut self, found: Found, request: &Request) -> Decision {
        let (slot, host) = (found.slot, found.score.host);
        let tenant = self.index.take(found, request);
        let group = request.anti_affinity.clone();
        let ticket = self.tickets.issue(Held { host, resources: request.resources, tenant, group, slot });
        self.on_host[slot as usize].push(ticket.index());
        Decision { host, score: found.score, ticket }
    }

    /// Ends a ticket whose log entry was refused or never proposed, or which an upsert from state has made superfluous.
    /// False if it had ended before.
    pub fn settle(&mut self, ticket: Ticket) -> bool {
        self.end(ticket).is_some()
    }

    /// Ends a ticket whose log entry was applied, and counts it as reserved until the next upsert of its host says what
    /// is. False if it had ended before.
    pub fn confirm(&mut self, ticket: Ticket, request: &Request) -> bool {
        let Some(held) = self.end(ticket) else { return false };
        self.edit(held.host, request, |view| view.take(request));
        true
    }

    /// Counts the reservation of a sandbox that left its host as free. False if there is no such host.
    pub fn release(&mut self, host: HostId, request: &Request) -> bool {
        self.edit(host, request, |view| view.give_back(request))
    }

    /// A dry run: what each host is to this request. Nothing is taken.
    #[must_use]
    pub fn explain(&self, request: &Request) -> Explanation {
        Explanation::judge(request, self.candidates(request))
    }

    /// Why no host fits; meaningful when [`Placer::try_place`] has just said so.
    #[must_use]
    pub fn refusal(&self, request: &Request) -> Refusal {
        let reasons = self.candidates(request).filter_map(|candidate| filters::reject(&candidate));
        Refusal::count(request.resources, reasons)
    }

    fn candidates<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = Candidate<'a>> {
        let tenant = self.index.tenant(&request.tenant);
        self.views.iter().zip(&self.on_host).map(move |(view, tickets)| {
            let mut candidate = Candidate::of(view, request);
            for held in tickets.iter().filter_map(|index| self.tickets.get(*index)) {
                let same_group = held.group.is_some() && held.group == request.anti_affinity;
                candidate.add_in_flight(held.resources, Some(held.tenant) == tenant, same_group);
            }
            candidate
        })
    }

    fn edit(&mut self, host: HostId, request: &Request, change: impl FnOnce(&mut HostView)) -> bool {
        let Some(&slot) = self.slots.get(&host) else { return false };
        let view = &mut self.views[slot as usize];
        let before = Presence::of(view, request);
        change(view);
        if !self.out_of_order {
            self.index.shift(slot, request, before, Presence::of(view, request));
            self.index.refresh(slot, view);
        }
        true
    }

    fn end(&mut self, ticket: Ticket) -> Option<Held> {
        let held = self.tickets.end(ticket)?;
        let slot = if self.out_of_order { *self.slots.get(&held.host)? } else { held.slot };
        let on_host = self.on_host.get_mut(slot as usize)?;
        if let Some(position) = on_host.iter().position(|index| *index == ticket.index()) {
            on_host.swap_remove(position);
        }
        if !self.out_of_order {
            self.index.give_back(&held);
        }
        Some(held)
    }

    /// Sorts hosts into their slots and makes the index anew from views and tickets.
    fn put_in_order(&mut self) {
        self.views.sort_by_key(|view| (view.price_milli_per_hour, view.id));
        self.slots = self.views.iter().zip(0..).map(|(view, slot)| (view.id, slot)).collect();
        self.on_host.iter_mut().for_each(Vec::clear);
        for held in self.tickets.outstanding_mut() {
            if let Some(slot) = self.slots.get(&held.host) {
                held.slot = *slot;
            }
        }
        for (index, held) in self.tickets.outstanding() {
            self.on_host[held.slot as usize].push(index);
        }
        self.index.rebuild(&self.views, &mut self.tickets);
        self.out_of_order = false;
    }
}
