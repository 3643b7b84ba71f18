//! `plimsoll dev`: a whole cluster of one node on this machine's Docker, with nothing to configure.

use super::{found, node, registry::LocalRegistry};
use crate::{
    cli::{args::DevArgs, context, print},
    config::Config,
    telemetry,
};
use anyhow::{Context as _, Result, bail};
use plimsoll_types::HostAddress;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Runs until it is told to stop; the first time it also makes the cluster and saves its key for this user.
///
/// # Errors
/// When Docker's socket is not there, or the node cannot start.
pub async fn dev(args: &DevArgs) -> Result<()> {
    let mut config = Config::load(None, |name| std::env::var(name).ok())?;
    config.data_dir = Some(args.data_dir.clone().map_or_else(default_folder, Ok)?);
    config.api.listen = args.listen;
    config.api.metrics_public = true;
    // Alone, the node has no peers: any free port of the loopback will do.
    config.raft.listen = free_loopback().await?;
    config.raft.address = None;
    if let Some(image) = &args.base_image {
        config.cluster.base_image = Some(image.clone());
    }
    telemetry::install_logs(&config)?;
    let docker = std::path::absolute(&args.docker).context("--docker")?;
    if !docker.exists() {
        bail!("{} does not exist: is Docker running here? Name another socket with --docker", docker.display());
    }
    let folder = config.data_dir();
    let access = if found::is_empty(&folder) || found::is_unfinished(&folder) {
        found::found(&config).await?.access()
    } else {
        context::Saved { url: config.api_url(), key: kept_key(&folder)? }
    };
    // Not before: a folder that holds anything is no place to found a cluster in.
    let registry = local_registry(&mut config, &folder, &docker).await?;
    let saved = context::save(&access)?;
    let told = move || {
        print::note(&format!(
            "Plimsoll runs at {}; its key is saved in {}.\nTry, in another terminal:\n  plimsoll create --image debian:12\n  plimsoll ls",
            access.url,
            saved.display()
        ));
    };
    let extras = node::Extras { hosts: vec![HostAddress::Unix { path: docker }], ready: Some(Box::new(told)) };
    let ended = node::run(&config, extras).await;
    if let Some(registry) = registry {
        registry.stop().await;
    }
    telemetry::end().await;
    ended
}

/// Snapshots need a registry: the one that is configured, or one of its own.
async fn local_registry(config: &mut Config, folder: &Path, docker: &Path) -> Result<Option<LocalRegistry>> {
    if config.registry.url.is_some() {
        return Ok(None);
    }
    let started = LocalRegistry::start(&folder.join("registry"), free_loopback().await?, docker).await?;
    match &started {
        Some(registry) => config.registry.url = Some(registry.url()),
        None => tracing::warn!(
            "there is neither docker-registry nor the image registry:2, so nothing can be snapshot, paused or moved; install it \
             (Debian: apt install docker-registry), pull the image, or name a registry with PLIMSOLL_REGISTRY_URL"
        ),
    }
    Ok(started)
}

/// The operator's key that founding left beside the node's data.
fn kept_key(folder: &Path) -> Result<String> {
    let path = found::key_file(folder);
    let read = std::fs::read_to_string(&path);
    let text = read.with_context(|| {
        format!(
            "the key of the cluster in {} cannot be read from {}; put it back (a copy may be in {}), or begin anew in an \
             empty folder with --data-dir",
            folder.display(),
            path.display(),
            context::saved_file().map_or_else(|| "PLIMSOLL_KEY".into(), |path| path.display().to_string())
        )
    })?;
    Ok(text.trim().to_owned())
}

fn default_folder() -> Result<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    Ok(data.context("neither XDG_DATA_HOME nor HOME is set; pass --data-dir")?.join("plimsoll").join("dev"))
}

async fn free_loopback() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no free port on the loopback")?;
    listener.local_addr().context("the loopback gives no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_key_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = format!("{:#}", kept_key(folder.path()).expect_err("there is none"));
        assert!(
            error.contains("operator.key") && error.contains("put it back") && error.contains("--data-dir"),
            "{error}"
        );
    }
}
