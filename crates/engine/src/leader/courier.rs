//! News of many sandboxes in few log entries: what jobs report while earlier reports are being committed goes together in the next.
//!
//! It changes nothing of what is proposed or answered, only in how many entries: each item is judged by itself.

use crate::node::Node;
use futures_util::{StreamExt, stream::FuturesUnordered};
use plimsoll_lifecycle::ports::{Ledger, LedgerError};
use plimsoll_state::{Command, Outcome, Refusal, command::Advance};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

/// Items in one log entry: larger ones hold up apply.
const BATCH: usize = 256;
/// Entries under way at once: the second does not wait for the first one's flush, and the rest gathers.
const ENTRIES_IN_FLIGHT: usize = 2;
/// From one entry to the next: placements wait behind each entry's flush, and a report that came alone needs none of its own. The first
/// after a while goes at once, and a full one too.
const APART: Duration = Duration::from_millis(5);
/// Reports that wait here: more than there are jobs. Whoever comes then waits.
const WAITING: usize = 1024;

/// What a report came to.
pub(crate) type Answer = Result<Result<(), Refusal>, LedgerError>;

struct Report {
    news: Advance,
    reply: oneshot::Sender<Answer>,
}

/// Where reports are handed in while this node leads.
#[derive(Default)]
pub(crate) struct Courier(Mutex<Option<mpsc::Sender<Report>>>);

/// Keeps it open; dropping it closes it.
struct Open<'a>(&'a Courier);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

impl Courier {
    fn set(&self, sender: Option<mpsc::Sender<Report>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }

    /// Commits one piece of news: together with others while this node leads, else by itself.
    pub(crate) async fn report(&self, ledger: &dyn Ledger, news: Advance) -> Answer {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return alone(ledger, news).await };
        let (reply, answer) = oneshot::channel();
        if let Err(refused) = sender.send(Report { news, reply }).await {
            return alone(ledger, refused.0.news).await;
        }
        // The lead is over: whether it was committed shows in state.
        answer.await.unwrap_or_else(|_| Err(LedgerError::NoQuorum("this node does not lead any more".into())))
    }
}

async fn alone(ledger: &dyn Ledger, news: Advance) -> Answer {
    let outcome = ledger.propose(Command::Advance(vec![news])).await?.outcome;
    Ok(each(outcome).next().unwrap_or(Ok(())))
}

/// The answers in order; a command that was refused as a whole answers all of them.
fn each(outcome: Outcome) -> Box<dyn Iterator<Item = Result<(), Refusal>> + Send> {
    match outcome {
        Outcome::Each(each) => Box::new(each.into_iter()),
        Outcome::Refused(refusal) => Box::new(std::iter::repeat_with(move || Err(refusal.clone()))),
        Outcome::Done | Outcome::HostAdded(_) | Outcome::KeyCreated(_) | Outcome::Placed(_) => {
            Box::new(std::iter::repeat_with(|| Ok(())))
        }
    }
}

/// Carries until dropped.
pub(crate) async fn run(node: Arc<Node>) {
    carry_all(node.ledger.as_ref(), &node.courier).await;
}

async fn carry_all(ledger: &dyn Ledger, courier: &Courier) {
    let (sender, mut reports) = mpsc::channel(WAITING);
    courier.set(Some(sender));
    let _open = Open(courier);
    let mut entries = FuturesUnordered::new();
    let mut waiting: VecDeque<Report> = VecDeque::new();
    let mut next = Instant::now();
    loop {
        while waiting.len() < BATCH
            && let Ok(report) = reports.try_recv()
        {
            waiting.push_back(report);
        }
        while entries.len() < ENTRIES_IN_FLIGHT
            && !waiting.is_empty()
            && (waiting.len() >= BATCH || next <= Instant::now())
        {
            entries.push(carry(ledger, waiting.drain(..waiting.len().min(BATCH)).collect()));
            next = Instant::now() + APART;
        }
        let due = !waiting.is_empty() && entries.len() < ENTRIES_IN_FLIGHT;
        tokio::select! {
            report = reports.recv(), if waiting.len() < BATCH => match report {
                Some(report) => waiting.push_back(report),
                None => return,
            },
            Some(()) = entries.next(), if !entries.is_empty() => {}
            () = time::sleep_until(next), if due => {}
        }
    }
}

async fn carry(ledger: &dyn Ledger, batch: Vec<Report>) {
    let (news, replies): (Vec<Advance>, Vec<oneshot::Sender<Answer>>) =
        batch.into_iter().map(|report| (report.news, report.reply)).unzip();
    // Nobody listening is no error: the job was given up, and state knows.
    match ledger.propose(Command::Advance(news)).await {
        Ok(applied) => {
            replies.into_iter().zip(each(applied.outcome)).for_each(|(reply, answer)| drop(reply.send(Ok(answer))))
        }
        Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use bytes::Bytes;
    use plimsoll_lifecycle::ports::{Applied, LeaderHandler, LeaderView};
    use plimsoll_state::State;
    use plimsoll_types::{Generation, NodeId, Phase, SandboxId, Timestamp};
    use tokio::sync::Semaphore;

    /// Notes how many items each entry has, holds it back until it may pass, and refuses the items of odd sandboxes.
    struct Slow {
        entries: Mutex<Vec<usize>>,
        may_pass: Semaphore,
    }

    #[async_trait]
    impl Ledger for Slow {
        fn node(&self) -> NodeId {
            NodeId(1)
        }
        async fn propose(&self, command: Command) -> Result<Applied, LedgerError> {
            let Command::Advance(items) = command else { panic!("{command:?}") };
            self.entries.lock().unwrap().push(items.len());
            self.may_pass.acquire().await.unwrap().forget();
            let judge = |news: &Advance| if news.generation.0 % 2 == 1 { Err(Refusal::GenerationPast) } else { Ok(()) };
            Ok(Applied { index: 1, outcome: Outcome::Each(items.iter().map(judge).collect()) })
        }
        async fn barrier(&self) -> Result<(), LedgerError> {
            Ok(())
        }
        fn read_with(&self, reader: &mut dyn FnMut(&State)) {
            reader(&State::default());
        }
        async fn changed(&self, seen: u64) -> u64 {
            std::future::pending::<()>().await;
            seen
        }
        fn leader(&self) -> LeaderView {
            LeaderView::default()
        }
        async fn leader_changed(&self, seen: LeaderView) -> LeaderView {
            std::future::pending::<()>().await;
            seen
        }
        async fn ask_leader(&self, _: Bytes) -> Result<Bytes, LedgerError> {
            Err(LedgerError::Closed)
        }
        fn serve_leader(&self, _: Arc<dyn LeaderHandler>) {}
    }

    fn news(n: u64) -> Advance {
        Advance {
            sandbox: SandboxId::from_parts(1, n.into()),
            generation: Generation(n),
            to: Phase::Running,
            container: None,
            endpoints: Vec::new(),
            release: false,
            reason: "".into(),
            at: Timestamp(1),
        }
    }

    #[tokio::test]
    async fn what_is_reported_while_entries_are_under_way_shares_the_next_and_each_gets_its_own_answer() {
        let ledger = Slow { entries: Mutex::default(), may_pass: Semaphore::new(0) };
        let courier = Courier::default();
        let reports = async {
            let all: Vec<_> = (0..10).map(|n| courier.report(&ledger, news(n))).collect();
            let all = futures_util::future::join_all(all);
            let release = async {
                // Everything that can happen without the ledger has happened.
                while ledger.entries.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
                ledger.may_pass.add_permits(10);
            };
            tokio::join!(all, release).0
        };
        let answers = tokio::select! {
            biased;
            () = carry_all(&ledger, &courier) => unreachable!("it carries until dropped"),
            answers = reports => answers,
        };
        for (n, answer) in answers.into_iter().enumerate() {
            let expected = if n % 2 == 1 { Err(Refusal::GenerationPast) } else { Ok(()) };
            assert_eq!(answer, Ok(expected), "report {n}");
        }
        let entries = ledger.entries.lock().unwrap().clone();
        assert_eq!(entries.iter().sum::<usize>(), 10);
        assert!(entries.len() <= 3, "{entries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_report_goes_at_once_and_those_that_follow_shortly_share_an_entry() {
        let ledger = Slow { entries: Mutex::default(), may_pass: Semaphore::new(10) };
        let courier = Courier::default();
        let began = Instant::now();
        let reports = async {
            courier.report(&ledger, news(0)).await.unwrap().unwrap();
            let first = began.elapsed();
            let late = (1..4_u32).map(|n| async move {
                time::sleep(APART / 4 * n).await;
                n
            });
            let carried = late.map(|late| async {
                let n = late.await;
                courier.report(&ledger, news(u64::from(2 * n))).await.unwrap().unwrap();
            });
            futures_util::future::join_all(carried).await;
            (first, began.elapsed())
        };
        let (first, all) = tokio::select! {
            biased;
            () = carry_all(&ledger, &courier) => unreachable!("it carries until dropped"),
            took = reports => took,
        };
        assert_eq!(*ledger.entries.lock().unwrap(), [1, 3]);
        assert!(first < APART && all < APART * 2, "{first:?}, {all:?}");
    }

    #[tokio::test]
    async fn a_node_that_does_not_lead_proposes_by_itself() {
        let ledger = Slow { entries: Mutex::default(), may_pass: Semaphore::new(1) };
        assert_eq!(Courier::default().report(&ledger, news(2)).await, Ok(Ok(())));
        assert_eq!(*ledger.entries.lock().unwrap(), [1]);
    }
}
