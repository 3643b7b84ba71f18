//! The HTTP API guide is a walk that is really gone: each command of `docs/api.md` against real nodes and hosts, each answer compared.

use crate::world::World;
use anyhow::{Context as _, Result, bail, ensure};
use plimsoll_tests::guide::{calls, matches, run, shown, with_answers};
use std::path::Path;

/// The guide's machines: addresses that are nobody's, for the lab's hosts in their order.
const ADDRESSES: [&str; 3] = ["203.0.113.5", "203.0.113.6", "203.0.113.7"];

/// What the guide shows is what a reader gets. `UPDATE=1` writes down what was answered instead.
pub async fn the_api_guide_is_true(world: &mut World) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(&page)?;
    let hosts = world.lab.hosts().iter().map(|host| host.address().to_string());
    let addresses: Vec<(&str, String)> = ADDRESSES.into_iter().zip(hosts).collect();
    let mut wanted = calls(&text);
    ensure!(wanted.len() > 30, "only {} commands were found", wanted.len());
    for (theirs, ours) in &addresses {
        wanted.iter_mut().for_each(|call| call.command = call.command.replace(theirs, ours));
    }
    // The guide adds the third host itself.
    let last = world.lab.host(2).name();
    world.cli().run(&["host", "remove", last]).await?;
    let leader = world.cluster.leader().await?;
    let env = [("PLIMSOLL_URL", world.cluster.nodes()[leader].url.as_str()), ("PLIMSOLL_KEY", world.cli().key())];
    let answered = run(&wanted, &world.lab.folder().join("guide"), &env).await;
    brought_back(world).await?;
    let mut answers = answered?;
    for (theirs, ours) in &addresses {
        answers.iter_mut().flatten().for_each(|line| *line = line.replace(ours, theirs));
    }
    let differ: Vec<usize> = (0..wanted.len()).filter(|&at| !matches(&wanted[at].answer, &answers[at])).collect();
    if std::env::var("UPDATE").as_deref() == Ok("1") {
        let keep = |at: usize| if differ.contains(&at) { shown(&answers[at]) } else { wanted[at].answer.clone() };
        let kept: Vec<Vec<String>> = (0..wanted.len()).map(keep).collect();
        return std::fs::write(&page, with_answers(&text, &kept)).context("docs/api.md");
    }
    let Some(&at) = differ.first() else { return Ok(()) };
    let (call, answer) = (&wanted[at], &answers[at]);
    bail!(
        "{} answers of docs/api.md are not what it shows (UPDATE=1 writes them down); the first is that of line {}\n$ {}\nshown:\n{}\nanswered:\n{}",
        differ.len(),
        call.line,
        call.command,
        call.answer.join("\n"),
        answer.join("\n")
    )
}

/// Whatever became of the walk, the scenarios after it have their third host.
async fn brought_back(world: &World) -> Result<()> {
    let host = world.lab.host(2);
    if world.cli().json(&["host", "inspect", host.name()]).await.is_ok() {
        return Ok(());
    }
    let (url, key, publish) = (host.ssh_url(), host.host_key().fingerprint, host.address().to_string());
    let add = ["host", "add", host.name(), &url, "--fingerprint", &key, "--publish", &publish, "--label", "lab=yes"];
    world.cli().run(&[&add[..], &["--price", "0.032"]].concat()).await.map(drop)
}
