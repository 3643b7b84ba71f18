//! What the demonstration plays on: the lab, the nodes, a clock, and how lines are shown.

use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::lab::{Lab, LabOptions};
use plimsoll_tests::{Cli, Cluster, Registry};
use std::{path::PathBuf, time::Instant};

/// The lab's hosts share this machine's few CPUs and none of its sandboxes works hard: the line is raised so that a dozen fit,
/// and the machine's pressure, which is nobody's in particular, refuses none.
const SETTINGS: &str = "[cluster]\nbase_image = \"plimsoll/lab:latest\"\ncpu_overcommit = 4.0\nmemory_pressure_max = 100\nio_pressure_max = 100\n[poll]\ninterval_ms = 1000\nunreachable_after_ms = 4000\nlost_after_ms = 8000\n";

/// The lab, the nodes and the clock.
pub struct Stage {
    pub lab: Lab,
    pub cluster: Cluster,
    registry: Registry,
    begun: Instant,
    logs: PathBuf,
}

impl Stage {
    /// Starts three hosts and three nodes.
    pub async fn build(logs: PathBuf) -> Result<Self> {
        let begun = Instant::now();
        title("Three Docker hosts, each with its own sshd and dockerd, in network namespaces of this machine");
        let options = LabOptions { logs: Some(logs.join("hosts")), ..LabOptions::default() };
        let lab = Lab::start(options).await.context("the lab did not start")?;
        for host in lab.hosts() {
            println!("  {}  {}  {}", host.name(), host.ssh_url(), host.host_key().fingerprint);
        }
        println!("  ready after {:.1} s; nothing of Plimsoll is installed on them", begun.elapsed().as_secs_f64());
        title("A control plane of three nodes");
        let registry = Registry::start(&logs.join("registry")).await.context("the registry did not start")?;
        let settings = format!(
            "[registry]\nurl = {:?}\n[ssh]\nidentity_file = {:?}\n{SETTINGS}",
            registry.url(),
            lab.client_key().display().to_string()
        );
        let nodes = Instant::now();
        println!(
            "$ plimsoll init && plimsoll server\n$ plimsoll cluster token\n$ plimsoll join … && plimsoll server    # on two more machines"
        );
        let cluster = Cluster::start(&logs.join("nodes"), 3, &settings).await.context("the nodes did not start")?;
        let stage = Self { lab, cluster, registry, begun, logs };
        stage.show(&["cluster", "status"]).await?;
        println!("  three voters after {:.1} s", nodes.elapsed().as_secs_f64());
        Ok(stage)
    }

    /// The command line, trying every node.
    pub fn cli(&self) -> &Cli {
        self.cluster.cli()
    }

    /// Runs a command in front of the audience.
    pub async fn show(&self, args: &[&str]) -> Result<String> {
        println!("$ plimsoll {}", shown(args));
        let said = self.cli().run(args).await?;
        for line in said.lines() {
            println!("  {line}");
        }
        Ok(said)
    }

    /// Runs a command that must be refused, in front of the audience.
    pub async fn show_refusal(&self, code: i32, args: &[&str]) -> Result<String> {
        println!("$ plimsoll {}", shown(args));
        let said = self.cli().fails(code, args).await?;
        println!("  {said}\n  (exit code {code})");
        Ok(said)
    }

    /// Ends everything; nothing may be left.
    pub async fn strike(self) -> Result<()> {
        title("Clean-up");
        drop((self.cluster, self.registry));
        self.lab.stop().await.context("the lab left something behind")?;
        ensure!(self.logs.exists(), "the logs vanished while they were written");
        println!("  hosts, nodes, bridge and namespaces are gone");
        println!("\nAll of it happened, in {:.0} s.", self.begun.elapsed().as_secs_f64());
        Ok(())
    }
}

/// A heading.
pub fn title(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
}

/// A command line as a person would type it.
fn shown(args: &[&str]) -> String {
    let quoted = args
        .iter()
        .map(|arg| if arg.contains([' ', '$', ';', '>', '*']) { format!("'{arg}'") } else { (*arg).to_owned() });
    quoted.collect::<Vec<_>>().join(" ")
}
