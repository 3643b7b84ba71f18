//! The leader is killed (SIGKILL) while clients place: how long until the next acknowledgement, and whether all that was acknowledged is
//! there afterwards, once each. The same for etcd, in turns.

use crate::{
    Common, etcd,
    etcd::Etcd,
    load::{median, quantile},
    nodes::{Fleet, Nodes, request},
    place::met,
    report::{Bar, Chart, Machine, Report, spread},
    wire::Wire,
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// How often each leader is killed.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Clients that place all the while.
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// A client gives up on a node after so long and asks the next one for the same again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Simulated hosts: more than all rounds fill.
const HOSTS: u32 = 1000;
/// Between two tries of one client: a node that is down refuses at once.
const PAUSE: Duration = Duration::from_millis(5);
/// A leader that did not come within this never will.
const HOPELESS: Duration = Duration::from_secs(60);
/// Under load before the kill.
const BEFORE: Duration = Duration::from_millis(700);

/// What was acknowledged: the name, with when it was sent and what was answered.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<BTreeMap<String, (Instant, String)>>>);

impl Book {
    fn note(&self, name: String, sent: Instant, answer: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (sent, answer));
    }

    /// The first that was sent after this, if any was acknowledged.
    fn sent_after(&self, begin: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().any(|(sent, _)| *sent > begin)
    }

    fn all(&self) -> BTreeMap<String, String> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(name, (_, answer))| (name.clone(), answer.clone())).collect()
    }
}

/// One that asks for names until told to stop: each until it is acknowledged, at whatever node.
trait Asker: Send + 'static {
    fn ask(&mut self, node: usize, name: &str) -> impl Future<Output = Result<String>> + Send;
    fn nodes(&self) -> usize;
}

async fn keep_asking<A: Asker>(mut asker: A, prefix: String, mut node: usize, book: Book, stop: CancellationToken) {
    for count in 0_u64.. {
        let name = format!("{prefix}-{count}");
        loop {
            if stop.is_cancelled() {
                return;
            }
            let sent = Instant::now();
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asker.ask(node, &name)).await {
                book.note(name, sent, answer);
                break;
            }
            node = (node + 1) % asker.nodes();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct PlimsollAsker(Vec<Wire>);

impl Asker for PlimsollAsker {
    async fn ask(&mut self, node: usize, name: &str) -> Result<String> {
        let mut body = request();
        body["session"] = name.into();
        let wire = &mut self.0[node];
        let answer =
            wire.call(Method::POST, "/v1/sandboxes:ensure", body.to_string().into(), &[("prefer", "respond-async")]);
        let answer = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer?,
            Err(late) => {
                wire.cut();
                return Err(late.into());
            }
        };
        Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
    }
    fn nodes(&self) -> usize {
        self.0.len()
    }
}

struct EtcdAsker {
    addresses: Vec<String>,
    senders: Vec<Option<h2::client::SendRequest<bytes::Bytes>>>,
}

impl Asker for EtcdAsker {
    async fn ask(&mut self, node: usize, name: &str) -> Result<String> {
        let sender = match self.senders[node].take() {
            Some(sender) => sender,
            None => etcd::connect(&self.addresses[node]).await?,
        };
        etcd::put(&sender, &etcd::key(name), &[b'x'; 256]).await?;
        self.senders[node] = Some(sender);
        Ok(String::new())
    }
    fn nodes(&self) -> usize {
        self.addresses.len()
    }
}

/// Loads, kills with `kill`, and waits for the first acknowledgement of what was sent afterwards: its time in seconds.
async fn round<A: Asker>(
    askers: Vec<A>,
    leader: usize,
    prefix: &str,
    book: &Book,
    kill: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let stop = CancellationToken::new();
    let tasks = askers.into_iter().enumerate().map(|(index, asker)| {
        tokio::spawn(keep_asking(asker, format!("{prefix}-{index}"), leader, book.clone(), stop.clone()))
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(BEFORE).await;
    let killed = Instant::now();
    kill()?;
    while !book.sent_after(killed) {
        ensure!(killed.elapsed() < HOPELESS, "nothing was acknowledged within {HOPELESS:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = killed.elapsed().as_secs_f64();
    // Some load on the new leader as well.
    tokio::time::sleep(BEFORE / 2).await;
    stop.cancel();
    for task in tasks {
        task.await?;
    }
    Ok(took)
}

/// What became of what was acknowledged.
struct Audit {
    acknowledged: usize,
    lost: usize,
    double: usize,
}

async fn audit_plimsoll(nodes: &Nodes, book: &BTreeMap<String, String>) -> Result<Audit> {
    let mut records: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut wire, mut after) = (nodes.wire(nodes.leader().await?), String::new());
    loop {
        let path = format!("/v1/sandboxes?limit=1000{after}");
        let page: Value = wire.call(Method::GET, &path, bytes::Bytes::new(), &[]).await?.json()?;
        for sandbox in page["items"].as_array().context("a page")? {
            let text = |field: &str| sandbox[field].as_str().unwrap_or_default().to_owned();
            records.entry(text("session")).or_default().insert(text("id"));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let lost = book.iter().filter(|(session, id)| !records.get(*session).is_some_and(|ids| ids.contains(*id))).count();
    let double = records.values().filter(|ids| ids.len() > 1).count();
    Ok(Audit { acknowledged: book.len(), lost, double })
}

/// Runs the experiment.
pub async fn run(args: &FailoverArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("failover")?;
    // Nothing is started: a new leader's own copy of the simulated hosts would not have what ran on the old one's.
    let fleet = Fleet { hosts: HOSTS, size: 1, creates: 0, mirror: false };
    let mut nodes = Nodes::start(&folder.path().join("nodes"), 3, fleet).await?;
    let mut etcd = Etcd::start(&folder.path().join("etcd"), 3).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (our_book, their_book) = (Book::default(), Book::default());
    for turn in 0..args.rounds {
        nodes.wait_all().await?;
        let leader = nodes.leader().await?;
        let askers =
            (0..args.clients).map(|_| PlimsollAsker((0..3).map(|index| nodes.wire(index)).collect())).collect();
        ours.push(round(askers, leader, &format!("r{turn}"), &our_book, || nodes.kill(leader)).await?);
        nodes.restart(leader)?;

        etcd.wait_all().await?;
        let leader = etcd.leader().await?;
        let addresses = etcd.addresses();
        let askers =
            (0..args.clients).map(|_| EtcdAsker { addresses: addresses.clone(), senders: vec![None, None, None] });
        theirs.push(round(askers.collect(), leader, &format!("r{turn}"), &their_book, || etcd.kill(leader)).await?);
        etcd.restart(leader)?;
        let last = (ours[turn], theirs[turn]);
        let _shown =
            writeln!(std::io::stderr(), "  round {}: plimsoll {:.2} s, etcd {:.2} s", turn + 1, last.0, last.1);
    }
    nodes.wait_all().await?;
    let audit = audit_plimsoll(&nodes, &our_book.all()).await?;
    let keys = etcd.keys().await?;
    let their = their_book.all();
    let their_lost = their.keys().filter(|name| !keys.contains(&etcd::key(name))).count();
    let row = |who: &str, times: &[f64], acknowledged: usize, lost: usize, double: &str| {
        let at = |q| format!("{:.2}", quantile(times, q));
        vec![
            who.to_owned(),
            times.len().to_string(),
            spread(times),
            at(0.9),
            acknowledged.to_string(),
            lost.to_string(),
            double.to_owned(),
        ]
    };
    let good = audit.lost == 0 && audit.double == 0;
    Ok(Report {
        name: "failover".into(),
        title: "from SIGKILL of the leader to the next acknowledgement".into(),
        machine,
        columns: ["system", "rounds", "seconds: median (least–most)", "p90", "acknowledged in all", "lost", "double"]
            .map(str::to_owned)
            .to_vec(),
        rows: vec![
            row("plimsoll, 3 nodes", &ours, audit.acknowledged, audit.lost, &audit.double.to_string()),
            row("etcd, 3 nodes", &theirs, their.len(), their_lost, "–"),
        ],
        notes: vec![
            format!("none lost, none double: {}", met(good)),
            format!("{:.2}× etcd's median", median(&ours) / median(&theirs)),
            format!(
                "{} clients in a closed loop, each asking the next node when one fails; the killed node is back before the next round",
                args.clients
            ),
            "simulated hosts; the sandboxes stay assigned: nothing is started".into(),
        ],
        chart: Chart {
            unit: "seconds until the next acknowledgement".into(),
            bars: vec![Bar::of("plimsoll", true, &ours), Bar::of("etcd", false, &theirs)],
        },
        raw: json!({ "plimsoll_s": ours, "etcd_s": theirs }),
    })
}
