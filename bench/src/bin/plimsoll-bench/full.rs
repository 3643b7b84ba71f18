//! Placing until the fleet is full and beyond: how fast it fills, how fast refusals come then, and what they say.

use crate::{
    Common,
    load::{self, Worker},
    nodes::{Fleet, Nodes, request},
    place::met,
    report::{Bar, Chart, Machine, Report, spread},
    wire::Wire,
};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What a simulated host takes of the small sandboxes: 64 vCPU of 0.1 each.
const EACH: u32 = 640;

/// How it is run.
#[derive(Clone, Debug, Args)]
pub struct FullArgs {
    /// Simulated hosts, each full with 640 of the small sandboxes that are asked for.
    #[arg(long, default_value_t = 10)]
    hosts: u32,
    /// Clients that fill it; as many ask in vain afterwards.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Measurements of refusals.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Every answer that was not a placement: its status, its code and its sentence.
type Answers = Arc<Mutex<BTreeSet<(u16, String, String)>>>;

struct Asker {
    wire: Wire,
    body: Bytes,
    answers: Answers,
}

impl Asker {
    /// Whether there was room.
    async fn ask(&mut self) -> Result<bool> {
        let answer =
            self.wire.call(Method::POST, "/v1/sandboxes", self.body.clone(), &[("prefer", "respond-async")]).await?;
        if (200..300).contains(&answer.status) {
            return Ok(true);
        }
        let said: Value = serde_json::from_slice(&answer.body)?;
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        if text("code") != "no_capacity" {
            bail!("HTTP {}: {said}", answer.status);
        }
        let answered = (answer.status, text("code"), text("detail"));
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(answered);
        Ok(false)
    }
}

impl Worker for Asker {
    async fn once(&mut self) -> Result<()> {
        ensure!(!self.ask().await?, "there was room all the same");
        Ok(())
    }
}

/// Runs the experiment.
pub async fn run(args: &FullArgs, common: &Common) -> Result<Report> {
    let machine = Machine::here();
    let folder = common.scratch("full")?;
    let fleet = Fleet { hosts: args.hosts, size: 1, creates: 16, mirror: true };
    let nodes = Nodes::start(&folder.path().join("one"), 1, fleet).await?;
    let (answers, body) = (Answers::default(), Bytes::from(request().to_string()));
    let asker = || Asker { wire: nodes.wire(0), body: body.clone(), answers: Arc::clone(&answers) };
    let began = Instant::now();
    let mut filling = JoinSet::new();
    for _ in 0..args.clients {
        let mut asker = asker();
        filling.spawn(async move {
            let mut placed = 0_u32;
            while asker.ask().await? {
                placed += 1;
            }
            anyhow::Ok(placed)
        });
    }
    let mut placed = 0;
    while let Some(ended) = filling.join_next().await {
        placed += ended??;
    }
    let rate = f64::from(placed) / began.elapsed().as_secs_f64();
    let (mut rates, mut p50, mut p99, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let time = Duration::from_secs_f64(args.seconds);
    for _ in 0..args.repeats {
        let askers = (0..args.clients).map(|_| asker()).collect();
        let (seen, _) = load::closed(askers, time / 5, time).await?;
        let _shown = writeln!(std::io::stderr(), "  refused: {:.0}/s, p99 {:.2} ms", seen.rate(), seen.ms(0.99));
        rates.push(seen.rate());
        p50.push(seen.ms(0.5));
        p99.push(seen.ms(0.99));
        failed += seen.failed;
    }
    let room = args.hosts * EACH;
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut notes = vec![
        format!("{placed} were placed where {room} fit: {}", met(placed == room)),
        format!("{} clients in a closed loop, one node, {} hosts; the sandboxes are started", args.clients, args.hosts),
    ];
    let shown = answers.iter().take(3).map(|(status, code, detail)| format!("answered: {status} `{code}`: {detail}"));
    notes.extend(shown);
    let filled = ["until full".into(), placed.to_string(), format!("{rate:.0}"), "–".into(), "–".into(), "0".into()];
    let refused = ["beyond".into(), "–".into(), spread(&rates), spread(&p50), spread(&p99), failed.to_string()];
    Ok(Report {
        name: "full".into(),
        title: "placing until the fleet is full, and beyond".into(),
        machine,
        columns: ["when", "placed", "answers per second", "p50 ms", "p99 ms", "failed"].map(str::to_owned).to_vec(),
        rows: vec![filled.to_vec(), refused.to_vec()],
        notes,
        chart: Chart {
            unit: "answers per second".into(),
            bars: vec![Bar::of("placed until full", true, &[rate]), Bar::of("refused beyond", true, &rates)],
        },
        raw: json!({ "placed": placed, "placed_per_second": rate, "refused_per_second": rates, "refused_p50_ms": p50,
            "refused_p99_ms": p99, "failed": failed }),
    })
}
