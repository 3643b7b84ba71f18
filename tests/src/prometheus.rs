//! A real Prometheus (Debian's) with the repository's own scrape configuration and rules, scraping a cluster of the suites.

use crate::Cluster;
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{
    lab::{Process, Signal},
    ports,
    wait::wait_for,
};
use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};

/// It opens its store and listens within a second or two, on a quiet machine; it ends within as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stands in `deploy/prometheus` for a fleet of its own, and is somebody else's here.
const NODES: &str = r#"["10.0.0.1:7070", "10.0.0.2:7070", "10.0.0.3:7070"]"#;
const REGISTRY: &str = r#"["127.0.0.1:5001"]"#;
const KEY_FILE: &str = "/etc/prometheus/plimsoll.key";

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    process: Process,
}

/// One series of an answer: its labels and its value.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: Value,
    /// Its value; NaN where nothing happened that could be divided.
    pub value: f64,
}

impl Prometheus {
    /// Starts one below `folder` that scrapes and evaluates once a second; `key` is one of role `metrics`.
    ///
    /// # Errors
    /// When the repository's files are not what is expected here, or it does not come up: shows the end of its log.
    pub async fn start(folder: &Path, cluster: &Cluster, registry: &str, key: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
        for rules in ["recording.yml", "alerts.yml"] {
            std::fs::copy(deploy.join(rules), folder.join(rules)).with_context(|| rules.to_owned())?;
        }
        let key_file = folder.join("plimsoll.key");
        std::fs::write(&key_file, key)?;
        let nodes: Vec<&str> = cluster.nodes().iter().map(|node| node.url.trim_start_matches("http://")).collect();
        let mut config = std::fs::read_to_string(deploy.join("prometheus.yml"))?;
        for (shipped, here) in [
            (NODES, format!("{nodes:?}")),
            (REGISTRY, format!("{:?}", [registry])),
            (KEY_FILE, key_file.display().to_string()),
            ("scrape_interval: 15s", "scrape_interval: 1s".into()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".into()),
        ] {
            ensure!(config.contains(shipped), "deploy/prometheus/prometheus.yml has no {shipped}");
            config = config.replace(shipped, &here);
        }
        std::fs::write(folder.join("prometheus.yml"), config)?;
        let address = format!("127.0.0.1:{}", ports::free()?);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let process = Process::spawn("Prometheus", &command, folder.join("prometheus.log"))?;
        let prometheus = Self { url: format!("http://{address}"), process };
        let ready = wait_for("Prometheus to be ready", PATIENCE, || async {
            let text = prometheus.get("/-/ready", &[]).await?;
            ensure!(text.contains("Ready"), "it says {text}");
            anyhow::Ok(())
        });
        ready.await.with_context(|| prometheus.process.log_tail(20))?;
        Ok(prometheus)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::Terminate)?;
        self.process.wait(PATIENCE).await.map(drop)
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Result<String> {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--get"]).kill_on_drop(true);
        for (name, value) in fields {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let output = command.arg(format!("{}{path}", self.url)).output().await.context("curl")?;
        ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What its API answers under `data`.
    ///
    /// # Errors
    /// When it refuses the request: shows its reason.
    pub async fn data(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        let text = self.get(path, fields).await?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["status"] == "success", "{path} {fields:?}: {text}");
        Ok(answer["data"].take())
    }

    /// The values of an expression now.
    ///
    /// # Errors
    /// When it is no expression, or its answer is no vector.
    pub async fn query(&self, expr: &str) -> Result<Vec<Series>> {
        let data = self.data("/api/v1/query", &[("query", expr)]).await?;
        let found = data["result"].as_array().with_context(|| format!("{expr}: {data}"))?;
        let series = found.iter().map(|one| {
            let value = one["value"][1].as_str().and_then(|text| text.parse().ok());
            Ok(Series { labels: one["metric"].clone(), value: value.with_context(|| one.to_string())? })
        });
        series.collect()
    }

    /// The value of an expression that has one.
    ///
    /// # Errors
    /// When it has none or several.
    pub async fn number(&self, expr: &str) -> Result<f64> {
        let found = self.query(expr).await?;
        ensure!(found.len() == 1, "{expr} has {} values: {found:?}", found.len());
        Ok(found[0].value)
    }
}
