//! `VpsClusterProvider`: everything the surfaces talk to. It works on any node; what only the leader can decide it asks there.

mod checks;
mod draining;
mod drifting;
mod holding;
mod hosts;
mod keys;
mod leaving;
mod lookups;
mod operations;
mod placing;
mod policy;
mod resuming;
mod sandboxes;
mod snapshots;
mod target;
mod waiting;

use crate::{
    Error,
    node::Node,
    questions::{Answer, Question, decode, encode},
};
use plimsoll_types::Code;
use std::{sync::Arc, time::Duration};
use tokio::time;

/// How long a question is put again while no leader answers: longer than an election.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The façade of one node.
pub struct VpsClusterProvider {
    node: Arc<Node>,
    lookups: lookups::Lookups,
}

impl VpsClusterProvider {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, lookups: lookups::Lookups::default() }
    }

    /// Returns once this node shows everything that was acknowledged before.
    async fn barrier(&self) -> Result<(), Error> {
        Ok(self.node.ledger.barrier().await?)
    }

    /// Asks the leader, again while there is none. Only for questions that may be asked twice.
    async fn ask(&self, question: &Question) -> Result<Answer, Error> {
        let bytes = encode(question)?;
        let began = time::Instant::now();
        loop {
            let answer = match self.node.ledger.ask_leader(bytes.clone()).await {
                Ok(answer) => match decode(&answer)?.body {
                    Answer::Error(error) => Err(Error::from(error)),
                    answer @ (Answer::Placed(_)
                    | Answer::Explained(_)
                    | Answer::Loads(_)
                    | Answer::Host(_)
                    | Answer::Awake(_)
                    | Answer::Noted
                    | Answer::Left(_)
                    | Answer::Moves(_)) => Ok(answer),
                },
                Err(error) => Err(Error::from(error)),
            };
            match answer {
                Err(error) if error.code == Code::NoQuorum && began.elapsed() < PATIENCE => time::sleep(PAUSE).await,
                other => return other,
            }
        }
    }
}

/// The answer to another question: nodes that do not understand each other.
fn misunderstood() -> Error {
    Error::new(Code::Internal, "the leader answered another question; bring all nodes to one release")
}
