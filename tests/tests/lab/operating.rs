//! What operators watch and change while everything runs: events, `top`, costs, what a node logs.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::Process, wait::wait_for};
use plimsoll_tests::{Cli, cli::binary};
use serde_json::Value;
use std::{path::Path, process::Command};

/// Starts a command line that goes on by itself; what it prints goes to a file.
fn started(cli: &Cli, urls: &str, args: &[&str], log: &Path) -> Result<Process> {
    let mut command = Command::new(binary()?);
    command.args(args).env("PLIMSOLL_URL", urls).env("PLIMSOLL_KEY", cli.key());
    Process::spawn(args.join(" "), &command, log.to_path_buf())
}

/// The events among the lines of a file; other lines are what was told to a person.
fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn position(event: &Value) -> (u64, u64) {
    (event["index"].as_u64().unwrap_or_default(), event["seq"].as_u64().unwrap_or_default())
}

/// What is kept is listed and filtered; a follower whose node is killed goes on with another one, and nothing is missing or twice.
pub async fn events_are_listed_and_followed_past_a_dead_node(world: &mut World) -> Result<()> {
    let id = world.create(&[]).await?;
    let listed = events(&world.cli().run(&["--output", "json", "events", "--sandbox", &id]).await?);
    ensure!(!listed.is_empty() && listed.iter().all(|event| event["sandbox"] == id.as_str()), "{listed:?}");
    let (index, seq) = position(&listed[0]);
    let after = format!("{index}:{seq}");
    let later = world.cli().run(&["--output", "json", "events", "--sandbox", &id, "--after", &after]).await?;
    ensure!(events(&later) == listed[1..], "--after is not where it goes on");
    ensure!(world.cli().run(&["events", "--tenant", "nobody"]).await?.is_empty(), "another tenant's events");
    world.cli().fails(2, &["events", "--after", "yesterday"]).await?;

    let follower = (world.cluster.leader().await? + 1) % 3;
    let nodes = world.cluster.nodes();
    let urls = [&nodes[follower].url, &nodes[(follower + 1) % 3].url, &nodes[(follower + 2) % 3].url];
    let urls = urls.map(String::as_str).join(",");
    let log = world.lab.folder().join("events.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let from = listed.last().map(position).context("an event")?;
    let after = format!("{}-{}", from.0, from.1);
    let args = ["--output", "json", "events", "--follow", "--after", &after];
    let mut stream = started(world.cli(), &urls, &args, &log)?;
    let shows = |id: String, phase: &'static str| {
        let read = &read;
        wait_for(format!("{id} {phase} to be told"), PATIENCE, move || {
            let told = events(&read()).iter().any(|event| event["sandbox"] == id.as_str() && event["phase"] == phase);
            let said = read();
            async move {
                ensure!(told, "{said}");
                anyhow::Ok(())
            }
        })
    };
    let first = world.create(&[]).await?;
    shows(first, "running").await?;
    world.cluster.kill(follower)?;
    let second = world.create(&[]).await?;
    shows(second.clone(), "running").await?;
    ensure!(read().contains("going on from"), "it does not say that it had lost its node: {}", read());
    world.cluster.restart(follower)?;
    world.cluster.wait_ready(follower).await?;
    world.cli().run(&["rm", &second]).await?;
    shows(second, "terminated").await?;
    stream.kill()?;
    // Against one list made afterwards: the same, in the same order.
    let followed = events(&read());
    let all = events(&world.cli().run(&["--output", "json", "events", "--after", &after]).await?);
    ensure!(
        followed.len() <= all.len() && followed == all[..followed.len()],
        "events are missing, twice or out of order"
    );

    let kept = world.cli().json(&["cluster", "policy"]).await?["events_kept"].to_string();
    world.cli().run(&["cluster", "policy", "set", "events_kept=3"]).await?;
    let told = world.create(&[]).await;
    let listed = world.cli().run(&["--output", "json", "events"]).await;
    let gone = world.cli().fails(4, &["events", "--follow", "--after", &after]).await;
    world.cli().run(&["cluster", "policy", "set", &format!("events_kept={kept}")]).await?;
    let (_, listed, gone) = (told?, listed?, gone?);
    ensure!(events(&listed).len() == 3, "what is kept is not what is listed: {listed}");
    ensure!(gone.contains("gone for good") && gone.contains("plimsoll ls") && gone.contains("events_gone"), "{gone}");
    Ok(())
}

/// One picture where there is no terminal; a screen that leaves nothing behind where there is one.
pub async fn top_shows_load_lines(world: &mut World) -> Result<()> {
    let id = world.create(&["--cpu", "0.5", "--memory", "512M"]).await?;
    let on = world.cli().json(&["inspect", &id]).await?["host"].as_str().context("a host")?.to_owned();
    world.cli().run(&["host", "cordon", &on, "--reason", "looked at"]).await?;
    let shown = world.cli().run(&["top", "--once"]).await;
    let piped = world.cli().run(&["top"]).await;
    let seen = world.cli().json(&["top"]).await;
    let screen = world.cli().output_at_terminal(&["top", "--interval", "1s"], b"q").await;
    world.cli().run(&["host", "uncordon", &on]).await?;
    let (shown, piped, seen, screen) = (shown?, piped?, seen?, screen?);
    for text in [&shown, &piped] {
        let line = text.lines().find(|line| line.starts_with(&on)).with_context(|| text.clone())?;
        ensure!(line.contains("1 running") && line.contains("cordoned (looked at)") && line.contains('%'), "{line}");
        ensure!(
            text.contains("hosts: 3 ready") && text.contains("leads") && text.contains("0 wait for room"),
            "{text}"
        );
        ensure!(!text.contains('\x1b'), "a picture for programs has control sequences: {text:?}");
    }
    ensure!(seen["hosts"].as_array().is_some_and(|hosts| hosts.len() == 3), "{seen}");
    ensure!(seen["cluster"]["sandboxes"]["running"] == 1, "{seen}");
    let text = String::from_utf8_lossy(&screen.stdout);
    ensure!(screen.status.success(), "{screen:?}");
    ensure!(text.contains("\x1b[?1049h") && text.contains(&on), "nothing was drawn: {text:?}");
    ensure!(text.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "the screen is not put back: {text:?}");
    Ok(())
}

/// The largest part of the load line that a sandbox reserves is its part of the price; the rest is idle.
pub async fn costs_are_shared_by_what_is_reserved(world: &mut World) -> Result<()> {
    let id = world.create(&["--cpu", "0.5", "--memory", "64M"]).await?;
    let sandbox = world.cli().json(&["inspect", &id]).await?;
    let on = sandbox["host"].as_str().context("a host")?.to_owned();
    let cost = world.cli().json(&["cost", "--price-per-sandbox-hour", "0.60"]).await?;
    let host = cost["hosts"].as_array().into_iter().flatten().find(|host| host["host"] == on.as_str());
    let host = host.with_context(|| cost.to_string())?;
    // Two CPUs, of which each may be reserved four times: half a CPU is a sixteenth of the host.
    let record = world.cli().json(&["host", "inspect", &on]).await?;
    let cpus = record["line"]["cpu"].as_f64().context("a load line")?;
    ensure!((cpus - 8.0).abs() < f64::EPSILON, "the lab's hosts have another load line: {record}");
    ensure!(host["price_milli_per_hour"] == 32 && host["sandboxes"] == 1, "{cost}");
    ensure!(host["reserved_micro_per_hour"] == 2000 && host["idle_micro_per_hour"] == 30_000, "{cost}");
    ensure!(host["margin"]["left_permille"] == 946, "{cost}");
    ensure!(cost["sandboxes"][0]["sandbox"] == id.as_str(), "{cost}");
    ensure!(cost["sandboxes"][0]["cost_micro_per_hour"] == 2000, "{cost}");
    ensure!(cost["tenants"][0]["cost_micro_per_hour"] == 2000, "{cost}");
    ensure!(cost["total"]["idle_micro_per_hour"] == 94_000, "{cost}");
    let shown = world.cli().run(&["cost", "--price-per-sandbox-hour", "0.60"]).await?;
    ensure!(shown.contains("MARGIN AT 0.600") && shown.contains("94.6 %") && shown.contains("0.094"), "{shown}");
    world.cli().fails(2, &["cost", "--price-per-sandbox-hour", "0.6001"]).await?;
    let dearer = world.cli().run(&["host", "set", &on, "--price", "0.064"]).await;
    let told = world.cli().json(&["cost"]).await;
    let back = world.cli().run(&["host", "set", &on, "--price", "0.032"]).await;
    ensure!(dearer?.contains("0.064 an hour"), "it does not say the new price");
    ensure!(told?["sandboxes"][0]["cost_micro_per_hour"] == 4000, "the new price is not what counts");
    back?;
    let said = world.cli().run(&["--output", "json", "events"]).await?;
    ensure!(said.contains("price changed: 0.032 to 0.064 an hour"), "no event tells of the price");
    world.cli().fails(3, &["host", "set", "nobody", "--price", "1"]).await?;
    world.cli().fails(2, &["host", "set", &on, "--price", "-1"]).await?;
    Ok(())
}

/// One node says more while somebody looks, the others do not; libraries that would tell secrets stay silent.
pub async fn a_node_logs_what_it_is_told_to(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader().await?;
    let node = &world.cluster.nodes()[leader];
    let (cli, number) = (world.cli().at(&node.url), node.id);
    let other = world.cli().at(&world.cluster.nodes()[(leader + 1) % 3].url);
    let before = cli.json(&["logs-level"]).await?;
    let usual = before["filter"].as_str().context("a filter")?;
    ensure!(before["node"] == number && usual.contains("info"), "{before}");
    let log = || std::fs::read_to_string(world.cluster.log(leader)).unwrap_or_default();
    let told = log().len();
    let changed = cli.json(&["logs-level", "trace"]).await?;
    ensure!(changed["filter"] == "trace", "{changed}");
    let told_so = log();
    let secrets = world.lab.folder().join("secrets.env");
    std::fs::write(&secrets, "TOKEN=hunter2-in-the-log\n")?;
    let id = world.create(&["--secret-env-file", secrets.to_str().context("a path")?]).await;
    let typed = match &id {
        Ok(id) => cli.output(&["exec", "--env", "SECOND=hunter3-in-the-log", id, "sh", "-c", "echo $TOKEN"]).await,
        Err(_) => cli.output(&["logs-level"]).await,
    };
    let bad = cli.fails(2, &["logs-level", "plimsoll_engine=loud"]).await;
    let still = cli.json(&["logs-level"]).await;
    let others = other.json(&["logs-level"]).await;
    let back = cli.run(&["logs-level", usual]).await;
    id?;
    let (typed, bad, still, others) = (typed?, bad?, still?, others?);
    back?;
    ensure!(String::from_utf8_lossy(&typed.stdout).contains("hunter2-in-the-log"), "{typed:?}");
    ensure!(bad.contains("/filter") && bad.contains("loud") && bad.contains("invalid_request"), "{bad}");
    ensure!(still["filter"] == "trace" && others["filter"] == usual, "{still} {others}");
    ensure!(told_so.contains("the log filter was changed over the API"), "the log does not say why it changes");
    let all = log();
    let said = all.get(told..).unwrap_or(&all);
    // Raft alone says hundreds of things a second; a sandbox's few steps are said anyway.
    let details = said.lines().filter(|line| line.contains(" DEBUG ")).count();
    ensure!(details > 50, "it says no more than before: {details} lines");
    ensure!(!said.contains("hunter2") && !said.contains("hunter3"), "a secret is in the log of node {number}");

    let made = world.cli().json(&["key", "create", "team", "--tenant", "blue"]).await?;
    let team = world.cli().with_key(made["secret"].as_str().context("a secret")?);
    team.fails(6, &["logs-level", "trace"]).await?;
    world.cli().run(&["key", "revoke", made["id"].as_str().context("an id")?]).await?;
    Ok(())
}
