//! A registry for `plimsoll dev`: Debian's `docker-registry` as a child process on the loopback, with its data beside the node's.
//! Everywhere else the registry is somebody else's, and only its URL is configured.

use anyhow::{Context as _, Result};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time,
};

/// What the program is called by Debian and by the project itself.
const NAMES: [&str; 2] = ["docker-registry", "registry"];
/// It listens within milliseconds; after this it does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A registry that ends with its owner.
pub(super) struct LocalRegistry {
    address: SocketAddr,
    _process: Child,
}

impl LocalRegistry {
    /// Starts one, if the program is installed.
    ///
    /// # Errors
    /// When it is there and does not come up.
    pub(super) async fn start(folder: &Path, address: SocketAddr) -> Result<Option<Self>> {
        let Some(program) = NAMES.iter().find_map(|name| in_path(name)) else { return Ok(None) };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join("config.yml");
        std::fs::write(&file, settings(&folder.join("data"), address))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let log = std::fs::File::create(folder.join("registry.log")).context("the registry's log")?;
        let child = Command::new(&program)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the registry's log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                time::sleep(LOOK).await;
            }
        };
        let log = folder.join("registry.log");
        time::timeout(PATIENCE, listens)
            .await
            .with_context(|| format!("the registry does not listen on {address}; see {}", log.display()))?;
        Ok(Some(Self { address, _process: child }))
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// JSON is YAML, and quotes every path.
fn settings(data: &Path, address: SocketAddr) -> String {
    serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": data }, "delete": { "enabled": true } },
        "http": { "addr": address.to_string() },
    })
    .to_string()
}
