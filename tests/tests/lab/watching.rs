//! A real Prometheus with the repository's scrape configuration and rules, and every query of the dashboard, while sandboxes come and go.

use crate::{
    outlive::inspect,
    world::{PATIENCE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;
use plimsoll_tests::{
    Prometheus,
    dashboard::{Dashboard, Query, filled},
    prometheus::Series,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Panels that a healthy cluster may leave empty, each with the reason. They must still be answered.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("Health", "shows only hosts that are not ready"),
    ("Failed tries to create", "no create failed"),
    ("Restores", "no host was lost"),
    ("Work lost per restore", "no host was lost"),
    ("Left on draining hosts", "no host drains; asked for again below, while one does"),
    ("Collected", "what may be collected is collected after minutes"),
    ("Operations that failed", "none did"),
    ("Polls that failed", "none did"),
    ("SSH connections tried and lost", "none was lost, so one of its two queries has nothing to show"),
    ("What reconciliation set right", "nothing was wrong"),
    ("Server errors by route", "there were none"),
    ("Writing a snapshot, p95", "raft writes one after thousands of entries"),
];
/// Panels that show a part of a whole.
const RATIOS: [&str; 3] =
    ["Memory: reserved, of the line", "CPU: reserved, of the line", "Disk: measured, of the line"];
/// Alerts that may wait for their time here, and why that is no fault.
const MAY_BE_PENDING: &[(&str, &str)] = &[
    ("PlimsollNoLeader", "Prometheus begins: it has scraped the followers and not yet the leader"),
    ("PlimsollNodeDown", "this test kills a node in the end"),
    ("PlimsollApiErrors", "a node that is being killed answers what it has taken with 503"),
    ("PlimsollRaftFlushSlow", "the disk is shared with whatever else this machine does"),
];

/// The dashboard's answers agree with the API's while sandboxes are made, paused, resumed, moved and removed; rules have values, no alert
/// fires, and a node that is killed is noticed.
pub async fn a_real_prometheus_answers_the_dashboard(world: &mut World) -> Result<()> {
    let made = world.cli().json(&["key", "create", "prometheus", "--role", "metrics"]).await?;
    let key = made["secret"].as_str().context("a secret")?.to_owned();
    let folder = world.lab.folder().join("prometheus");
    let prometheus = Prometheus::start(&folder, &world.cluster, &world.registry.metrics_address(), &key).await?;
    let watched = watch(world, &prometheus).await;
    prometheus.stop().await?;
    world.cli().run(&["key", "revoke", made["id"].as_str().context("an id")?]).await?;
    watched
}

async fn watch(world: &mut World, prometheus: &Prometheus) -> Result<()> {
    wait_for("Prometheus to reach every node and the registry", PATIENCE, || async {
        let targets = prometheus.data("/api/v1/targets", &[]).await?;
        let active = targets["activeTargets"].as_array().context("targets")?;
        ensure!(active.len() == 4 && active.iter().all(|target| target["health"] == "up"), "{targets}");
        anyhow::Ok(())
    })
    .await?;
    let dashboard = Dashboard::read()?;
    ensure!(dashboard.queries.len() > 70, "only {} queries were found", dashboard.queries.len());
    for (name, _) in MAY_BE_EMPTY {
        ensure!(dashboard.queries.iter().any(|query| query.title == *name), "no panel is called {name}");
    }
    ensure!(dashboard.choices(prometheus, "cluster").await? == ["main"], "the choices of $cluster");

    let created = r#"sum(plimsoll_placements_total{outcome="created"})"#;
    let before = prometheus.query(created).await?.first().map_or(0.0, |series| series.value);
    // A series begins with the first thing it counts, and has a rate from the second one on.
    for round in [1.0, 2.0] {
        world.clear().await?;
        come_and_go(world, prometheus, &dashboard).await?;
        equal(prometheus, created, before + 3.0 * round).await?;
    }

    every_panel_shows_something(prometheus, &dashboard).await?;
    hosts_are_as_the_api_says(world, prometheus, &dashboard).await?;
    rules_have_values(prometheus).await?;
    world.clear().await?;
    running(world, prometheus, &dashboard, 0).await?;
    a_drain_is_shown(world, prometheus, &dashboard).await?;
    a_dead_node_is_noticed(world, prometheus, &dashboard).await?;
    no_alert_fired(prometheus).await?;
    // What somebody keeps outlives its sandbox, and would the scenario too.
    for snapshot in world.cli().json(&["snapshot", "ls"]).await?.as_array().context("snapshots")? {
        if snapshot["kind"] == "kept" {
            world.cli().run(&["snapshot", "rm", snapshot["id"].as_str().context("an id")?]).await?;
        }
    }
    Ok(())
}

/// Three sandboxes are made, and what can be done to one is done; the panel follows.
async fn come_and_go(world: &World, prometheus: &Prometheus, dashboard: &Dashboard) -> Result<()> {
    let kept = world.create(&["--checkpoint-every", "1h", "--on-host-loss", "restore"]).await?;
    let away = world.create(&[]).await?;
    let moved = world.create(&[]).await?;
    running(world, prometheus, dashboard, 3).await?;
    world.cli().run(&["exec", &kept, "true"]).await?;
    world.cli().run(&["snapshot", "create", &kept]).await?;
    world.cli().run(&["pause", &away]).await?;
    running(world, prometheus, dashboard, 2).await?;
    world.cli().run(&["resume", &away]).await?;
    running(world, prometheus, dashboard, 3).await?;
    let on = inspect(world, &moved).await?["host"].clone();
    let other = world.lab.hosts().iter().find(|host| on != host.name()).context("another host")?;
    world.cli().run(&["migrate", &moved, "--to", other.name()]).await?;
    world.cli().run(&["rm", &away]).await?;
    running(world, prometheus, dashboard, 2).await
}

/// The query of a panel that has one, with all of everything chosen.
fn expr(dashboard: &Dashboard, title: &str) -> Result<String> {
    let query = dashboard.queries.iter().find(|query| query.title == title);
    filled(&query.with_context(|| format!("no panel is called {title}"))?.expr, &dashboard.all())
}

async fn equal(prometheus: &Prometheus, expr: &str, wanted: f64) -> Result<()> {
    wait_for(format!("{expr} to be {wanted}"), PATIENCE, || async {
        let seen = prometheus.number(expr).await?;
        ensure!((seen - wanted).abs() < 1e-9, "it is {seen}");
        anyhow::Ok(())
    })
    .await
}

/// The panel, the API and this test agree on how many run.
async fn running(world: &World, prometheus: &Prometheus, dashboard: &Dashboard, wanted: u32) -> Result<()> {
    let listed = world.sandboxes().await?.iter().filter(|sandbox| sandbox["phase"] == "running").count();
    ensure!(listed == wanted as usize, "the API lists {listed} running ones, not {wanted}");
    equal(prometheus, &expr(dashboard, "Running")?, f64::from(wanted)).await
}

/// Every query is answered; all but the named ones have a value, and no value is impossible.
async fn every_panel_shows_something(prometheus: &Prometheus, dashboard: &Dashboard) -> Result<()> {
    for (title, wanted) in
        [("Leader", 1.0), ("Nodes up", 3.0), ("Hosts ready", 3.0), ("Hosts missing", 0.0), ("Waiting for room", 0.0)]
    {
        equal(prometheus, &expr(dashboard, title)?, wanted).await?;
    }
    let all = dashboard.all();
    wait_for("every panel to show something", PATIENCE, || async {
        for query in &dashboard.queries {
            let found = prometheus.query(&filled(&query.expr, &all)?).await?;
            sensible(query, &found).with_context(|| format!("{}: {}: {}", query.row, query.title, query.expr))?;
        }
        anyhow::Ok(())
    })
    .await?;
    // One host chosen: nothing of another one is shown by any panel that asks for hosts.
    let hosts = dashboard.choices(prometheus, "host").await?;
    ensure!(hosts.len() == 3, "the choices of $host: {hosts:?}");
    let one = BTreeMap::from([("cluster".to_owned(), "main".to_owned()), ("host".to_owned(), hosts[1].clone())]);
    for query in dashboard.queries.iter().filter(|query| query.expr.contains("$host")) {
        let found = prometheus.query(&filled(&query.expr, &one)?).await?;
        let others = found
            .iter()
            .filter(|series| !series.labels["host"].is_null() && series.labels["host"] != hosts[1].as_str());
        ensure!(others.count() == 0, "{} shows other hosts than {}: {found:?}", query.title, hosts[1]);
    }
    Ok(())
}

fn sensible(query: &Query, found: &[Series]) -> Result<()> {
    // Of what did not happen within the window there is no average and no quantile: NaN, a gap in the panel.
    let values: Vec<f64> = found.iter().map(|series| series.value).filter(|value| !value.is_nan()).collect();
    let may_be_empty = MAY_BE_EMPTY.iter().any(|(title, _)| *title == query.title);
    ensure!(may_be_empty || !values.is_empty(), "it shows nothing");
    ensure!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "impossible values: {found:?}");
    if RATIOS.contains(&query.title.as_str()) {
        ensure!(values.iter().all(|value| *value <= 1.0), "more than the whole: {found:?}");
        ensure!(values.len() == 3, "not three hosts: {found:?}");
    }
    Ok(())
}

/// What is reserved and where the load line is, host by host, as the API says it.
async fn hosts_are_as_the_api_says(world: &World, prometheus: &Prometheus, dashboard: &Dashboard) -> Result<()> {
    let shown = expr(dashboard, "CPU: reserved, of the line")?;
    wait_for("the panels to agree with the API about each host", PATIENCE, || async {
        let found = prometheus.query(&shown).await?;
        for host in world.cli().json(&["host", "list"]).await?.as_array().context("hosts")? {
            let series = found.iter().find(|series| series.labels["host"] == host["name"]);
            let ratio = series.with_context(|| format!("no {} in {found:?}", host["name"]))?.value;
            let cpu = |part: &str| host[part]["cpu"].as_f64().with_context(|| format!("{part} of {host}"));
            let wanted = cpu("reserved")? / cpu("line")?;
            ensure!((ratio - wanted).abs() < 1e-6, "{} reserves {wanted}, shown is {ratio}", host["name"]);
        }
        anyhow::Ok(())
    })
    .await
}

async fn rules(prometheus: &Prometheus, kind: &str) -> Result<Vec<Value>> {
    let data = prometheus.data("/api/v1/rules", &[("type", kind)]).await?;
    let groups = data["groups"].as_array().context("groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    Ok(rules.collect())
}

/// Every recording rule is evaluated without an error and has a value; every alert is evaluated without an error.
async fn rules_have_values(prometheus: &Prometheus) -> Result<()> {
    wait_for("every rule to be evaluated", PATIENCE, || async {
        let (records, alerts) = (rules(prometheus, "record").await?, rules(prometheus, "alert").await?);
        ensure!(records.len() > 20 && alerts.len() > 30, "{} and {} rules", records.len(), alerts.len());
        let bad = records.iter().chain(&alerts).find(|rule| rule["health"] != "ok");
        ensure!(bad.is_none(), "{bad:?}");
        for record in &records {
            let name = record["name"].as_str().context("a name")?;
            let found = prometheus.query(name).await?;
            ensure!(found.iter().any(|series| !series.value.is_nan()), "{name} has no value");
        }
        anyhow::Ok(())
    })
    .await
}

/// While a host drains, its panel has a value, even when nothing is left there.
async fn a_drain_is_shown(world: &World, prometheus: &Prometheus, dashboard: &Dashboard) -> Result<()> {
    let name = world.lab.host(0).name();
    world.cli().run(&["host", "drain", name]).await?;
    let shown = equal(prometheus, &expr(dashboard, "Left on draining hosts")?, 0.0).await;
    world.cli().run(&["host", "undrain", name]).await?;
    shown
}

/// Two nodes are left, one of them leads, and the alert is on its way.
async fn a_dead_node_is_noticed(world: &mut World, prometheus: &Prometheus, dashboard: &Dashboard) -> Result<()> {
    let follower = (world.cluster.leader().await? + 1) % 3;
    let address = world.cluster.nodes()[follower].url.trim_start_matches("http://").to_owned();
    world.cluster.kill(follower)?;
    let noticed = async {
        equal(prometheus, &expr(dashboard, "Nodes up")?, 2.0).await?;
        equal(prometheus, &expr(dashboard, "Leader")?, 1.0).await?;
        let alert = format!(r#"count(ALERTS{{alertname="PlimsollNodeDown",instance="{address}"}})"#);
        equal(prometheus, &alert, 1.0).await
    };
    let noticed = noticed.await;
    world.cluster.restart(follower)?;
    world.cluster.wait_ready(follower).await?;
    noticed?;
    equal(prometheus, &expr(dashboard, "Nodes up")?, 3.0).await
}

/// Over all that happened nothing fired, and what was on its way is named above.
async fn no_alert_fired(prometheus: &Prometheus) -> Result<()> {
    let fired = prometheus.query(r#"count_over_time(ALERTS{alertstate="firing"}[1h])"#).await?;
    ensure!(fired.is_empty(), "alerts fired on a healthy cluster: {fired:?}");
    for series in prometheus.query(r#"count_over_time(ALERTS{alertstate="pending"}[1h])"#).await? {
        let known = MAY_BE_PENDING.iter().any(|(name, _)| series.labels["alertname"] == *name);
        ensure!(known, "an alert was on its way: {series:?}");
    }
    Ok(())
}
