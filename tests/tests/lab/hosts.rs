//! Adding hosts: what is asked, pinned, reported and refused.

use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::lab::generate_key;

/// All three hosts are added, each with its fingerprint.
pub async fn added(world: &mut World) -> Result<()> {
    for host in world.lab.hosts() {
        let (url, key) = (host.ssh_url(), host.host_key());
        // Without a confirmation, and without a terminal to ask at, nothing is added.
        let said = world.cli().fails(2, &["host", "add", host.name(), &url]).await?;
        ensure!(
            said.contains(&key.fingerprint) && said.contains("--fingerprint"),
            "it does not say what to do: {said}"
        );
        let wrong = format!("SHA256:{}", "A".repeat(43));
        let said = world.cli().fails(6, &["host", "add", host.name(), &url, "--fingerprint", &wrong]).await?;
        ensure!(said.contains(&key.fingerprint) && said.contains(&wrong), "both fingerprints should be shown: {said}");

        let publish = host.address().to_string();
        let shown = world
            .cli()
            .run(&[
                "host",
                "add",
                host.name(),
                &url,
                "--fingerprint",
                &key.fingerprint,
                "--publish",
                &publish,
                "--label",
                "lab=yes",
                "--price",
                "0.032",
            ])
            .await?;
        for fact in
            ["API", "vCPU", "inodes free", "clock skew", "base image", "yes", "runsc", "MaxSessions", "MaxStartups"]
        {
            ensure!(shown.contains(fact), "the report lacks {fact:?}: {shown}");
        }
    }
    let hosts = world.cli().json(&["host", "list"]).await?;
    ensure!(hosts.as_array().is_some_and(|hosts| hosts.len() == 3), "{hosts}");
    Ok(())
}

/// Every way in which a host is refused has its code.
pub async fn refused(world: &mut World) -> Result<()> {
    let (cli, host) = (world.cli(), world.lab.host(0));
    let (url, fingerprint) = (host.ssh_url(), host.host_key().fingerprint);
    let said = cli.fails(4, &["host", "add", "other", &url, "--fingerprint", &fingerprint]).await?;
    ensure!(said.contains("host_exists"), "{said}");

    // The same machine under a second address.
    let second = format!("10.99.{}.200", host.address().octets()[2]);
    let device = host.sh(&["sh", "-c", "ip -o -4 address show | awk '/ 10[.]99[.]/ { print $2; exit }'"]).await?;
    host.sh(&["ip", "address", "add", &format!("{second}/24"), "dev", &device]).await?;
    let said =
        cli.fails(4, &["host", "add", "twin", &format!("ssh://root@{second}"), "--fingerprint", &fingerprint]).await;
    host.sh(&["ip", "address", "del", &format!("{second}/24"), "dev", &device]).await?;
    ensure!(said.as_ref().is_ok_and(|said| said.contains("same_machine")), "{said:?}");

    let said = cli.fails(7, &["host", "check", "nobody", "ssh://root@127.0.0.1:1", "--accept-host-key"]).await?;
    ensure!(said.contains("ssh_unreachable"), "{said}");
    let stranger = world.lab.folder().join("stranger");
    generate_key(&stranger).await?;
    let identity = stranger.to_str().context("a path")?;
    let said =
        cli.fails(6, &["host", "check", "nobody", &url, "--identity", identity, "--fingerprint", &fingerprint]).await?;
    ensure!(said.contains("ssh_denied"), "{said}");

    host.stop_dockerd().await?;
    let said = cli.fails(7, &["host", "check", "nobody", &url, "--fingerprint", &fingerprint]).await;
    host.start_dockerd().await?;
    ensure!(said.as_ref().is_ok_and(|said| said.contains("docker_unreachable")), "{said:?}");

    for (name, address) in [("-x", url.as_str()), ("ok", "http://x"), ("ok", "ssh://host")] {
        ensure!(cli.output(&["host", "check", name, address]).await?.status.code() == Some(2), "{name} {address}");
    }
    cli.fails(3, &["host", "inspect", "nobody"]).await?;

    let id = world.create(&["--constraint", "lab=yes"]).await?;
    let on = cli.json(&["inspect", &id]).await?["host"].as_str().context("a host")?.to_owned();
    let said = cli.fails(4, &["host", "remove", &on]).await?;
    ensure!(said.contains("host_busy"), "{said}");
    cli.run(&["rm", &id]).await?;
    Ok(())
}
