//! What the nodes' logs tell: one request is found again in every layer that worked for it.

use crate::{
    operations::curl,
    world::{PATIENCE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use plimsoll_tests::Cluster;
use serde_json::Value;
use std::path::Path;

/// Two nodes of their own, which log as a collector wants it: the steps on hosts, and who was answered. Their names and folders on the host are
/// not those of the suite's cluster.
const SETTINGS: &str = "[cluster]\nbase_image = \"plimsoll/lab:latest\"\nname_prefix = \"told\"\nhost_data_dir = \"/var/shadow/told\"\ncpu_overcommit = 4.0\n\
    memory_pressure_max = 100\nio_pressure_max = 100\n[poll]\ninterval_ms = 1000\n\
    [log]\nformat = \"json\"\nlevel = \"info,plimsoll_api=debug,plimsoll_engine::leader::job=debug\"\n";
/// The caller's own id of its request.
const REQUEST: &str = "req-told.7";

/// A create that is sent to a node that does not lead: its request's id is in the log of that node and of the leader, whose line joins it to the
/// sandbox and the operation, and those two are in the line of each step on the host.
pub async fn a_request_is_found_in_every_layer(world: &mut World) -> Result<()> {
    let key = world.lab.client_key().display().to_string();
    let settings = format!("[ssh]\nidentity_file = {key:?}\n{SETTINGS}");
    let cluster = Cluster::start(&world.lab.folder().join("told"), 2, &settings).await?;
    let host = world.lab.host(0);
    let fingerprint = host.host_key().fingerprint;
    cluster.cli().run(&["host", "add", host.name(), &host.ssh_url(), "--fingerprint", &fingerprint]).await?;
    let leader = cluster.leader().await?;
    let asked = 1 - leader;

    let url = format!("{}/v1/placements", cluster.nodes()[asked].url);
    let authorization = format!("Authorization: Bearer {}", cluster.cli().key());
    let request = format!("X-Request-Id: {REQUEST}");
    let body = r#"{"session": "told", "cpu": 0.1, "memory": "64M", "disk": "16M"}"#;
    let headers = ["-H", &authorization, "-H", &request, "-H", "Content-Type: application/json"];
    let answered = curl(&[&headers[..], &["-d", body, &url]].concat()).await.with_context(|| cluster.logs())?;
    let made: Value = serde_json::from_str(&answered).with_context(|| answered.clone())?;
    let id = made["id"].as_str().with_context(|| answered.clone())?;
    ensure!(cluster.leader().await? == leader, "the leader changed meanwhile: {}", cluster.logs());

    let there = lines(&cluster.log(asked))?;
    let heard = there.iter().find(|line| line["message"] == "answered" && told(line, "request") == REQUEST);
    ensure!(heard.is_some_and(|line| line["status"] == 201), "not in the asked node's log: {}", cluster.logs());

    let lead = lines(&cluster.log(leader))?;
    let placed = lead.iter().find(|line| line["message"] == "placed" && told(line, "request") == REQUEST);
    let placed = placed.with_context(|| format!("not in the leader's log: {}", cluster.logs()))?;
    ensure!(placed["sandbox"] == id && placed["level"] == "INFO", "{placed}");
    let operation = placed["operation"].as_str().with_context(|| placed.to_string())?;

    for step in ["begins: create container", "begins: start container", "running"] {
        let of_it = |line: &&Value| told(line, "sandbox") == id && told(line, "operation") == operation;
        let says = |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with(step));
        ensure!(lead.iter().filter(of_it).any(|line| says(&line)), "no {step:?} of {operation}: {}", cluster.logs());
    }
    let label = format!("label=plimsoll.operation={operation}");
    let container = host.docker(&["ps", "--quiet", "--filter", &label]).await?;
    ensure!(container.lines().count() == 1, "its container does not have the operation's label: {container:?}");

    cluster.cli().run(&["rm", id]).await?;
    wait_for("nothing to be left of it", PATIENCE, || async {
        let left = host.docker(&["network", "ls", "--quiet", "--filter", "label=plimsoll.cluster"]).await?;
        let folders = host.sh(&["find", "/var/shadow/told", "-mindepth", "1", "-maxdepth", "1"]).await;
        ensure!(left.is_empty() && folders.as_ref().is_ok_and(String::is_empty), "{left} {folders:?}");
        anyhow::Ok(())
    })
    .await
}

/// A node's log; what is no JSON is no line of it.
fn lines(log: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What the spans around a line say of `field`: the innermost first, which is alone where the line names its span itself.
fn told<'a>(line: &'a Value, field: &str) -> &'a str {
    let around = line["spans"].as_array().map_or(&[][..], Vec::as_slice).iter().rev();
    std::iter::once(&line["span"]).chain(around).find_map(|span| span[field].as_str()).unwrap_or_default()
}
