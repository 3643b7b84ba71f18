//! What a sandbox may do, asked from inside it and of Docker itself; and creates that must fail with a clear code.

use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// No root, no capabilities, no new privileges, limits in force, no way to Docker or to other sandboxes.
pub async fn seen_from_inside(world: &mut World) -> Result<()> {
    let secrets = world.lab.folder().join("secrets.env");
    std::fs::write(&secrets, "# for the agent\nTOKEN=canary-7f3a\n")?;
    let id = world
        .create(&[
            "--memory",
            "64M",
            "--cpu",
            "0.5",
            "--session",
            "hard",
            "--secret-env-file",
            secrets.to_str().context("a path")?,
        ])
        .await?;
    let cli = world.cli();
    let inside = |script: &'static str| {
        let id = id.clone();
        async move { cli.run(&["exec", &id, "sh", "-c", script]).await }
    };
    ensure!(inside("id -u; id -g").await? == "1000\n1000", "not the user 1000");
    let status = inside("cat /proc/self/status").await?;
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure!(status.contains(line), "{line:?} is not in {status}");
    }
    ensure!(
        inside("ls /var/run/docker.sock /run/docker.sock 2>/dev/null | wc -l").await? == "0",
        "Docker's socket is inside"
    );
    ensure!(inside("cat /proc/1/comm").await?.contains("init"), "no init process");
    ensure!(
        inside("touch /workspace/mine && stat -c %u /workspace/mine").await? == "1000",
        "the workspace is not writable"
    );
    ensure!(inside("echo $TOKEN").await? == "canary-7f3a", "secret variables do not reach commands");

    // Docker's own view, on the host that runs it.
    let on = cli.json(&["inspect", &id]).await?["host"].as_str().context("a host")?.to_owned();
    let host = world.lab.hosts().iter().find(|host| host.name() == on).context("one of ours")?;
    let text = host.docker(&["inspect", "shadow-session-hard"]).await?;
    ensure!(!text.contains("canary-7f3a"), "a secret is in the container's configuration");
    let seen: Value = serde_json::from_str(&text)?;
    let config = &seen[0]["HostConfig"];
    ensure!(config["Memory"] == 64 << 20 && config["MemorySwap"] == 64 << 20, "memory or swap: {config}");
    ensure!(config["NanoCpus"] == 500_000_000 && config["PidsLimit"].as_u64().is_some_and(|pids| pids > 0), "{config}");
    ensure!(
        config["Privileged"] == false && config["CapDrop"].as_array().is_some_and(|dropped| !dropped.is_empty()),
        "{config}"
    );
    ensure!(config["LogConfig"]["Config"]["max-size"].is_string(), "logs are not limited: {config}");
    let mounts = seen[0]["Mounts"].as_array().context("mounts")?;
    let targets: Vec<&str> = mounts
        .iter()
        .filter(|mount| mount["Type"] != "tmpfs")
        .filter_map(|mount| mount["Destination"].as_str())
        .collect();
    ensure!(targets == ["/workspace"], "{targets:?}");
    ensure!(
        host.sh(&["ls", "/var/shadow/sandboxes/hard"]).await?.contains("mine"),
        "the workspace is not where operators look"
    );

    // Two sandboxes of one tenant on one host do not hear each other.
    let name = host.name();
    for label in [name] {
        cli.run(&["host", "label", label, "only=this"]).await?;
    }
    let other = world
        .create(&[
            "--constraint",
            "only=this",
            "--session",
            "neighbour",
            "--",
            "sh",
            "-c",
            "while :; do echo hi | nc -l -p 4096; done",
        ])
        .await?;
    let address = host
        .docker(&[
            "inspect",
            "--format",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            "shadow-session-neighbour",
        ])
        .await?;
    ensure!(!address.is_empty(), "{other} has no address");
    let out = cli.output(&["exec", &id, "nc", "-w", "2", &address, "4096"]).await?;
    ensure!(!String::from_utf8_lossy(&out.stdout).contains("hi"), "sandboxes can talk to each other");
    cli.run(&["host", "label", name, "only-"]).await?;
    // The secret is in no node's files and no log.
    for index in 0..3 {
        let found = std::process::Command::new("grep")
            .args(["-rl", "canary-7f3a"])
            .arg(world.cluster.data_dir(index).parent().context("a folder")?)
            .output()?;
        ensure!(found.stdout.is_empty(), "the secret is in {}", String::from_utf8_lossy(&found.stdout));
    }
    Ok(())
}

/// An unknown image, a main process that ends at once, a foreign container with our name, a full host.
pub async fn bad_images_and_clashes(world: &mut World) -> Result<()> {
    let cli = world.cli();
    let out = cli
        .output(&["create", "--image", "plimsoll/no-such-image:1", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"])
        .await?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(
        !out.status.success() && (said.contains("image_not_found") || said.contains("image_pull_failed")),
        "{out:?}"
    );
    let out = cli
        .output(&[
            "create",
            "--cpu",
            "0.1",
            "--memory",
            "64M",
            "--disk",
            "16M",
            "--",
            "sh",
            "-c",
            "echo last words; exit 3",
        ])
        .await?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(!out.status.success() && said.contains("start_failed") && said.contains("last words"), "{out:?}");
    for bad in [
        &["--image", "Not An Image"][..],
        &["--env", "1X=y"],
        &["--label", "nolabel"],
        &["--session", "a/b"],
        &["--cpu", "x"],
        &["--port", "0"],
    ] {
        let out = cli.output(&[&["create"], bad].concat()).await?;
        ensure!(out.status.code() == Some(2), "{bad:?}: {out:?}");
    }
    // The name is taken on every host by a container that is not ours: it is left alone.
    for host in world.lab.hosts() {
        host.docker(&["create", "--name", "shadow-session-taken", "plimsoll/lab:latest"]).await?;
    }
    let out = cli.output(&["create", "--session", "taken", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let mut foreign = Vec::new();
    for host in world.lab.hosts() {
        foreign.push(host.docker(&["rm", "shadow-session-taken"]).await.is_ok());
    }
    ensure!(!out.status.success() && said.contains("name_clash"), "{out:?}");
    ensure!(foreign.iter().all(|there| *there), "a foreign container was touched: {foreign:?}");
    Ok(())
}
