//! A registry for `plimsoll dev` on the loopback, with its data beside the node's: Debian's `docker-registry`, or the same program from
//! the image `registry:2` where that is not installed. Everywhere else the registry is somebody else's, and only its URL is configured.

use crate::cli::print;
use anyhow::{Context as _, Result};
use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time,
};

/// What the program is called by Debian and by the project itself.
const NAMES: [&str; 2] = ["docker-registry", "registry"];
/// CNCF Distribution's own image.
const IMAGE: &str = "registry:2";
/// It listens within milliseconds, a container within seconds; after this it does not come.
const PATIENCE: Duration = Duration::from_secs(20);
/// A registry that is told to end drains first.
const GOODBYE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// It runs as long as somebody holds the other end of its input: however Plimsoll ends, the registry does too.
const WHILE_HELD: &str = r#""$@" & child=$!; cat > /dev/null; kill "$child"; wait "$child""#;

/// A registry that ends with its owner.
pub(super) struct LocalRegistry {
    address: SocketAddr,
    process: Child,
    held: ChildStdin,
}

impl LocalRegistry {
    /// Starts one on this address, from the program or else from the image on the Docker behind `socket`; none if neither can be had.
    ///
    /// # Errors
    /// When it can be had and does not come up.
    pub(super) async fn start(folder: &Path, address: SocketAddr, socket: &Path) -> Result<Option<Self>> {
        let data = folder.join("data");
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let file = folder.join("config.yml");
        let write = |settings: String| {
            std::fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))
        };
        let line = if let Some(program) = NAMES.iter().find_map(|name| in_path(name)) {
            write(settings(&data, &address.to_string()))?;
            vec![program.into(), "serve".into(), file.clone().into()]
        } else if let Some(docker) = with_image(socket).await {
            write(settings(Path::new("/var/lib/registry"), "0.0.0.0:5000"))?;
            container(docker, &data, &file, address)?
        } else {
            return Ok(None);
        };
        let log = folder.join("registry.log");
        let said = std::fs::File::create(&log).context("the registry's log")?;
        let mut process = Command::new("sh")
            .args(["-c", WHILE_HELD, "sh"])
            .args(line)
            .env("DOCKER_HOST", docker_host(socket))
            .stdin(Stdio::piped())
            .stdout(said.try_clone().context("the registry's log")?)
            .stderr(said)
            // Ctrl-C is for the node: it needs the registry until it has ended.
            .process_group(0)
            .spawn()
            .context("cannot start a registry")?;
        // Apart from the process, or waiting for that would let go of it.
        let held = process.stdin.take().context("the registry's input")?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = listens => Ok(Some(Self { address, process, held })),
            _ = process.wait() => anyhow::bail!("the registry ended at once; see {}", log.display()),
            () = time::sleep(PATIENCE) => anyhow::bail!("the registry does not listen on {address}; see {}", log.display()),
        }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells it to end and waits until it has.
    pub(super) async fn stop(self) {
        let Self { address, mut process, held } = self;
        drop(held);
        if time::timeout(GOODBYE, process.wait()).await.is_err() {
            tracing::warn!(%address, "the registry does not end");
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn docker_host(socket: &Path) -> OsString {
    let mut host = OsString::from("unix://");
    host.push(socket);
    host
}

/// The docker command line, if there is one and its daemon has the registry's image or gets it.
async fn with_image(socket: &Path) -> Option<PathBuf> {
    let docker = in_path("docker")?;
    let run = |args: [&'static str; 2]| {
        let mut command = Command::new(&docker);
        command.args(args).arg(IMAGE).env("DOCKER_HOST", docker_host(socket)).stdin(Stdio::null()).kill_on_drop(true);
        async move { command.output().await }
    };
    if run(["image", "inspect"]).await.is_ok_and(|said| said.status.success()) {
        return Some(docker);
    }
    print::note(&format!("docker-registry is not installed: fetching {IMAGE} instead"));
    match run(["pull", "--quiet"]).await {
        Ok(said) if said.status.success() => Some(docker),
        Ok(said) => {
            tracing::warn!(image = IMAGE, error = %String::from_utf8_lossy(&said.stderr).trim(), "the registry's image cannot be had");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the docker command line does not run");
            None
        }
    }
}

/// As the owner of the data, so that it can be deleted without root, and with no more of the machine than that folder and a loopback port.
fn container(docker: PathBuf, data: &Path, config: &Path, address: SocketAddr) -> Result<Vec<OsString>> {
    let owner = std::fs::metadata(data).with_context(|| format!("cannot look at {}", data.display()))?;
    let mount = |from: &Path, to: &str, how: &str| -> OsString {
        let mut mount = OsString::from("type=bind,source=");
        mount.push(from);
        mount.push(format!(",target={to}{how}"));
        mount
    };
    let mut line: Vec<OsString> = vec![docker.into(), "run".into()];
    line.extend(["--rm", "--read-only", "--cap-drop=ALL", "--name"].map(Into::into));
    line.push(format!("plimsoll-dev-registry-{}", address.port()).into());
    line.extend(["--user".into(), format!("{}:{}", owner.uid(), owner.gid()).into()]);
    line.extend(["--publish".into(), format!("{address}:5000").into()]);
    line.extend(["--mount".into(), mount(data, "/var/lib/registry", "")]);
    line.extend(["--mount".into(), mount(config, "/etc/docker/registry/config.yml", ",readonly")]);
    line.push(IMAGE.into());
    Ok(line)
}

/// JSON is YAML, and quotes every path.
fn settings(data: &Path, address: &str) -> String {
    serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": data }, "delete": { "enabled": true } },
        "http": { "addr": address },
    })
    .to_string()
}
