//! One node's engine: follows leadership, and runs the leader's loops exactly while this node leads.

use crate::{
    drivers::Drivers,
    facade::VpsClusterProvider,
    leader::{
        self,
        courier::Courier,
        desk::{Desk, Handler},
        leading::Shown,
        stillness::Stillness,
    },
    node::Node,
    options::EngineOptions,
    sessions::{self, Sessions},
};
use plimsoll_lifecycle::ports::{Clock, Dial, Ledger};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The engine of one node. It does nothing until it is run.
pub struct Engine {
    node: Arc<Node>,
}

impl Engine {
    /// Makes the engine and the façade that works on this node, whoever leads.
    #[must_use]
    pub fn new(
        options: EngineOptions,
        ledger: Arc<dyn Ledger>,
        dial: Arc<dyn Dial>,
        clock: Arc<dyn Clock>,
    ) -> (Self, Arc<VpsClusterProvider>) {
        let drivers = Drivers::new(dial);
        let (leading, sessions) = (Shown::default(), Sessions::default());
        let stillness = Stillness::default();
        let (desk, courier) = (Desk::new(), Courier::default());
        let executing = tokio::sync::Mutex::default();
        let node =
            Arc::new(Node { options, ledger, clock, drivers, desk, courier, leading, executing, stillness, sessions });
        node.ledger.serve_leader(Arc::new(Handler(Arc::downgrade(&node))));
        let provider = Arc::new(VpsClusterProvider::new(Arc::clone(&node)));
        (Self { node }, provider)
    }

    /// Runs until shut down. Whatever is under way on hosts when leadership or the process ends is dropped there; the next
    /// leader derives it again.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = sessions::report(Arc::clone(&self.node)) => {}
            () = self.follow(shutdown) => {}
        }
    }

    async fn follow(&self, shutdown: CancellationToken) {
        let ledger = Arc::clone(&self.node.ledger);
        let mut view = ledger.leader();
        while !shutdown.is_cancelled() {
            view = if view.is_self {
                let term = view.term;
                let over = async {
                    // Within one term this node leads once; any other view ends it.
                    let mut now = view;
                    while now.is_self && now.term == term {
                        now = ledger.leader_changed(now).await;
                    }
                    now
                };
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = leader::lead(Arc::clone(&self.node), term) => ledger.leader(),
                    next = over => {
                        tracing::info!(term, "not leading any more");
                        next
                    }
                }
            } else {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = ledger.leader_changed(view) => next,
                }
            };
        }
    }
}
