//! Ports, logs, stats, deadlines, keys, metrics, and the SSH gateway.

use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{
    lab::{Process, generate_key},
    wait::wait_for,
};
use plimsoll_tests::{Cli, cli::binary};
use std::process::Command;

/// What `curl` prints.
pub async fn curl(args: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10"])
        .args(args)
        .output()
        .await?;
    ensure!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Published ports answer at their URLs; output is kept and followed; use is measured.
pub async fn ports_logs_and_stats(world: &mut World) -> Result<()> {
    let script = "mkdir -p /tmp/www && echo served > /tmp/www/index.html; echo begun; httpd -p 4096 -h /tmp/www; httpd -f -p 20000 -h /tmp/www";
    let id = world.create(&["--port", "4096", "--port", "20000", "--", "sh", "-c", script]).await?;
    let seen = world.cli().json(&["inspect", &id]).await?;
    for url in ["tunnel_url", "preview_url"] {
        let url = seen[url].as_str().with_context(|| format!("{url} in {seen}"))?.to_owned();
        wait_for(format!("{url} to answer"), PATIENCE, || async {
            let body = curl(&[&url]).await?;
            ensure!(body == "served", "{body}");
            anyhow::Ok(())
        })
        .await?;
    }
    ensure!(world.cli().run(&["logs", &id]).await?.contains("begun"), "its output is lost");
    let stats = world.cli().json(&["stats", &id]).await?;
    ensure!(stats["memory_limit"] == 64 << 20 && stats["pids"].as_u64().is_some_and(|pids| pids > 0), "{stats}");
    let events = world.cli().run(&["events"]).await?;
    ensure!(events.contains(&id) && events.contains("running"), "{events}");
    Ok(())
}

/// A sandbox ends at its deadline; one that was extended does not.
pub async fn deadlines(world: &mut World) -> Result<()> {
    let short = world.create(&["--lifetime", "4s"]).await?;
    let kept = world.create(&["--lifetime", "4s"]).await?;
    world.cli().run(&["extend", &kept, "1h"]).await?;
    wait_for("the short one to end", PATIENCE, || async {
        let seen = world.cli().json(&["inspect", &short]).await?;
        ensure!(seen["phase"] == "terminated" && seen["ended_at"].is_string(), "{seen}");
        anyhow::Ok(())
    })
    .await?;
    let seen = world.cli().json(&["inspect", &kept]).await?;
    ensure!(seen["phase"] == "running", "{seen}");
    Ok(())
}

/// A platform key sees its tenant only and cannot touch hosts; a revoked one opens nothing.
pub async fn keys_and_tenants(world: &mut World) -> Result<()> {
    let operator = world.cli();
    let made = operator.json(&["key", "create", "team", "--tenant", "blue"]).await?;
    let team = operator.with_key(made["secret"].as_str().context("a secret")?);
    let own = team.json(&["ensure", "same-session", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
    let others = operator.json(&["ensure", "same-session", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
    ensure!(own["id"] != others["id"], "two tenants share a sandbox");
    let foreign = others["id"].as_str().context("an id")?;
    let said = team.fails(3, &["inspect", foreign]).await?;
    ensure!(said.contains("sandbox_not_found"), "{said}");
    team.fails(3, &["exec", foreign, "true"]).await?;
    ensure!(team.json(&["ls"]).await?.as_array().is_some_and(|all| all.len() == 1), "it sees more than its own");
    team.fails(6, &["host", "cordon", world.lab.host(0).name()]).await?;
    let listed = operator.run(&["key", "list"]).await?;
    ensure!(!listed.contains(made["secret"].as_str().context("a secret")?), "a secret is listed");
    operator.run(&["key", "revoke", made["id"].as_str().context("an id")?]).await?;
    let said = team.fails(6, &["ls"]).await?;
    ensure!(said.contains("unauthorized"), "{said}");
    Ok(())
}

/// An operator sees the rules and changes them while the cluster runs; a node says which of its own settings they overrule.
pub async fn the_policy_is_shown_changed_and_rules(world: &mut World) -> Result<()> {
    let before = world.cli().json(&["cluster", "policy"]).await?;
    ensure!(before["cpu_overcommit_permille"] == 4000 && before["base_image"] == "plimsoll/lab:latest", "{before}");
    let changed =
        world.cli().json(&["cluster", "policy", "set", "cpu_overcommit_permille=3000", "queue_limit=77"]).await?;
    ensure!(changed["cpu_overcommit_permille"] == 3000 && changed["queue_limit"] == 77, "{changed}");
    ensure!(changed["base_image"] == before["base_image"], "another rule changed: {changed}");
    let said = world.cli().fails(2, &["cluster", "policy", "set", "queue_limt=5"]).await?;
    ensure!(said.contains("queue_limit"), "{said}");
    let said = world.cli().fails(2, &["cluster", "policy", "set", "cpu_overcommit_permille=1"]).await?;
    ensure!(said.contains("cpu_overcommit_permille"), "{said}");

    let follower = (world.cluster.leader().await? + 1) % 3;
    world.cluster.stop(follower).await?;
    let told = std::fs::read_to_string(world.cluster.log(follower))?.len();
    world.cluster.restart(follower)?;
    let warned = wait_for("a warning", PATIENCE, || async {
        let log = std::fs::read_to_string(world.cluster.log(follower))?;
        let new = log.get(told..).unwrap_or(&log).to_owned();
        ensure!(new.contains("cluster.cpu_overcommit means 4000 here"), "not yet: {new}");
        anyhow::Ok(new)
    })
    .await?;
    ensure!(warned.contains("says 3000 and rules"), "{warned}");
    ensure!(!warned.contains("cluster.queue_limit"), "it has no opinion on that: {warned}");
    // The command that it tells is the one that works.
    let (_, command) = warned.split_once("to change it: plimsoll ").context("a command")?;
    let command: Vec<&str> = command.lines().next().unwrap_or_default().split(' ').collect();
    world.cluster.wait_ready(follower).await?;
    world.cli().run(&command).await?;
    let default = before["queue_limit"].to_string();
    let after = world.cli().json(&["cluster", "policy", "set", &format!("queue_limit={default}")]).await?;
    ensure!(after["cpu_overcommit_permille"] == 4000 && after["queue_limit"] == before["queue_limit"], "{after}");
    Ok(())
}

/// Every node's metrics satisfy Prometheus's own checker.
pub async fn metrics_are_prometheus(world: &mut World) -> Result<()> {
    let _ = world.create(&[]).await?;
    for node in world.cluster.nodes() {
        let text = curl(&[&format!("{}/metrics", node.url)]).await?;
        for name in ["plimsoll_raft_term", "plimsoll_raft_applied_index", "plimsoll_http_requests_total"] {
            ensure!(text.contains(name), "{name} is missing on node {}", node.id);
        }
        let documented = include_str!("../../../docs/metrics.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            ensure!(documented.contains(&format!("`{name}`")), "docs/metrics.md does not know {name}");
        }
        let file = world.lab.folder().join("metrics.txt");
        std::fs::write(&file, format!("{text}\n"))?;
        let checked =
            Command::new("promtool").args(["check", "metrics"]).stdin(std::fs::File::open(&file)?).output()?;
        ensure!(
            checked.status.success() && checked.stderr.is_empty(),
            "promtool: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    let leader = world.cluster.leader().await?;
    let text = curl(&[&format!("{}/metrics", world.cluster.nodes()[leader].url)]).await?;
    for name in [
        "plimsoll_sandboxes",
        "plimsoll_placements_total",
        "plimsoll_placement_seconds",
        "plimsoll_host_operations_total",
    ] {
        ensure!(text.contains(name), "{name} is missing on the leader");
    }
    Ok(())
}

/// `ssh <sandbox>@gateway` with a listed key runs commands; with another key it does not.
pub async fn ssh_gateway(world: &mut World) -> Result<()> {
    let key = world.lab.folder().join("person");
    let stranger = world.lab.folder().join("somebody-else");
    for path in [&key, &stranger] {
        if !path.exists() {
            generate_key(path).await?;
        }
    }
    let public = key.with_extension("pub");
    let id = world.create(&["--ssh-key", public.to_str().context("a path")?]).await?;
    let port = world.gateway_port()?;
    let ssh = |key: &std::path::Path, line: &str| {
        let mut command = tokio::process::Command::new("ssh");
        command.args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]);
        command
            .args(["-o", "IdentitiesOnly=yes", "-p", &port.to_string(), "-i"])
            .arg(key)
            .arg(format!("{id}@127.0.0.1"))
            .arg(line);
        command.env_remove("SSH_AUTH_SOCK");
        command
    };
    let output = ssh(&key, "id -u; exit 5").output().await?;
    ensure!(output.status.code() == Some(5) && output.stdout == b"1000\n", "{output:?}");
    let output = ssh(&stranger, "true").output().await?;
    ensure!(output.status.code() == Some(255), "a stranger got in: {output:?}");
    Ok(())
}

/// The variables of the provider before this one are configuration enough for a cluster.
pub async fn the_old_variables_make_a_cluster(world: &mut World) -> Result<()> {
    let home = world.lab.folder().join("vps-home");
    std::fs::create_dir_all(&home)?;
    let free = || anyhow::Ok(format!("127.0.0.1:{}", plimsoll_testkit::ports::free()?));
    let (api, hosts) = (free()?, format!("{},{}", world.lab.host(0).address(), world.lab.host(1).address()));
    let mut command = Command::new(binary()?);
    command.arg("server").env_clear().env("HOME", &home).env("PLIMSOLL_DATA_DIR", home.join("data"));
    command.env("PLIMSOLL_API_LISTEN", &api).env("PLIMSOLL_RAFT_LISTEN", free()?);
    command
        .env("VPS_HOST", hosts)
        .env("VPS_SSH_USER", "root")
        .env("VPS_SSH_KEY", std::fs::read_to_string(world.lab.client_key())?);
    command.env("VPS_BASE_IMAGE", "plimsoll/lab:latest").env("VPS_DATA_VOLUME", "/var/shadow/old");
    let mut process = Process::spawn("plimsoll server", &command, home.join("server.log"))?;
    let cli =
        Cli::new(&[format!("http://{api}")], &saved_key(&home).await.with_context(|| process.log_tail(20))?, &home);
    wait_for("both hosts to be added", PATIENCE, || async {
        let hosts = cli.json(&["host", "list"]).await?;
        ensure!(hosts.as_array().is_some_and(|hosts| hosts.len() == 2), "{hosts}");
        anyhow::Ok(())
    })
    .await
    .with_context(|| process.log_tail(20))?;
    let made = cli.json(&["ensure", "old-ways", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
    let on = made["host"].as_str().context("a host")?;
    let host = world.lab.hosts().iter().find(|host| host.address().to_string() == on).context("one of ours")?;
    ensure!(host.docker(&["ps", "--format", "{{.Names}}"]).await?.contains("shadow-session-old-ways"), "not on {on}");
    host.sh(&["test", "-d", "/var/shadow/old/old-ways"]).await.context("VPS_DATA_VOLUME is not obeyed")?;
    cli.run(&["rm", made["id"].as_str().context("an id")?]).await?;
    process.signal(plimsoll_testkit::lab::Signal::Terminate)?;
    ensure!(process.wait(PATIENCE).await?.success(), "it does not stop well: {}", process.log_tail(20));
    let log = std::fs::read_to_string(home.join("server.log"))?;
    ensure!(!log.contains("PRIVATE KEY"), "the key is in the log");
    Ok(())
}

/// The key that a node saved for its user.
pub async fn saved_key(home: &std::path::Path) -> Result<String> {
    let saved = home.join(".config/plimsoll/cli.toml");
    wait_for("the key to be saved", PATIENCE, || async {
        let text = std::fs::read_to_string(&saved)?;
        let line = text.lines().find_map(|line| line.strip_prefix("key = \"")).context("no key in it")?;
        anyhow::Ok(line.trim_end_matches('"').to_owned())
    })
    .await
}
