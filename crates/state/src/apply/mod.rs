//! How each command changes state: one file a group of commands, each command a total function. Nothing here reads a
//! clock, draws a number or fails: what no longer holds is answered with a [`Refusal`].

mod advance;
mod assign;
mod begin;
mod cluster;
mod deadline;
mod entry;
mod fit;
mod forget;
mod freeze;
mod hold;
mod host_care;
mod hosts;
mod joins;
mod keys;
mod place;
mod records;
mod snapshots;
mod takeover;
mod terminate;
mod transfer;

pub use cluster::EVENTS_LIMIT;
pub use forget::FORGET_AT_ONCE;
pub use hold::DEADLINE_GRACE;
pub use hosts::HOSTS_LIMIT;
pub use joins::{JOIN_TOKEN_MARGIN, JOIN_TOKENS_LIMIT};
pub use keys::KEYS_LIMIT;
pub use place::{IDEMPOTENCY_LIMIT, SANDBOXES_LIMIT};
pub use snapshots::SNAPSHOTS_LIMIT;

use crate::{Command, Outcome, Refusal, State};
use entry::Entry;
pub(crate) use entry::trim;

impl State {
    /// Applies one command at a raft index. Total and deterministic: the same state and command give the same new state
    /// and outcome on every node. Until the cluster has its identity, every command but the one that gives it is refused.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        self.applied = index;
        if self.cluster.is_none() && !matches!(command, Command::InitCluster(_)) {
            return Outcome::Refused(Refusal::Cluster);
        }
        if self.hold.is_some() && command.acts() {
            return Outcome::Refused(Refusal::OnHold);
        }
        let entry = &mut Entry::new(index);
        let outcome = match command {
            Command::InitCluster(init) => cluster::initialise(self, entry, init),
            Command::SetPolicy(set) => cluster::set_policy(self, entry, set),
            Command::AddHost(add) => hosts::add(self, entry, add),
            Command::ReportHost(report) => hosts::note(self, entry, report),
            Command::RemoveHost(remove) => hosts::remove(self, entry, remove),
            Command::CordonHost(cordon) => host_care::cordon(self, entry, cordon),
            Command::DrainHost(drain) => host_care::drain(self, entry, drain),
            Command::LabelHost(label) => host_care::label(self, entry, label),
            Command::PriceHost(price) => host_care::price(self, entry, price),
            Command::NoteDisk(note) => host_care::note_disk(self, entry, note),
            Command::QuarantineHost(quarantine) => host_care::quarantine(self, entry, quarantine),
            Command::Place(items) => Ok(Outcome::Placed(items.iter().map(|i| place::one(self, entry, i)).collect())),
            Command::Assign(items) => Ok(Outcome::Each(items.iter().map(|i| assign::one(self, entry, i)).collect())),
            Command::Advance(items) => Ok(Outcome::Each(items.iter().map(|i| advance::one(self, entry, i)).collect())),
            Command::Terminate(items) => {
                Ok(Outcome::Each(items.iter().map(|i| terminate::one(self, entry, i)).collect()))
            }
            Command::Begin(item) => begin::start(self, entry, item),
            Command::Taken(item) => transfer::record(self, entry, item),
            Command::Switch(item) => transfer::switch(self, entry, item),
            Command::GiveUp(item) => begin::give_up(self, entry, item),
            Command::Freeze(item) => freeze::set(self, entry, item),
            Command::DeleteSnapshots(items) => {
                Ok(Outcome::Each(items.iter().map(|i| snapshots::delete(self, entry, i)).collect()))
            }
            Command::ForgetSnapshots(item) => Ok(snapshots::forget(self, entry, item)),
            Command::SetDeadline(set) => deadline::set(self, entry, set),
            Command::Forget(ids) => Ok(forget::sandboxes(self, ids)),
            Command::ForgetIdempotency(forget) => Ok(forget::idempotency(self, forget)),
            Command::CreateKey(key) => keys::create(self, entry, key),
            Command::RevokeKey(revoke) => keys::revoke(self, entry, revoke),
            Command::SpendJoinToken(spend) => joins::spend(self, entry, spend),
            Command::SetHold(set) => Ok(hold::set(self, entry, set)),
            Command::TakeOver(item) => takeover::take(self, entry, item),
            Command::WriteOff(items) => {
                Ok(Outcome::Each(items.iter().map(|i| takeover::drop(self, entry, i)).collect()))
            }
        };
        outcome.unwrap_or_else(Outcome::Refused)
    }
}
