//! A real registry for the suites: Debian's `docker-registry` on the loopback, with its data in the lab's folder.

use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::{lab::Process, ports, wait::wait_for};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// It listens within milliseconds, on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that can be taken away and brought back.
#[derive(Debug)]
pub struct Registry {
    folder: PathBuf,
    port: u16,
    debug: u16,
    process: Option<Process>,
}

impl Registry {
    /// Starts one with an empty store below `folder`.
    ///
    /// # Errors
    /// When it does not come up: shows the end of its log.
    pub async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (port, debug) = (ports::free()?, ports::free()?);
        let mut registry = Self { folder: folder.to_path_buf(), port, debug, process: None };
        let settings = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": registry.data() }, "delete": { "enabled": true } },
            "http": {
                "addr": format!("127.0.0.1:{port}"),
                "debug": { "addr": format!("127.0.0.1:{debug}"), "prometheus": { "enabled": true } },
            },
        });
        std::fs::write(folder.join("config.yml"), settings.to_string())?;
        registry.bring_back().await?;
        Ok(registry)
    }

    /// Its URL, as the nodes reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where Prometheus scrapes it.
    #[must_use]
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.debug)
    }

    /// Where its blobs are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Ends it, as a crash would; its data stays.
    ///
    /// # Errors
    /// When it is not running.
    pub fn take_away(&mut self) -> Result<()> {
        self.process.take().context("the registry is not running")?.kill()?;
        Ok(())
    }

    /// Starts it again with the data it had.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn bring_back(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.folder.join("config.yml"));
        let process = Process::spawn("the registry", &command, self.folder.join("registry.log"))?;
        let address = format!("127.0.0.1:{}", self.port);
        let listens = wait_for("the registry to listen", PATIENCE, || async {
            let connected = tokio::net::TcpStream::connect(&address).await;
            ensure!(connected.is_ok(), "it does not listen on {address}");
            Ok(())
        });
        listens.await.with_context(|| process.log_tail(20))?;
        self.process = Some(process);
        Ok(())
    }
}
