//! `plimsoll dev` inside a host of the lab, as on a person's machine: its own file system, network and Docker.

use crate::{
    operations::saved_key,
    world::{PATIENCE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::LabHost, wait::wait_for};
use plimsoll_tests::{Cli, cli::binary};
use std::{path::PathBuf, sync::Arc};

/// A person's machine that has everything but Debian's package.
const WITHOUT_REGISTRY: &str = "mkdir -p {bin} && ln -sf /usr/sbin/* /usr/bin/* {bin}/ && rm {bin}/docker-registry";
/// What the registry's own image has: the program, configured by this file.
const IMAGE: &str = "mkdir -p {root}/bin && cp $(command -v docker-registry) {root}/bin/registry && \
    for lib in $(ldd {root}/bin/registry | grep -o '/[^ ]*'); do mkdir -p {root}${lib%/*} && cp $lib {root}$lib; done && \
    tar -C {root} -c . | docker import --change 'ENTRYPOINT [\"/bin/registry\", \"serve\"]' \
    --change 'CMD [\"/etc/docker/registry/config.yml\"]' - registry:2 && rm -r {root}";
/// How the container of a registry is called.
const CONTAINERS: &str = "name=plimsoll-dev-registry";

struct Dev {
    host: Arc<LabHost>,
    home: PathBuf,
    path: String,
}

impl Dev {
    fn new(world: &World, name: &str, path: &str) -> Result<Self> {
        let home = world.lab.folder().join(name);
        std::fs::create_dir_all(&home)?;
        // A host sees the lab's folder, not everybody's home.
        std::fs::copy(binary()?, home.join("plimsoll"))?;
        Ok(Self {
            host: Arc::clone(world.lab.host(2)),
            path: path.replace("{home}", &home.display().to_string()),
            home,
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("dev.log")).unwrap_or_default()
    }

    /// Starts it, and answers its pid and what talks to it.
    async fn start(&self) -> Result<(String, Cli)> {
        let line = format!(
            "HOME={home} PATH={path} /usr/bin/nohup {home}/plimsoll dev --listen 0.0.0.0:7070 --base-image plimsoll/lab:latest \
             > {home}/dev.log 2>&1 < /dev/null & echo $!",
            home = self.home.display(),
            path = self.path,
        );
        let pid = self.host.sh(&["sh", "-c", &line]).await?;
        let key = saved_key(&self.home).await.with_context(|| self.log())?;
        Ok((pid, Cli::new(&[format!("http://{}:7070", self.host.address())], &key, &self.home)))
    }

    /// Where its registry listens, as the file that configures it says.
    fn registry_port(&self) -> Result<String> {
        let file = self.home.join(".local/share/plimsoll/dev/registry/config.yml");
        let settings: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let address = settings["http"]["addr"].as_str().context("an address")?;
        Ok(address.rsplit(':').next().context("a port")?.to_owned())
    }

    async fn end(&self, pid: &str, signal: &str) -> Result<()> {
        self.host.sh(&["kill", signal, pid]).await?;
        wait_for("plimsoll dev to end", PATIENCE, || async {
            ensure!(self.host.sh(&["kill", "-0", pid]).await.is_err(), "it runs");
            anyhow::Ok(())
        })
        .await
        .with_context(|| self.log())
    }
}

/// What a cluster that ends at once has not collected yet would stay on the host for the scenarios after this one.
async fn tidy(dev: &Dev, world: &World) -> Result<()> {
    let status = world.cli().json(&["cluster", "status"]).await?;
    let ours = status["cluster"].as_str().context("a cluster")?;
    let images = dev.host.docker(&["images", "--format", "{{.ID}} {{.Repository}}", "plimsoll-snapshot/*"]).await?;
    for image in images.lines().filter(|image| !image.contains(ours)) {
        // By its id: with all the names that it has, that of the registry included.
        let id = image.split(' ').next().context("an id")?;
        dev.host.docker(&["rmi", "--force", id]).await?;
    }
    Ok(())
}

async fn made(cli: &Cli, dev: &Dev) -> Result<String> {
    let made = wait_for("a sandbox", PATIENCE, || async {
        cli.json(&["ensure", "dev-box", "--cpu", "0.1", "--memory", "64M", "--disk", "16M"]).await
    })
    .await
    .with_context(|| dev.log())?;
    Ok(made["id"].as_str().context("an id")?.to_owned())
}

/// One command gives a working cluster on one Docker, saves the key for the next commands, and has a registry that ends with it, even
/// if nobody is left to end it.
pub async fn needs_no_configuration(world: &mut World) -> Result<()> {
    let dev = Dev::new(world, "dev-home", "$PATH")?;
    let (pid, cli) = dev.start().await?;
    let id = made(&cli, &dev).await?;
    ensure!(cli.run(&["exec", &id, "sh", "-c", "echo hello | tee /workspace/hello"]).await? == "hello", "no exec");
    cli.run(&["pause", &id]).await.with_context(|| dev.log())?;
    ensure!(cli.run(&["exec", &id, "cat", "/workspace/hello"]).await? == "hello", "its file is not the same");
    cli.run(&["rm", &id]).await?;
    let listening = format!("ss -Hltn sport = :{}", dev.registry_port()?);
    ensure!(!dev.host.sh(&["sh", "-c", &listening]).await?.is_empty(), "its registry is not where its settings say");
    dev.end(&pid, "-KILL").await?;
    wait_for("its registry to end", PATIENCE, || async {
        let left = dev.host.sh(&["sh", "-c", &listening]).await?;
        ensure!(left.is_empty(), "{left}");
        anyhow::Ok(())
    })
    .await?;
    tidy(&dev, world).await
}

/// Where `docker-registry` is not installed its image does the same, keeps its data over a restart, and leaves no container behind.
pub async fn makes_do_with_the_registrys_image(world: &mut World) -> Result<()> {
    let dev = Dev::new(world, "dev-image", "{home}/bin")?;
    let prepare = WITHOUT_REGISTRY.replace("{bin}", &dev.path);
    dev.host.sh(&["sh", "-c", &prepare]).await?;
    let root = dev.home.join("root").display().to_string();
    dev.host.sh(&["sh", "-c", &IMAGE.replace("{root}", &root)]).await?;
    let (pid, cli) = dev.start().await?;
    let id = made(&cli, &dev).await?;
    cli.run(&["exec", &id, "sh", "-c", "echo hello > /workspace/hello"]).await?;
    cli.run(&["pause", &id]).await.with_context(|| dev.log())?;
    ensure!(!dev.host.docker(&["ps", "--quiet", "--filter", CONTAINERS]).await?.is_empty(), "not a container");
    dev.end(&pid, "-KILL").await?;
    no_container_left(&dev).await?;
    let (pid, cli) = dev.start().await?;
    let held =
        wait_for("it to come back", PATIENCE, || async { cli.run(&["exec", &id, "cat", "/workspace/hello"]).await })
            .await;
    ensure!(held.with_context(|| dev.log())? == "hello", "its file is not the same");
    cli.run(&["rm", &id]).await?;
    dev.end(&pid, "-TERM").await?;
    no_container_left(&dev).await?;
    dev.host.docker(&["rmi", "registry:2"]).await?;
    tidy(&dev, world).await
}

async fn no_container_left(dev: &Dev) -> Result<()> {
    wait_for("its registry's container to go", PATIENCE, || async {
        let left = dev.host.docker(&["ps", "--all", "--quiet", "--filter", CONTAINERS]).await?;
        ensure!(left.is_empty(), "{left}");
        anyhow::Ok(())
    })
    .await
}
