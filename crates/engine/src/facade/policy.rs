//! The cluster's policy, as operators read and replace it.

use super::VpsClusterProvider;
use crate::{Error, policy, spec};
use plimsoll_state::{Command, Outcome, Policy, Refusal, command::SetPolicy};
use plimsoll_types::Code;

impl VpsClusterProvider {
    pub(super) async fn policy_in_force(&self) -> Result<Policy, Error> {
        self.barrier().await?;
        Ok(self.node.read(|state| state.policy.clone()))
    }

    pub(super) async fn replace_policy(&self, policy: Policy, expected: Option<Policy>) -> Result<Policy, Error> {
        if let Some((field, rule)) = policy::faults(&policy).first() {
            return Err(spec::invalid(field, rule));
        }
        let set = SetPolicy { policy: policy.clone(), expected, at: self.node.now() };
        match self.node.ledger.propose(Command::SetPolicy(set)).await?.outcome {
            Outcome::Done => Ok(policy),
            Outcome::Refused(Refusal::Conflict) => Err(self.conflict(&policy)),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) | Outcome::Each(_) => {
                Err(Error::new(Code::Internal, "apply answered something else than a policy"))
            }
        }
    }

    /// Why apply refused: by what it saw, which this node has applied as well.
    fn conflict(&self, policy: &Policy) -> Error {
        if self.node.read(|state| state.may_rename(policy)) {
            return Error::new(
                Code::Conflict,
                "the policy was changed meanwhile; read it again and repeat your change",
            );
        }
        let message =
            "name_prefix and data_dir name containers and workspaces that exist; terminate every sandbox first";
        Error::new(Code::Conflict, message)
    }
}
